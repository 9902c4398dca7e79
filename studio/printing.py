"""What verbs print of a run or of an audit: one object for machines, sentences and a table for
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.headless import Headless
from studio.records import JobRow
from studio.terminal import Terminal, refusal_fields
from workers.protocol.audit import AuditFinding, AuditResult


def print_run(headless: Headless, row: JobRow, before: Sequence[JobRow] = ()) -> None:
    story = headless.story(row)
    if before:
        story["stages"] = [headless.story(one) for one in before]
    headless.terminal.result(story | failure_fields(row))
    headless.terminal.table(
        f"{row.name}: {row.status} after {row.steps} steps",
        ["Metric", "First", "Last"],
        [[n, number(story["first"].get(n)), number(v)] for n, v in story["last"].items()],
    )
    if row.cause:
        headless.terminal.say(f"{row.cause} {row.remedy}")


def print_audit(terminal: Terminal, result: AuditResult) -> None:
    terminal.say(f"{result.counted}: {result.format or 'none usable'}. "
                 f"They can serve {', '.join(result.stages) or 'no stage'}.")  # fmt: skip
    for line in result.bad[:10]:
        terminal.say(f"Line {line.line}: {line.reason}")
    if result.unusable > 10:
        listed = (
            "them all" if result.unusable == len(result.bad) else f"the first {len(result.bad)}"
        )
        terminal.say(f"and {result.unusable - 10} more bad lines; --json lists {listed}")
    if result.tokens is not None:
        share = result.trained_token_share
        in_loss = "" if share is None else f", {share:.0%} of them in the loss"
        at = result.tokens.percentiles
        terminal.say(f"{result.tokens.total:,} tokens{in_loss}; half of the rows have up to "
                     f"{at['p50']}, 95 % up to {at['p95']}, all up to {at['p100']}.")  # fmt: skip
    if not result.findings:
        terminal.say("No findings.")
        return
    terminal.table(
        f"Findings: {len(result.findings)}",
        ["Level", "Rows", "What", "What to do"],
        [[one.level, f"{one.count} ({one.share:.1%})", _where(one), one.remedy]
         for one in result.findings],
    )  # fmt: skip


def _where(finding: AuditFinding) -> str:
    rows = ", ".join(str(example.row) for example in finding.examples)
    return f"{finding.meaning} Rows {rows}." if rows else finding.meaning


def failure_fields(row: JobRow) -> dict[str, str]:
    if row.status != "failed":
        return {}
    return refusal_fields(row.cause, row.cause, row.remedy)


def number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else "–"
