"""What verbs print of a run or of an audit: one object for machines, sentences and a table for
people.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from studio.hardware import Monitor
from studio.headless import POLL_EVERY_S, Headless
from studio.planning import (
    gigabytes,
    gpu_bytes,
    hungriest,
    more,
    parts_of,
    plan_fields,
    plan_pipeline,
    summary,
)
from studio.records import JobRow
from studio.terminal import Terminal, refusal_fields
from workers.protocol.audit import AuditFinding, AuditResult
from workers.protocol.cards import WAITING
from workers.protocol.mapping import Proposal
from workers.protocol.pipeline import Pipeline

SHOWN_GROUPS = 10
"""Reasons of bad lines that are written out."""
BAR_WIDTH = 32
ANSWERS_WITHIN_S = 10.0
"""How long a card may take to tell of itself."""
REASONS = ("template_refuses",)
"""Findings whose examples say why."""


def print_run(headless: Headless, row: JobRow, before: Sequence[JobRow] = ()) -> None:
    story = headless.story(row)
    if before:
        story["stages"] = [headless.story(one) for one in before]
    headless.terminal.result(story | failure_fields(row))
    so_far = f" after {row.steps} steps" if row.steps or not row.waits else ""
    headless.terminal.table(
        f"{row.name}: {status_in_words(story)}{so_far}",
        ["Metric", "First", "Last"],
        [[n, number(story["first"].get(n)), number(v)] for n, v in story["last"].items()],
    )
    for change in story["changes"]:
        said = (f"{path} {was} → {now}" for path, (was, now) in change["settings"].items())
        headless.terminal.say(f"From step {change['step']} on: {', '.join(said)}")
    if row.cause:
        headless.terminal.say(f"{row.cause} {row.remedy}")
    for way in story["less_memory"]:
        command = resume_command(row, way["settings"])
        if command not in row.remedy:
            headless.terminal.say(f"{way['words']}\n  {command}")


def resume_command(row: JobRow, settings: dict[str, Any]) -> str:
    """What makes a run go on with other settings."""
    changes = (f"--set {path}={_as_in_a_file(value)}" for path, value in settings.items())
    return f"python -m studio resume {row.id} {' '.join(changes)}"


def _as_in_a_file(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def print_audit(terminal: Terminal, result: AuditResult) -> None:
    terminal.say(f"{result.counted}: {result.format or 'none usable'}. "
                 f"They can serve {', '.join(result.stages) or 'no stage'}.")  # fmt: skip
    for group in result.bad_groups[:SHOWN_GROUPS]:
        terminal.say(f"{group.words[:1].upper()}{group.words[1:]}")
    if len(result.bad_groups) > SHOWN_GROUPS:
        listed = (
            "them all" if result.unusable == len(result.bad) else f"the first {len(result.bad)}"
        )
        told = sum(group.count for group in result.bad_groups[:SHOWN_GROUPS])
        terminal.say(f"and {result.unusable - told} more bad lines; --json lists {listed}")
    if result.proposal is not None:
        print_proposal(terminal, result.proposal)
    if result.tokens is not None:
        share = result.trained_token_share
        in_loss = "" if share is None else f", {share:.0%} of them in the loss"
        at = result.tokens.percentiles
        terminal.say(f"{result.tokens.total:,} tokens{in_loss}; half of the rows have up to "
                     f"{at['p50']}, 95 % up to {at['p95']}, all up to {at['p100']}.")  # fmt: skip
    for found in result.template_findings:
        where = f"line {found.line}" if found.line else "template"
        terminal.say(f"{found.level}, {where}: {found.text} {found.remedy}".rstrip())
    if not result.findings:
        if result.rows:
            terminal.say("No findings.")
        return
    terminal.table(
        f"Findings: {len(result.findings)}",
        ["Level", "Rows", "What", "What to do"],
        [[one.level, f"{one.count} ({one.share:.1%})", _where(one), one.remedy]
         for one in result.findings],
    )  # fmt: skip


def print_proposal(terminal: Terminal, proposal: Proposal) -> None:
    """The likeliest mapping, why, three rows read so, and the options that take it."""
    terminal.say(proposal.words)
    columns = list(proposal.mapping.values())
    terminal.table(
        "The first rows would be",
        columns,
        [[example.get(column, "") for column in columns] for example in proposal.examples],
    )
    terminal.say(f"To take it, add: {proposal.options}")


def print_plans(headless: Headless, pipeline: Pipeline, gpu: str) -> None:
    """What every stage takes on the named card, and of the hungriest the parts and what would make
    it fit."""
    terminal = headless.terminal
    card, name = (gpu_bytes(gpu), "") if gpu else own_card(headless)
    plans = plan_pipeline(pipeline, headless.jobs.root_of, card, headless.simulate)
    terminal.result(plan_fields(plans))
    if len(plans) > 1:
        terminal.table(
            "Stages", ["Stage", "Needs", "Micro-batch"],
            [[one.name, f"{gigabytes(one.low_bytes)} to {gigabytes(one.high_bytes)}",
              f"{one.micro} x {one.accumulation}"] for one in plans],
        )  # fmt: skip
    most = hungriest(plans)
    terminal.table(
        f"{most.name}: GPU memory at its peak", ["Part", "Takes", ""],
        [[title, gigabytes(size), "█" * round(BAR_WIDTH * size / most.total_bytes)]
         for title, size in parts_of(most)],
    )  # fmt: skip
    terminal.say(summary(most, name))
    for suggestion in most.suggestions:
        terminal.say(f"{suggestion.words}: {gigabytes(suggestion.high_bytes)} at most.")
    if told := more(most):
        terminal.say(told)


def own_card(headless: Headless) -> tuple[int | None, str]:
    """Memory and name of this machine's freest card; None where it has none, or none answers."""
    with contextlib.closing(Monitor(headless.jobs)) as monitor:
        monitor.tick()
        ends = time.monotonic() + ANSWERS_WITHIN_S
        while not (monitor.cards or monitor.reason) and time.monotonic() < ends:
            headless.poll()
            time.sleep(POLL_EVERY_S)
        card = monitor.freest_card
    return (card.memory_bytes, card.name) if card else (None, "")


def _where(finding: AuditFinding) -> str:
    """What was found, and in which rows; with the examples' words where they are the reason."""
    rows = ", ".join(str(example.row) for example in finding.examples)
    told = f"{finding.meaning} Rows {rows}." if rows else finding.meaning
    if finding.kind not in REASONS:
        return told
    return " ".join((told, *dict.fromkeys(example.text for example in finding.examples)))


def failure_fields(row: JobRow) -> dict[str, str]:
    if row.status != "failed":
        return {}
    return refusal_fields(row.cause, row.cause, row.remedy)


def status_in_words(story: dict[str, Any]) -> str:
    """A run's status, or that it waits and for whom."""
    waits = story["phase"].startswith(WAITING)
    return story["phase"][:1].lower() + story["phase"][1:] if waits else story["status"]


def number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else "–"
