"""Conversations, answered or left open, and prompts with nothing beside them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from workers.data.schema.columns import (
    ANSWERS,
    ASKING,
    CHOSEN,
    COMPLETIONS,
    CONVERSATIONS,
    REJECTED,
    SYSTEMS,
    TOOLS,
    TRANSCRIPT,
    ColumnStatistics,
    first_of,
)
from workers.data.schema.fields import Fields
from workers.data.schema.found import Found, mapped, prompt_columns, talk_columns
from workers.data.schema.row import Row


def find_chat(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    name = first_of(keys, CONVERSATIONS)
    if not name and TRANSCRIPT in keys and TRANSCRIPT in statistics.transcripts:
        name = TRANSCRIPT
    if not name:
        return None
    mapping, why = talk_columns(name, keys), f"{name} holds conversations."
    if name in statistics.asking and (answer := first_of(keys, (*ANSWERS, "solution"))):
        mapping |= mapped(answer=answer)
        why = f"{name} ends with a question, {answer} is what a right answer comes to."
    return Found(mapping=mapping, why=why)


def read_chat(fields: Fields) -> Row:
    """A conversation; one that ends with a question is a prompt where the row knows the answer."""
    talk, answer = fields.talk(), fields.answer()
    if answer.strip() and _asks(talk):
        prompt = fields.conversation(talk, asks=True)
        return Row(prompt=prompt, answer=answer, tools=fields.tools)
    messages = fields.conversation(talk)
    return Row(prompt=messages[:-1], completion=messages[-1:], answer=answer, tools=fields.tools)


def _asks(turns: Any) -> bool:
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and (last.get("role") or last.get("from")) in ASKING


# Without an answer


def find_questions(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    talk = first_of(keys, CONVERSATIONS)
    if talk not in statistics.unanswered or first_of(keys, (*ANSWERS, "solution")):
        return None
    return Found(talk_columns(talk, keys), f"{talk} ends with a question that nothing answers.")


def read_questions(fields: Fields) -> Row:
    return Row(prompt=fields.conversation(fields.talk(), asks=True), tools=fields.tools)


def find_prompt(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    answers = statistics.filled & {*COMPLETIONS, *ANSWERS, *CHOSEN, *REJECTED}
    others = statistics.wordy - {"prompt", *SYSTEMS, *TOOLS}
    if "prompt" not in keys or answers or others:
        return None
    mapping = prompt_columns("prompt", keys, statistics)
    return Found(mapping, "prompt is the prompt, and no column has an answer to it.")


def read_prompt(fields: Fields) -> Row:
    prompt = fields.conversation(fields.asked(), "prompt", asks=True)
    return Row(prompt=prompt, tools=fields.tools)
