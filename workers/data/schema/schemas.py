"""The schemas that a dataset's rows may have, each declared once.

A declaration says in words what a row holds, finds it by the names of the columns, and makes a row
of it. Names are looked at in the order of how telling they are; the first rows decide where a name
has two meanings: an `answer` or `solution` is a whole completion where it is long, and else what a
right completion comes to. To add a schema: its declaration here, and its test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec

from workers.data.read.fault import RowFault
from workers.data.schema.columns import (
    ANSWERS,
    CHOSEN,
    COMPLETIONS,
    CONTEXTS,
    CONVERSATIONS,
    LABELS,
    NESTED_ANSWER,
    PROMPTS,
    REJECTED,
    SYSTEMS,
    TEXTS,
    TOOLS,
    ColumnStatistics,
    first_of,
)
from workers.data.schema.fields import Fields
from workers.data.schema.messages import (
    Message,
    check_conversation,
    transcript,
    turns_of,
)
from workers.data.schema.row import Row
from workers.protocol.recipe import Column


class Found(NamedTuple):
    """Columns in which a schema was found."""

    mapping: dict[str, Column]
    """Their columns to ours."""
    why: str
    """What decided it, in a sentence."""
    answer_too: bool = False
    """Whether the completion is also the reference answer, being short."""


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


# Columns


def _mapped(**ours: str) -> dict[str, Column]:
    """Their columns to ours from ours to theirs, leaving out what is not there."""
    return {theirs: column for column, theirs in ours.items() if theirs}  # type: ignore[misc]


def _find_preference(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    chosen, rejected = first_of(keys, CHOSEN), first_of(keys, REJECTED)
    if not (chosen and rejected):
        return None
    prompt = first_of(keys, PROMPTS)
    mapping = _mapped(
        system=first_of(keys, SYSTEMS), prompt=prompt, chosen=chosen, rejected=rejected,
        tools=first_of(keys, TOOLS), answer=first_of(keys, ANSWERS),
    )  # fmt: skip
    how = f"to {prompt}" if prompt else "that are whole conversations"
    why = f"{chosen} and {rejected} are a better and a worse answer {how}."
    return Found(mapping=mapping, why=why)


def _find_feedback(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    label = first_of(keys, LABELS)
    if not label:
        return None
    talk = first_of(keys, CONVERSATIONS)
    if talk and label in statistics.labels:
        return _rated(keys, talk, label)
    plain = {"prompt", "completion"} <= set(keys)
    prompt = first_of(keys, PROMPTS)
    completion = first_of(set(keys) - {prompt}, (*COMPLETIONS, "answer"))
    if not (plain or (prompt and completion and label in statistics.labels)):
        return None
    mapping = _mapped(
        system=first_of(keys, SYSTEMS), prompt=prompt, completion=completion, label=label,
        tools=first_of(keys, TOOLS), answer=first_of(set(keys) - {completion}, ANSWERS),
    )  # fmt: skip
    why = f"{label} says whether {completion} is a good answer to {prompt}."
    return Found(mapping=mapping, why=why)


def _rated(keys: Collection[str], talk: str, label: str) -> Found:
    """Whole conversations, each with a label for its last answer."""
    mapping = _mapped(
        messages=talk, label=label, system=first_of(keys, SYSTEMS),
        tools=first_of(keys, TOOLS), answer=first_of(keys, ANSWERS),
    )  # fmt: skip
    why = f"{label} says whether the last answer of {talk} is good."
    return Found(mapping=mapping, why=why)


def _find_chat(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    name = first_of(keys, CONVERSATIONS)
    if not name:
        return None
    mapping = _mapped(
        messages=name, system=first_of(keys, SYSTEMS), tools=first_of(keys, TOOLS),
        answer=first_of(keys, ANSWERS),
    )  # fmt: skip
    return Found(mapping=mapping, why=f"{name} holds conversations.")


def _find_prompt_completion(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = _asked(keys)
    return None if prompt == "instruction" else _answered(prompt, keys, statistics)


def _find_alpaca(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = _asked(keys)
    return _answered(prompt, keys, statistics) if prompt == "instruction" else None


def _asked(keys: Collection[str]) -> str:
    """The column of the prompt; an input beside an instruction is its context."""
    prompt = first_of(keys, PROMPTS)
    return "instruction" if prompt == "input" and "instruction" in keys else prompt


def _answered(prompt: str, keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    """A prompt with a completion, under one of many names."""
    if not prompt:
        return None
    context = first_of(set(keys) - {prompt}, CONTEXTS) if prompt == "instruction" else ""
    completion = first_of(set(keys) - {prompt, context}, COMPLETIONS)
    completion = completion or _two_meanings(prompt, keys, statistics)
    if not completion:
        return None
    answer = first_of(set(keys) - {completion}, ANSWERS) or (
        NESTED_ANSWER if NESTED_ANSWER in keys else ""
    )
    mapping = _mapped(
        system=first_of(keys, SYSTEMS), prompt=prompt, tools=first_of(keys, TOOLS)
    )  # fmt: skip
    mapping |= _mapped(prompt=context) | _mapped(completion=completion, answer=answer)
    also = not answer and completion in ("answer", "solution") and completion not in statistics.long
    why = f"{prompt}{f' with {context}' if context else ''} is the prompt, {completion} the answer"
    why += ", short enough to be compared with too." if also else " to learn."
    return Found(mapping=mapping, why=why, answer_too=also)


def _two_meanings(prompt: str, keys: Collection[str], statistics: ColumnStatistics) -> str:
    """`solution` or `answer` where it is what is to be said, not what is to be compared with."""
    others = set(keys) & set(ANSWERS)
    if "solution" in keys and (prompt != "prompt" or "solution" in statistics.long or others):
        return "solution"
    if "answer" in keys and "solution" not in keys:
        asked = prompt != "prompt" and not others - {"answer"}
        if asked or "answer" in statistics.long:
            return "answer"
    return ""


def _find_prompt_answer(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = first_of(keys, PROMPTS)
    answer = first_of(keys, (*ANSWERS, "solution", NESTED_ANSWER))
    if not (prompt and answer):
        return None
    mapping = _mapped(
        system=first_of(keys, SYSTEMS), prompt=prompt, tools=first_of(keys, TOOLS), answer=answer
    )  # fmt: skip
    why = f"{prompt} is the prompt, {answer} what a right answer comes to."
    return Found(mapping=mapping, why=why)


def _find_text(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    name = first_of(keys, TEXTS)
    if not name:
        return None
    return Found(mapping=_mapped(text=name), why=f"{name} is plain text.")


# Rows


def _read_chat(fields: Fields) -> Row:
    messages = _conversation(fields)
    return Row(
        prompt=messages[:-1],
        completion=messages[-1:],
        answer=fields.answer(),
        tools=fields.tools(),
    )


def _conversation(fields: Fields) -> list[Message]:
    name = fields.name("messages")
    value = fields.need("messages")
    turns = turns_of(value, "user", name) if isinstance(value, str) else value
    return check_conversation(fields.led(turns), name)


def _read_answered(fields: Fields) -> Row:
    messages = check_conversation(fields.asked() + fields.said("completion"))
    answer = fields.answer()
    if fields.detected.answer_too:
        answer = messages[-1]["content"]
    return Row(
        prompt=messages[:-1], completion=messages[-1:], answer=answer, tools=fields.tools()
    )  # fmt: skip


def _read_preference(fields: Fields) -> Row:
    """A pair; without a prompt both answers are whole conversations that begin alike."""
    names = fields.name("chosen"), fields.name("rejected")
    chosen, rejected = _side(fields, "chosen"), _side(fields, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise RowFault("value", f'"{names[0]}" and "{names[1]}" answer different prompts')
    if chosen == rejected:
        raise RowFault("chosen_equals_rejected", f'"{names[0]}" and "{names[1]}" are the same')
    return Row(
        prompt=chosen[:-1], completion=chosen[-1:], rejected=rejected[-1:],
        answer=fields.answer(), tools=fields.tools(),
    )  # fmt: skip


def _side(fields: Fields, column: Column) -> list[Message]:
    """One side of a pair as a whole conversation."""
    name, value = fields.name(column), fields.need(column)
    turns = (transcript(value) or value) if isinstance(value, str) else value
    prompt = fields.get("prompt")
    whole = isinstance(turns, list) and _begins(turns)
    if prompt is None and not isinstance(turns, list):
        raise RowFault("value", f'"{name}" is text and there is no prompt column beside it')
    if prompt is not None and not whole:
        return check_conversation(fields.asked() + turns_of(turns, "assistant", name), name)
    made = check_conversation(fields.led(turns), name)
    if prompt is not None and not _starts_with(made, prompt):
        raise RowFault(
            "value", f'"{name}" begins with another prompt than "{fields.name("prompt")}"'
        )
    return made


def _begins(turns: list[Any]) -> bool:
    """Whether turns begin a conversation instead of answering in one."""
    first = turns[0] if turns else None
    if not isinstance(first, dict):
        return False
    return (first.get("role") or first.get("from")) not in ("assistant", "gpt", "model")


def _starts_with(turns: list[Message], prompt: Any) -> bool:
    if isinstance(prompt, list):
        begun = [turn.get("content") for turn in prompt if isinstance(turn, dict)]
        said = [turn["content"] for turn in turns[:-1] if turn["role"] != "system"]
        return begun == [turn["content"] for turn in turns[: len(prompt)]] or begun == said
    asked = [turn["content"].strip() for turn in turns if turn["role"] == "user"]
    return isinstance(prompt, str) and prompt.strip() in asked


def _read_feedback(fields: Fields) -> Row:
    good = _label(fields.need("label"))
    if good is None:
        raise RowFault("value", f'"{fields.name("label")}" must be true or false')
    if fields.get("messages") is not None:
        return msgspec.structs.replace(_read_chat(fields), label=good)
    turns = check_conversation(fields.asked() + fields.said("completion"))
    return Row(
        prompt=turns[:-1], completion=turns[-1:], label=good, answer=fields.answer(),
        tools=fields.tools(),
    )  # fmt: skip


def _label(value: Any) -> bool | None:
    """True or false, also as 1 or 0 and, as CSV has to write it, in letters."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool) or (value in (0, 1)) else None


def _read_prompt_answer(fields: Fields) -> Row:
    asked = [*fields.asked(), {"role": "assistant", "content": "-"}]
    prompt = check_conversation(asked)[:-1]
    answer = fields.answer()
    if not answer.strip():
        raise RowFault("empty_answer", f'"{fields.name("answer")}" is empty')
    return Row(prompt=prompt, answer=answer, tools=fields.tools())


def _read_text(fields: Fields) -> Row:
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RowFault("value", f'"{fields.name("text")}" must be text and not empty')
    return Row(text=text)


_DECLARED = (
    Schema(
        "chat", 'a "messages" list', _find_chat, _read_chat, (frozenset({"messages"}),)
    ),
    Schema(
        "prompt_completion", 'a "prompt" with a "completion"', _find_prompt_completion,
        _read_answered, (frozenset({"prompt", "completion"}),),
    ),
    Schema(
        "alpaca", 'an "instruction" with an "output" (Alpaca)', _find_alpaca, _read_answered
    ),
    Schema(
        "preference", 'a "prompt" with a "chosen" and a "rejected" answer', _find_preference,
        _read_preference, (frozenset({"chosen", "rejected"}),), telling=2,
    ),
    Schema(
        "feedback",
        'a "prompt" with a "completion", or "messages", and a "label" (true is good)',
        _find_feedback, _read_feedback,
        (frozenset({"prompt", "completion", "label"}), frozenset({"messages", "label"})),
        telling=1,
    ),
    Schema(
        "prompt_answer", 'a "prompt" with an "answer"', _find_prompt_answer, _read_prompt_answer,
        (frozenset({"prompt", "answer"}),),
    ),
    Schema("text", 'a "text"', _find_text, _read_text, (frozenset({"text"}),)),
)  # fmt: skip

SCHEMAS: dict[str, Schema] = {schema.name: schema for schema in _DECLARED}
"""Every schema by its name, in the order in which they are named to people."""


def by_telling() -> list[Schema]:
    """The schemas in the order in which columns are held against them."""
    return sorted(SCHEMAS.values(), key=lambda schema: -schema.telling)
