"""Columns in which a schema was found, and columns that any schema of conversations may have."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from workers.data.schema.columns import (
    ANSWERS,
    CONTEXTS,
    PROMPTS,
    SYSTEMS,
    TOOLS,
    ColumnStatistics,
    first_of,
)
from workers.protocol.recipe import Column


class Found(NamedTuple):
    """Columns in which a schema was found."""

    mapping: dict[str, Column]
    """Their columns to ours."""
    why: str
    """What decided it, in a sentence."""
    answer_too: bool = False
    """Whether the completion is also the reference answer, being short."""


def mapped(**ours: str) -> dict[str, Column]:
    """Their columns to ours from ours to theirs, leaving out what is not there."""
    return {theirs: column for column, theirs in ours.items() if theirs}  # type: ignore[misc]


def prompt_of(keys: Collection[str]) -> str:
    """The column of the prompt; an input beside an instruction is its context."""
    prompt = first_of(keys, PROMPTS)
    return "instruction" if prompt == "input" and "instruction" in keys else prompt


def context_of(prompt: str, keys: Collection[str], statistics: ColumnStatistics) -> str:
    """What an instruction or a question is about, in a column of its own."""
    others = set(keys) - {prompt}
    if prompt == "instruction":
        return first_of(others, CONTEXTS)
    return first_of(others & statistics.texts, CONTEXTS[1:]) if prompt == "question" else ""


def prompt_columns(
    prompt: str, keys: Collection[str], statistics: ColumnStatistics
) -> dict[str, Column]:
    """The prompt with all that may stand around it."""
    context = context_of(prompt, keys, statistics)
    before, behind = ("", context) if prompt == "instruction" else (context, "")
    mapping = mapped(system=first_of(keys, SYSTEMS), history=first_of(keys, ("history",)))
    mapping |= mapped(prompt=before) | mapped(prompt=prompt) | mapped(prompt=behind)
    return mapping | mapped(tools=first_of(keys, TOOLS))


def talk_columns(talk: str, keys: Collection[str]) -> dict[str, Column]:
    """A conversation with all that may stand around it."""
    return mapped(
        messages=talk, system=first_of(keys, SYSTEMS), tools=first_of(keys, TOOLS),
        answer=first_of(keys, ANSWERS),
    )  # fmt: skip
