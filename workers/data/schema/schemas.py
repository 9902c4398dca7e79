"""The schemas that a dataset's rows may have, each declared once.

A declaration says in words what a row holds, finds it by the names of the columns, and makes a row
of it. Names are looked at in the order of how telling they are; the first rows decide where a name
has two meanings: an `answer` or `solution` is a whole completion where it is long, and else what a
right completion comes to. To add a schema: its declaration here, and its test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from workers.data.schema.answered import (
    find_alpaca,
    find_prompt_answer,
    find_prompt_completion,
    read_answered,
    read_prompt_answer,
)
from workers.data.schema.chats import (
    find_chat,
    find_prompt,
    find_questions,
    read_chat,
    read_prompt,
    read_questions,
)
from workers.data.schema.columns import ColumnStatistics
from workers.data.schema.fields import Fields
from workers.data.schema.found import Found
from workers.data.schema.plain import find_segments, find_text, read_segments, read_text
from workers.data.schema.preferences import (
    find_feedback,
    find_preference,
    read_feedback,
    read_preference,
)
from workers.data.schema.row import Row
from workers.protocol.recipe import Column


class Schema(NamedTuple):
    """One way in which rows are written."""

    name: str
    words: str
    """What a row holds."""
    find: Callable[[Collection[str], ColumnStatistics], Found | None]
    """Whether rows with these columns have it."""
    read: Callable[[Fields], Row]
    """Makes a row; raises `RowFault` where it cannot be used."""
    needed: tuple[frozenset[Column], ...] = ()
    """Our columns, all of one of these sets, that a mapping by hand must fill for it."""
    telling: int = 0
    """The more telling its columns are, the earlier they are looked for."""


_DECLARED = (
    Schema(
        "chat", 'a "messages" list', find_chat, read_chat, (frozenset({"messages"}),)
    ),
    Schema(
        "chat_prompt", '"messages" that end with a question', find_questions, read_questions,
        telling=1,
    ),
    Schema(
        "prompt_completion", 'a "prompt" with a "completion"', find_prompt_completion,
        read_answered, (frozenset({"prompt", "completion"}),),
    ),
    Schema(
        "alpaca", 'an "instruction" with an "output" (Alpaca)', find_alpaca, read_answered
    ),
    Schema(
        "preference", 'a "prompt" with a "chosen" and a "rejected" answer', find_preference,
        read_preference,
        (frozenset({"chosen", "rejected"}), frozenset({"messages", "rejected"})), telling=3,
    ),
    Schema(
        "feedback",
        'a "prompt" with a "completion", or "messages", and a "label" (true is good)',
        find_feedback, read_feedback,
        (frozenset({"prompt", "completion", "label"}), frozenset({"messages", "label"})),
        telling=2,
    ),
    Schema(
        "prompt_answer", 'a "prompt" with an "answer"', find_prompt_answer, read_prompt_answer,
        (frozenset({"prompt", "answer"}),),
    ),
    Schema("prompt", 'a "prompt" alone', find_prompt, read_prompt, telling=-1),
    Schema(
        "segments", '"segments" of text with a "label" each (Axolotl)', find_segments,
        read_segments, (frozenset({"segments"}),),
    ),
    Schema("text", 'a "text"', find_text, read_text, (frozenset({"text"}),)),
)  # fmt: skip

SCHEMAS: dict[str, Schema] = {schema.name: schema for schema in _DECLARED}
"""Every schema by its name, in the order in which they are named to people."""


def by_telling() -> list[Schema]:
    """The schemas in the order in which columns are held against them."""
    return sorted(SCHEMAS.values(), key=lambda schema: -schema.telling)
