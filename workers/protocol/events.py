"""What a worker says. One struct an event; each stands as one numbered line in events.jsonl.

A reader meets events of a later version as `Unknown` and goes on.
"""

from __future__ import annotations

from typing import Any

import msgspec

from workers.protocol.audit import AuditResult
from workers.protocol.bench import BenchResult
from workers.protocol.browse import Opening, RowView, TemplateFinding, TokenView, Version
from workers.protocol.cards import Card, Hardware, Holder


class Event(msgspec.Struct, kw_only=True, frozen=True, tag_field="type", tag=True):
    """Something that a job said."""


class Started(Event, frozen=True):
    """The worker has the folder. First event of every start, also of a resumed one."""

    pid: int
    protocol: int
    python: str


class Resumed(Event, frozen=True):
    """Training goes on from a checkpoint, or from the start (step 0) where there was none; what was
    measured after `step` is measured anew."""

    step: int


class Retried(Event, frozen=True):
    """The memory ran out, and the run goes on by itself, in a fresh process that needs less."""

    step: int
    """Of the checkpoint that it goes on from; 0 where it begins from the start."""
    settings: dict[str, tuple[Any, Any]]
    """What was changed for that: key path to the value before and after."""
    detail: str
    """What ran out and what is done, in words."""
    dry: bool = False
    """It was the dry run before the first step, so that nothing is lost."""


class Resolved(Event, frozen=True):
    """What the job really runs on; the same is kept in job.json under `resolved`."""

    versions: dict[str, str]
    details: dict[str, Any] = {}


class Phase(Event, frozen=True):
    """A long stretch begins, in the user's words: 'Loading the model'."""

    name: str


class Progress(Event, frozen=True):
    """How far the present phase is. `total` 0 means that the end is not known."""

    done: int
    total: int
    unit: str = "steps"
    seconds_left: float | None = None
    """Until the end of the phase, at the pace so far; None where that is not known."""

    @property
    def words(self) -> str:
        """For people: '120,000 of 1,000,000 rows, 40 s left'."""
        told = f"{self.done:,} of {self.total:,} {self.unit}"
        if self.unit == "bytes":
            told = f"{self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB read"
        return told if self.seconds_left is None else f"{told}, {_span(self.seconds_left)} left"


def _span(seconds: float) -> str:
    """A stretch of time in its two largest units at most."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Metrics(Event, frozen=True):
    """Measured values at an optimizer step. Names: README, 'Metrics'. NaN is sent as null."""

    step: int
    values: dict[str, float | None]
    seconds: float = 0.0
    """Since training began, without pauses."""


class Sampled(Event, frozen=True):
    """What the model said at a step to a fixed prompt."""

    step: int
    prompt: str
    completion: str


class Rollout(Event, frozen=True):
    """The answers of a step, their rewards and advantages, lie in a file of the run's folder."""

    step: int
    path: str
    """Relative to the run's folder; holds one `workers.protocol.rollouts.Rollouts` as JSON."""


class Finding(Event, frozen=True):
    """What the health coach noticed: its meaning, and what to change."""

    kind: str
    """For example entropy_collapse; the same kind comes once, until it has passed."""
    level: str
    """advice, warning or alarm."""
    step: int
    """Since when."""
    metric: str
    """The curve that shows it."""
    meaning: str
    remedy: str


class FindingCleared(Event, frozen=True):
    """A finding of that kind no longer holds."""

    kind: str
    step: int


class Saved(Event, frozen=True):
    """A checkpoint is complete, its manifest written."""

    step: int
    path: str


class Note(Event, frozen=True):
    """One sentence for the user. `level` is info, warning, or error: it was not done."""

    text: str
    level: str = "info"


class Token(Event, frozen=True):
    """A piece of an answer, in order, as text."""

    text: str


class Answered(Event, frozen=True):
    """An answer is complete."""

    text: str
    tokens: int
    tokens_per_second: float
    first_token_seconds: float
    finish: str
    """stop (the model ended its turn), length, or asked (the user stopped it)."""


class Ready(Event, frozen=True):
    """A chat job has its model loaded and listens."""

    model: str
    detail: str = ""
    thinking: str = ""
    """Whether it thinks where nothing is asked for, on or off; empty where its chat template has no
    switch for it."""


class Artifact(Event, frozen=True):
    """A file or folder is complete in its final place."""

    path: str
    kind: str
    bytes: int


class Checked(Event, frozen=True):
    """One check of a probe or of an exported file against the trained model."""

    check: str
    passed: bool
    detail: str
    remedy: str = ""


class HardwareSeen(Event, frozen=True):
    """What the machine has to compute with."""

    hardware: Hardware


class CardsRead(Event, frozen=True):
    """Every card as it stands now, and who has its turn on one."""

    cards: list[Card]
    holders: dict[str, list[Holder]] = {}
    """Card's key to the processes that have it."""
    reason: str = ""
    """Why there are no cards."""


class Benched(Event, frozen=True):
    """The reward bench's result."""

    result: BenchResult


class Inspected(Event, frozen=True):
    """What the audit of a dataset found."""

    result: AuditResult


class StepSimulated(Event, frozen=True):
    """What a training step takes on a GPU at its peak, in bytes, by running it on fake tensors.

    What CUDA takes for itself and its allocator loses is not in it.
    """

    peak: int
    parts: dict[str, int]
    """Under the names of `workers.estimate`."""
    seconds: float


class Opened(Event, frozen=True):
    """A dataset is open to be looked at; comes again when its columns are mapped anew."""

    opening: Opening


class RowsShown(Event, frozen=True):
    """A stretch of a dataset's rows; fewer than asked for at its end."""

    first: int
    rows: list[RowView]


class RowsCounted(Event, frozen=True):
    """How many rows are known so far, and whether that is all of them."""

    rows: int
    complete: bool
    bad: int = 0
    """Of those looked at as rows."""


class TokensShown(Event, frozen=True):
    """A row as the model will see it: one view, or two for a pair; or why there is none."""

    row: int
    views: list[TokenView] = []
    reason: str = ""


class TemplateShown(Event, frozen=True):
    """The text of a chat template, to be changed; or why there is none."""

    template: str
    jinja: str = ""
    reason: str = ""


class TemplateTried(Event, frozen=True):
    """A row as a chat template makes it; or why it does not, and what is wrong with it."""

    row: int
    views: list[TokenView] = []
    reason: str = ""
    line: int = 0
    """Of the template, at which it failed, from 1; 0 where it is not known."""
    findings: list[TemplateFinding] = []


class VersionSaved(Event, frozen=True):
    """An edited copy of a dataset is complete."""

    version: Version


class AnswersScored(Event, frozen=True):
    """A reward model's scores, in the order of the answers."""

    scores: list[float | None]
    seconds: float = 0.0


class Evaluated(Event, frozen=True):
    """Measured on held-out rows. `when` is before, during or after."""

    when: str
    step: int
    values: dict[str, float | None]
    rows: int
    each: dict[str, list[float | None]] = {}
    """Of some of the values what they are the mean of: one number a row that they are measured on,
    in the rows' order, which is the same before and after; null where a row has no score."""


class Finished(Event, frozen=True):
    """The job did what it was asked."""

    summary: dict[str, Any] = {}


class Paused(Event, frozen=True):
    """The job rests at a checkpoint; started again, the same folder goes on from it."""

    step: int
    detail: str = ""


class Stopped(Event, frozen=True):
    """The job ended early because it was asked to; what it had is saved."""

    step: int = 0
    detail: str = ""


class Failed(Event, frozen=True):
    """The job could not go on: what happened, the likely cause, what to do now."""

    what: str
    cause: str
    remedy: str
    kind: str = "error"
    """refused, out_of_memory, disk_full or error."""
    traceback: str = ""


class Unknown(Event, frozen=True):
    """An event that this version does not know, kept as it came."""

    name: str
    fields: dict[str, Any] = {}


ENDINGS = (Finished, Stopped, Failed)
"""After one of these a job says nothing more, unless it is started again: a paused and a failed one
may be, and then the last of these holds."""

KNOWN: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Started, Resumed, Retried, Resolved, Phase, Progress, Metrics, Sampled, Rollout, Finding,
        FindingCleared, Saved, Note, Token, Answered, Ready, Artifact, Checked, Benched, Inspected,
        StepSimulated, HardwareSeen, CardsRead, Opened, RowsShown, RowsCounted, TokensShown,
        TemplateShown, TemplateTried, VersionSaved, AnswersScored, Evaluated, Paused,
        Finished, Stopped, Failed,
    )
}  # fmt: skip
