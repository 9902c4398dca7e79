"""Audits a whole dataset before a run: reads it, tokenizes it as training would, and says what is
wrong with it. Loads a tokenizer, never weights.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import get_args

from workers.data import reader
from workers.data.audit.audit import Audit, Audited, require
from workers.data.audit.findings import BadLines, merged, of_reading
from workers.data.row_store import RowStore
from workers.data.tokenize.chat_template import think_by_data
from workers.data.tokenize.lint import lint
from workers.data.tokenize.template_trial import STAND_INS, TemplateTrial, check_renders
from workers.engines.tokenizer import load_tokenizer, locate_tokenizer, stopping_tokens
from workers.host import Host
from workers.protocol.audit import AuditResult
from workers.protocol.browse import TemplateFinding
from workers.protocol.events import Finished, Inspected, Phase, Progress, Stopped
from workers.protocol.jobs import Inspect
from workers.protocol.mapping import Proposal
from workers.protocol.recipe import Stage
from workers.protocol.stages import likeliest, spec_of
from workers.protocol.templates import AUTO, OURS, template_label, template_text

PROGRESS_EVERY_S = 0.2
MOST_GROUPS = 50
"""Different reasons of bad lines that are told."""


def run(host: Host) -> None:
    """Runs an inspect job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Inspect)
    began = time.monotonic()
    with RowStore(host.folder) as rows:
        _inspect(host, task, rows, began)


def _inspect(host: Host, task: Inspect, rows: RowStore, began: float) -> None:
    host.emit(Phase(name="Reading the data"))
    bad = BadLines()
    table = reader.read(
        task.source.source, task.source.mapping or None, lambda text: host.emit(Phase(name=text)),
        rows=rows, bad=bad, progress=Pace(host, "bytes"), documents=task.source.documents,
    )  # fmt: skip
    stages = reader.stages_of(rows, get_args(Stage))
    stage = None if host.requests.stop_asked else _stage(task, stages)
    found = Audited([], None, None)
    of_template: list[TemplateFinding] = []
    if stage is not None:
        of_template = _linted(task.template)
        found = _audited(host, task, rows, stage)
    if host.requests.stop_asked:
        host.emit(Stopped(detail="Stopped when asked; nothing was changed."))
        return
    findings = merged(found.findings, bad.findings(len(rows)))
    findings += of_reading(table) if table else []
    result = AuditResult(
        source=task.source.source,
        format=table.format if table else None,
        stages=list(stages),
        stage=stage,
        model=task.model,
        rows=len(rows),
        bad=bad.first,
        bad_total=len(bad),
        bad_groups=bad.groups.all()[:MOST_GROUPS],
        proposal=_proposal(task) if table is None else None,
        findings=findings,
        trained_token_share=found.trained_token_share,
        tokens=found.tokens,
        seconds=round(time.monotonic() - began, 2),
        path=table.path if table else "",
        sha256=table.sha256 if table else "",
        test=task.test,
        documents=table.documents if table else "",
        template_findings=of_template,
    )
    host.emit(Inspected(result=result))
    host.emit(Finished(summary={"rows": len(rows), "findings": len(findings)}))


def _proposal(task: Inspect) -> Proposal | None:
    source = task.source
    return None if source.mapping else reader.proposal_for(source.source, source.documents)


class Pace:
    """Says how far a phase is, a few times a second; its answer is whether to go on."""

    def __init__(self, host: Host, unit: str) -> None:
        self._host, self._unit = host, unit
        self._began = self._reported = time.monotonic()

    def __call__(self, done: int, total: int) -> bool:
        now = time.monotonic()
        if now - self._reported >= PROGRESS_EVERY_S:
            self._reported = now
            left = (now - self._began) * (total - done) / done if done else None
            self._host.emit(Progress(done=done, total=total, unit=self._unit, seconds_left=left))
            self._host.requests.take()
        return not self._host.requests.stop_asked


def _stage(task: Inspect, stages: list[Stage]) -> Stage | None:
    """The stage asked for, or the likeliest; none where no row can be used."""
    if stages and task.stage:
        require(task.stage, stages, task.source.source)
    return likeliest(stages, task.stage)


def _linted(template: str) -> list[TemplateFinding]:
    """What is wrong with the chat template asked for; nothing is said of the model's own.

    Raises:
        Refusal: it does not render.
    """
    if template in (AUTO, *OURS):
        return []
    text = template_text(template)
    with closing(TemplateTrial()) as trial:
        check_renders(text, template_label(template), trial)
        return lint(text, trial, STAND_INS)


def _audited(host: Host, task: Inspect, rows: RowStore, stage: Stage) -> Audited:
    test = reader.read_table(task.test, bad_rows="skip").rows if task.test else None
    host.emit(Phase(name="Loading the tokenizer"))
    home, say = Path(host.job.home), lambda text: host.emit(Phase(name=text))
    located = locate_tokenizer(task.model, home, say)
    tokenizer = load_tokenizer(
        located, task.template, thinking=task.thinking, effort=task.reasoning_effort,
        turns=spec_of(stage).templated,
    )  # fmt: skip
    if task.thinking == "auto":
        think_by_data(tokenizer, rows, stage, task.reasoning)
    host.emit(Phase(name=f"Looking at {len(rows)} rows"))
    look = Audit(rows, tokenizer, stage, task.max_length, test,
                 stops_at=stopping_tokens(located), folder=host.folder,
                 too_long=task.too_long, max_rows=task.max_rows,
                 reasoning=task.reasoning)  # fmt: skip
    return look.run(Pace(host, "rows"))
