"""Better and worse answers to one prompt, and single answers with a label."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema.answered import answered_turns, begins, completion_of
from workers.data.schema.columns import (
    ANSWERS,
    CHOSEN,
    CONVERSATIONS,
    LABELS,
    NESTED_TALK,
    REJECTED,
    ColumnStatistics,
    first_of,
)
from workers.data.schema.fields import Fields
from workers.data.schema.found import Found, mapped, prompt_columns, prompt_of, talk_columns
from workers.data.schema.messages import Message
from workers.data.schema.row import Row
from workers.data.schema.transcripts import transcript
from workers.protocol.recipe import Column


def find_preference(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    chosen, rejected = first_of(keys, CHOSEN), first_of(keys, REJECTED)
    talk = first_of(keys, (*CONVERSATIONS, NESTED_TALK))
    prompt = "" if talk == NESTED_TALK else prompt_of(keys)
    if rejected and prompt and not chosen and not talk:
        chosen = completion_of(prompt, keys, statistics)
    if not rejected or not (chosen or talk):
        return None
    if prompt and chosen:
        mapping = prompt_columns(prompt, keys, statistics)
    else:
        mapping = talk_columns(talk, keys)
    mapping |= mapped(chosen=chosen, rejected=rejected, answer=first_of(keys, ANSWERS))
    how = f"to {prompt or talk}" if prompt or talk else "that are whole conversations"
    better = chosen or f"the last of {talk}"
    return Found(mapping, f"{better} and {rejected} are a better and a worse answer {how}.")


def read_preference(fields: Fields) -> Row:
    """A pair; without a prompt both answers are whole conversations that begin alike."""
    if fields.has("chosen"):
        prompt = _prompt(fields)
        chosen, rejected = _side(fields, "chosen", prompt), _side(fields, "rejected", prompt)
    else:
        chosen = fields.conversation(fields.talk())
        rejected = _side(fields, "rejected", _until_asked(chosen))
    names = fields.name("chosen" if fields.has("chosen") else "messages"), fields.name("rejected")
    if chosen[:-1] != rejected[:-1]:
        raise _unlike(names, chosen, rejected)
    if chosen == rejected:
        raise RowFault("chosen_equals_rejected", f'"{names[0]}" and "{names[1]}" are the same')
    return Row(
        prompt=chosen[:-1],
        completion=chosen[-1:],
        rejected=rejected[-1:],
        answer=fields.answer(),
        tools=fields.tools,
    )


def _prompt(fields: Fields) -> list[Any] | None:
    """The turns that both answers follow; None where each is a whole conversation."""
    if fields.get("prompt") is not None:
        return fields.asked()
    if fields.get("messages") is None:
        return None
    turns = fields.talk()
    if not isinstance(turns, list):
        raise RowFault("value", f'"{fields.name("messages")}" must be a list of messages')
    last = turns[-1] if turns else None
    if isinstance(last, dict) and not begins([last]) and _said(last) == _said(fields.get("chosen")):
        return turns[:-1]
    return turns


def _said(turn: Any) -> Any:
    """What one turn says."""
    turn = turn[-1] if isinstance(turn, list) and turn else turn
    return turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn


def _until_asked(turns: list[Message]) -> list[Message]:
    """A conversation up to its last question, behind which ms-swift puts the rejected answer."""
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    return turns[: asked[-1] + 1]


def _side(fields: Fields, column: Column, prompt: list[Any] | None) -> list[Message]:
    """One side of a pair as a whole conversation."""
    value = fields.need(column)
    written = transcript(value) if isinstance(value, str) else None
    if written is None and isinstance(value, str) and prompt is None:
        return fields.conversation(_apart(fields, column), column)
    turns = written or fields.said(column)
    if prompt is not None and not begins(turns):
        return fields.conversation([*prompt, *turns], column)
    made = fields.conversation(fields.led(turns), column)
    if prompt is not None and fields.has("chosen"):
        fields.check_prompt(made, column)
    return made


def _apart(fields: Fields, column: Column) -> list[Any]:
    """What two texts begin with in common as the prompt, as TRL takes it, and one answer to it."""
    text, both = fields.need(column), [fields.get("chosen"), fields.get("rejected")]
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*map(str, both), strict=False))
    shared = text[: sum(1 for _ in same)]
    end = max(shared.rfind(" "), shared.rfind("\n"), 0)
    if not shared[:end].strip():
        name = fields.name(column)
        raise RowFault("value", f'"{name}" is text and there is no prompt column beside it')
    roles = ("user", text[:end]), ("assistant", text[end:].strip())
    return [{"role": role, "content": said} for role, said in roles]


def _unlike(names: tuple[str, str], chosen: list[Message], rejected: list[Message]) -> RowFault:
    """Why two sides are no pair: another prompt, or several turns of answers."""
    begun = next(
        (one for one, other in itertools.zip_longest(chosen, rejected) if one != other), None
    )
    of = f'"{names[0]}" and "{names[1]}"'
    if begun is not None and begun["role"] == "assistant" and len(chosen) != len(rejected):
        reason = f"{of} differ in more than their last answer, which alone can be compared"
        return RowFault("value", reason)
    return RowFault("value", f"{of} answer different prompts")


# A single answer with a label


def find_feedback(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    label, talk = first_of(keys, LABELS), first_of(keys, CONVERSATIONS)
    if talk and label in statistics.labels:
        mapping = talk_columns(talk, keys) | mapped(label=label)
        return Found(mapping, f"{label} says whether the last answer of {talk} is good.")
    prompt = prompt_of(keys)
    completion = completion_of(prompt, set(keys) - {label}, statistics) if prompt else ""
    plain = {"prompt", "completion"} <= set(keys)
    if not label or not completion or not (plain or label in statistics.labels):
        return None
    mapping = prompt_columns(prompt, keys, statistics) | mapped(
        completion=completion, label=label, answer=first_of(set(keys) - {completion}, ANSWERS)
    )
    return Found(mapping, f"{label} says whether {completion} is a good answer to {prompt}.")


def read_feedback(fields: Fields) -> Row:
    label = fields.label()
    turns = fields.conversation(fields.talk()) if fields.has("messages") else answered_turns(fields)
    return Row(
        prompt=turns[:-1],
        completion=turns[-1:],
        label=label,
        answer=fields.answer(),
        tools=fields.tools,
    )
