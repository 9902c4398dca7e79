"""What a running job can be told; each stands as one line in its requests.jsonl."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.protocol.browse import Edits
from workers.protocol.recipe import Column, Thinking, TooLong


class Request(msgspec.Struct, kw_only=True, frozen=True, tag_field="type", tag=True):
    """Something asked of a running job."""


class Stop(Request, frozen=True):
    """End within one step; what was learnt is saved first."""


class Pause(Request, frozen=True):
    """Write a checkpoint and end for now; the same folder started again goes on from there."""


class Resume(Request, frozen=True):
    """The job is started again: what was asked before this is done with."""


class SaveNow(Request, frozen=True):
    """Write a checkpoint after the present step and go on."""


class SampleNow(Request, frozen=True):
    """Show what the model answers now to the run's fixed prompts, and go on."""


class Say(Request, frozen=True):
    """The conversation so far, its last turn the user's; answered by Token and Answered.

    `messages` hold `role` (system, user, assistant) and `content`.
    """

    messages: list[dict[str, str]]
    tools: list[dict[str, Any]] = []
    """Definitions of tools that the model may call; calls are shown as it writes them."""
    thinking: Thinking = "auto"
    """Whether it thinks first, where its chat template has a switch; auto is as it was trained."""
    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int | None = None


class Cancel(Request, frozen=True):
    """Break off the present answer; the chat goes on."""


class UseCpu(Request, frozen=True):
    """Do not wait for the card that another job has; compute on the CPU."""


class ShowRows(Request, frozen=True):
    """Rows of a browsed dataset from number `first`, from 0; answered by RowsShown."""

    first: int
    count: int = 50


class MapColumns(Request, frozen=True):
    """Takes the columns so from now on, or by detection where it is empty; answered by Opened."""

    mapping: dict[str, Column] = {}


class ShowTokens(Request, frozen=True):
    """One row as the model will see it; answered by TokensShown."""

    row: int
    text: str = ""
    """The row as JSON, edited and not yet saved; empty takes it from the file."""
    stage: str = ""
    """Empty takes the first stage that the data serves."""
    model: str = ""
    """Another base than the job's; empty keeps it."""
    template: str = ""
    """A template of `workers.protocol.recipe.Template`; empty keeps the model's own choice."""
    max_length: int = 0
    """0 keeps the job's."""
    too_long: TooLong = "drop"


class ShowTemplate(Request, frozen=True):
    """The Jinja text of a chat template; answered by TemplateShown."""

    model: str = ""
    """Another base than the job's; empty keeps it."""
    template: str = "auto"


class TryTemplate(Request, frozen=True):
    """One row as a chat template that is being written makes it; answered by TemplateTried."""

    row: int
    jinja: str
    text: str = ""
    """The row as JSON, edited and not yet saved; empty takes it from the file."""
    stage: str = ""
    model: str = ""
    max_length: int = 0


class SaveVersion(Request, frozen=True):
    """Writes an edited copy beside the studio's own data; answered by VersionSaved."""

    edits: Edits
    name: str = ""


class ScoreAnswers(Request, frozen=True):
    """Answers to one prompt that a reward model is to score; answered by AnswersScored."""

    prompt: list[dict[str, str]]
    answers: list[str]


AnyRequest = (
    Stop | Pause | Resume | SaveNow | SampleNow | Say | Cancel | UseCpu
    | ShowRows | MapColumns | ShowTokens | ShowTemplate | TryTemplate | SaveVersion | ScoreAnswers
)  # fmt: skip
