"""Audits a whole dataset before a run: reads it, tokenizes it as training would, and tells what is
wrong with it. Loads a tokenizer, never weights.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from workers.data import audit, formats
from workers.data.rowfile import RowFile
from workers.fetch import HUB_ID, Located, locate_model
from workers.host import Host
from workers.protocol.audit import AuditResult
from workers.protocol.events import Finished, Inspected, Phase, Progress, Stopped
from workers.protocol.jobs import Inspect
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFERRED: tuple[Stage, ...] = ("dpo", "kto", "sft", "cpt", "grpo")
"""What data is most likely meant for, the most telling shape first."""
TOLD_EVERY_S = 0.2


def run(host: Host) -> None:
    """Runs an inspect job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Inspect)
    began = time.monotonic()
    with RowFile(host.folder) as rows:
        _inspect(host, task, rows, began)


def _inspect(host: Host, task: Inspect, rows: RowFile, began: float) -> None:
    host.emit(Phase(name="Reading the data"))
    bad = audit.BadLines()
    table = formats.read(
        task.source.source, task.source.mapping or None, lambda text: host.emit(Phase(name=text)),
        rows=rows, bad=bad, progress=Pace(host, "bytes"),
    )  # fmt: skip
    stages = formats.stages_of(rows, get_args(Stage))
    stage = None if host.requests.stop_asked else _stage(task, stages)
    found = audit.Audited([], None, None)
    if stage is not None:
        found = _audited(host, task, rows, stage)
    if host.requests.stop_asked:
        host.emit(Stopped(detail="Stopped when asked; nothing was changed."))
        return
    findings = audit.merged(found.findings, bad.findings(len(rows)))
    result = AuditResult(
        source=task.source.source,
        format=table.format if table else None,
        stages=list(stages),
        stage=stage,
        model=task.model,
        rows=len(rows),
        bad=bad.first,
        bad_total=len(bad),
        findings=findings,
        trained_token_share=found.trained_token_share,
        tokens=found.tokens,
        seconds=round(time.monotonic() - began, 2),
        path=table.path if table else "",
        sha256=table.sha256 if table else "",
        test=task.test,
    )
    host.emit(Inspected(result=result))
    host.emit(Finished(summary={"rows": len(rows), "findings": len(findings)}))


class Pace:
    """Says how far a phase is, a few times a second; its answer is whether to go on."""

    def __init__(self, host: Host, unit: str) -> None:
        self._host, self._unit = host, unit
        self._began = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> bool:
        now = time.monotonic()
        if now - self._told >= TOLD_EVERY_S:
            self._told = now
            left = (now - self._began) * (total - done) / done if done else None
            self._host.emit(Progress(done=done, total=total, unit=self._unit, seconds_left=left))
            self._host.requests.take()
        return not self._host.requests.stop_asked


def _stage(task: Inspect, stages: list[Stage]) -> Stage | None:
    """The stage asked for, or the likeliest; none where no row can be used."""
    if not stages:
        return None
    if task.stage:
        audit.require(task.stage, stages, task.source.source)
    likely = [task.stage, *PREFERRED, *stages]
    return min(stages, key=likely.index)


def _audited(host: Host, task: Inspect, rows: RowFile, stage: Stage) -> audit.Audited:
    test = formats.read_table(task.test, bad_rows="skip").rows if task.test else None
    host.emit(Phase(name="Loading the tokenizer"))
    located = locate(task.model, Path(host.job.home), host)
    tokenizer = load_tokenizer(located)
    host.emit(Phase(name=f"Looking at {len(rows)} rows"))
    look = audit.Audit(rows, tokenizer, stage, task.max_length, test,
                       stops_at=stopping_tokens(located), folder=host.folder)  # fmt: skip
    return look.run(Pace(host, "rows"))


# The tokenizer


def locate(base: str, home: Path, host: Host) -> Located:
    """Where a base's tokenizer is; a folder needs no weights beside it."""
    folder = Path(base).expanduser()
    if (folder / "tokenizer_config.json").is_file():
        return Located(base, folder)
    if HUB_ID.match(base) and not folder.is_dir():
        return Located(base, _from_hub(base))
    return locate_model(base, home, lambda text: host.emit(Phase(name=text)))


def _from_hub(repository: str) -> Path:
    """The files of a hub repository that tell its words, without its weights."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as fault:
        raise Refusal(
            f"The tokenizer of {repository} could not be fetched.",
            f"The hub is out of reach, or has no such model ({type(fault).__name__}).",
            "Check the id, or inspect with --model starter, smollm2 or a folder.",
        ) from fault


def load_tokenizer(located: Located) -> PreTrainedTokenizerBase:
    """The tokenizer that training would take."""
    from workers.engines.transformers import load_tokenizer

    return load_tokenizer(located)


def stopping_tokens(located: Located) -> list[int]:
    """The end tokens that the model's generation settings name."""
    path = located.folder / "generation_config.json"
    try:
        named: Any = msgspec.json.decode(path.read_bytes()).get("eos_token_id")
    except (OSError, msgspec.DecodeError, AttributeError):
        return []
    return [named] if isinstance(named, int) else list(named or [])
