"""What a running job can be told; each stands as one line in its requests.jsonl."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, kw_only=True, frozen=True, tag_field="type", tag=True):
    """Something asked of a running job."""


class Stop(Request, frozen=True):
    """End within one step; what was learnt is saved first."""


class Pause(Request, frozen=True):
    """Write a checkpoint and end for now; the same folder started again goes on from there."""


class SaveNow(Request, frozen=True):
    """Write a checkpoint after the present step and go on."""


class SampleNow(Request, frozen=True):
    """Show what the model answers now to the run's fixed prompts, and go on."""


class Say(Request, frozen=True):
    """The conversation so far, its last turn the user's; answered by Token and Answered.

    `messages` hold `role` (system, user, assistant) and `content`.
    """

    messages: list[dict[str, str]]
    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int | None = None


class Hush(Request, frozen=True):
    """Break off the present answer; the chat goes on."""


AnyRequest = Stop | Pause | SaveNow | SampleNow | Say | Hush
