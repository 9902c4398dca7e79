"""What can be asked of a worker: job.json, complete enough to repeat the job by hand."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from workers.protocol import VERSION
from workers.protocol.cards import Device, WhenBusy
from workers.protocol.recipe import (
    Effort,
    Reasoning,
    Recipe,
    Source,
    Template,
    Thinking,
    TooLong,
)


class Task(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind"):
    """What one job is to do."""


class OwnedTask(Task, kw_only=True, frozen=True):
    """A task that ends when the process that asked for it is gone."""

    owner_pid: int = 0
    owner_started: float = 0.0
    """Seconds since the epoch; with the pid it names one process for good."""


class Train(Task, frozen=True, tag="train"):
    recipe: Recipe


class Export(Task, frozen=True, tag="export"):
    """Turns a finished run into files under its exports/."""

    run_folder: str
    targets: list[str]
    """Keys of `workers.protocol.exports.EXPORTS`."""
    check: bool = True
    """Compare each file with the trained model."""


class Chat(OwnedTask, kw_only=True, frozen=True, tag="chat"):
    """Answers `Say` until the owner is gone or `Stop` comes."""

    model: str
    """A .gguf file, a run's folder, or a model folder."""
    device: Device = "auto"
    when_busy: WhenBusy = "wait"


class Bench(Task, frozen=True, tag="bench"):
    """Tries a recipe's rewards on the start model's answers and on adversarial ones."""

    recipe: Recipe
    prompts: int = 16
    samples: int = 64
    """Answers of the start model; 0 tries the adversarial ones alone and loads no model."""


class Inspect(Task, frozen=True, tag="inspect"):
    """Audits a whole dataset before a run."""

    source: Source
    model: str = "starter"
    """Whose tokenizer and chat template are used; no weights are loaded."""
    stage: str = ""
    """What the data is to serve; empty takes the first stage that it can."""
    test: str = ""
    """A test set to compare with, instead of the held-out share."""
    max_length: int = 1024
    too_long: TooLong = "drop"
    max_rows: int = 64
    """Held-out rows at most."""
    template: Template = "auto"
    thinking: Thinking = "auto"
    reasoning_effort: Effort = ""
    reasoning: Reasoning = "learn"
    """What is done with thinking in answers."""


class Browse(OwnedTask, kw_only=True, frozen=True, tag="browse"):
    """Shows a dataset row by row and token by token until the owner is gone or `Stop` comes."""

    source: Source
    model: str = "starter"
    """Whose tokenizer and chat template rows are shown in; no weights are loaded."""
    max_length: int = 1024


class Score(OwnedTask, kw_only=True, frozen=True, tag="score"):
    """Scores answers by a trained reward model until the owner is gone or `Stop` comes."""

    model: str
    """`run:ID` of stage `reward`, or the folder of a sequence classifier with one output."""
    device: Device = "auto"
    when_busy: WhenBusy = "wait"


class Watch(OwnedTask, kw_only=True, frozen=True, tag="watch"):
    """Reads the cards so often until the owner is gone or `Stop` comes."""

    seconds: float = 2.0


class Simulate(Task, kw_only=True, frozen=True, tag="simulate"):
    """Counts the memory of a step without weights, for models that `workers.estimate` knows not."""

    recipe: Recipe
    config: dict[str, Any] = {}
    """Fields of the base's config.json; empty fetches it."""
    micro: int = 1
    """Examples at once."""
    longest: int = 1024
    """Tokens of the longest row."""
    checkpointing: bool = True


class Probe(Task, frozen=True, tag="probe"):
    """Looks at what this interpreter and machine can do."""


AnyTask = Train | Export | Chat | Bench | Inspect | Browse | Score | Simulate | Watch | Probe
Kind = Literal[
    "train", "export", "chat", "bench", "inspect", "browse", "score", "simulate", "watch", "probe"
]


class Resolved(msgspec.Struct, kw_only=True, frozen=True):
    """What the request came to mean on this machine; written by the worker before it works."""

    versions: dict[str, str] = {}
    device: str = ""
    precision: str = ""
    engine: str = ""
    model: dict[str, Any] = {}
    """`base`, `folder`, `sha256` of the weights, `parameters`, `template` as it was asked for and
    `template_sha256` of the chat template's text."""
    datasets: list[dict[str, Any]] = []
    """Each: `source`, `path`, `sha256`, `rows`, `format`; of those trained on also `limit`,
    `drawn`, `epochs` (within the mixture), `licence` and `licence_from`."""
    seeds: dict[str, int] = {}
    batch: dict[str, int] = {}
    """Examples to each step and how they are divided: `effective`, `micro`, `accumulation`, and
    `checkpointing`, 1 where activations are computed anew."""
    coverage: dict[str, float] = {}
    """How far the run goes through its examples: `rows`, `steps`, `seen` of the rows, `epochs`."""


class Change(msgspec.Struct, frozen=True):
    """Settings that were changed when a run went on from a checkpoint."""

    step: int
    """From which on they hold."""
    settings: dict[str, tuple[Any, Any]]
    """Key path to the value before and after."""


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """The whole of job.json."""

    id: str
    """The folder's name."""
    name: str
    created: str
    """ISO 8601, UTC."""
    home: str
    """The studio's folder of models and jobs, absolute."""
    task: AnyTask
    parent: str | None = None
    """Id of the run that this one starts from."""
    then: list[Recipe] = []
    """The stages of a pipeline that follow this run, each starting from the one before."""
    interpreter: str = ""
    """The Python that the studio started the worker with."""
    pause_above_celsius: int = 0
    """A training run rests once its card is as hot; 0 never."""
    protocol: int = VERSION
    resolved: Resolved | None = None
    changes: list[Change] = []
    """What resumes changed, in order; `task` holds what is asked now."""

    @property
    def kind(self) -> Kind:
        return type(self.task).__struct_config__.tag  # type: ignore[return-value]
