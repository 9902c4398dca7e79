"""What the index tells of a job: its row in lists, its measurements, findings and files."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from workers.protocol.cards import WAITING

Status = Literal["running", "finished", "stopped", "paused", "failed"]


class JobRow(msgspec.Struct, frozen=True):
    """One job as lists show it."""

    id: str
    kind: str
    name: str
    stage: str
    created: str
    parent: str | None
    status: Status
    cause: str
    remedy: str
    phase: str
    steps: int
    total_steps: int
    seconds: float
    cursor: int
    fault: str
    """Of a failed job that left a last word, its kind: refused, out_of_memory, disk_full, error."""
    summary: dict[str, Any]

    @property
    def live(self) -> bool:
        return self.status == "running"

    @property
    def waits(self) -> bool:
        """Waits for its turn on a card."""
        return self.live and self.phase.startswith(WAITING)

    @property
    def paused(self) -> bool:
        return self.status == "paused"

    @property
    def may_resume(self) -> bool:
        """Ended before its time, so that it can go on from its last checkpoint."""
        return self.kind == "train" and self.status in ("paused", "failed")

    @property
    def short_of_memory(self) -> bool:
        """It can go on, with less memory than it failed with."""
        return self.may_resume and self.fault == "out_of_memory"

    @property
    def has_weights(self) -> bool:
        """Ended with its weights saved: it can be exported, talked to and built upon."""
        return self.status in ("finished", "stopped")


class Evaluation(msgspec.Struct, frozen=True):
    moment: str
    step: int
    rows: int
    scores: dict[str, float | None]
    each: dict[str, list[float | None]] = {}
    """Of some scores the single rows' values, in the rows' order."""


class FindingRow(msgspec.Struct, frozen=True):
    """What the health coach noticed, from a step until another; `until` is None while it holds."""

    kind: str
    since: int
    until: int | None
    level: str
    metric: str
    meaning: str
    remedy: str


class ArtifactRow(msgspec.Struct, frozen=True):
    path: str
    kind: str
    bytes: int


class Series(msgspec.Struct, frozen=True):
    """One metric of one run, by rising step; a value that was not a number is NaN."""

    steps: list[int]
    values: list[float]
