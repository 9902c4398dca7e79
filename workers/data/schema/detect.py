"""What a dataset's columns are to us, and each row in that light.

Detection goes by the names of the columns, the more telling ones first, and by a look at the first
rows where a name has two meanings: an `answer` or `solution` is a whole completion where it is
long, and else what a right completion comes to. A mapping written by hand takes its place.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec

from workers.data.read.jsonl import RowFault
from workers.data.schema.messages import (
    MEDIA,
    Message,
    check_conversation,
    check_media,
    tools_of,
    transcript,
    turns_of,
)
from workers.protocol.recipe import Column, Stage
from workers.protocol.refusal import Refusal

Format = Literal[
    "chat", "prompt_completion", "alpaca", "preference", "feedback", "prompt_answer", "text"
]
SCHEMAS: dict[Format, str] = {
    "chat": 'a "messages" list',
    "prompt_completion": 'a "prompt" with a "completion"',
    "alpaca": 'an "instruction" with an "output" (Alpaca)',
    "preference": 'a "prompt" with a "chosen" and a "rejected" answer',
    "feedback": 'a "prompt" with a "completion", or "messages", and a "label" (true is good)',
    "prompt_answer": 'a "prompt" with an "answer"',
    "text": 'a "text"',
}
"""What a row of each shape holds, in words."""

CONVERSATIONS = ("messages", "conversations", "conversation")
CHOSEN, REJECTED = ("chosen", "chosen_response"), ("rejected", "rejected_response")
PROMPTS = ("prompt", "question", "problem", "query", "instruction", "input", "user")
CONTEXTS = ("input", "context")
"""What an instruction may be followed by."""
COMPLETIONS = ("completion", "response", "output", "generated_solution", "assistant", "target")
ANSWERS = ("answer", "expected_answer", "final_answer", "ground_truth")
NESTED_ANSWER = "reward_model.ground_truth"
"""Where DAPO's and verl's sets keep it."""
LABELS = ("label", "kto_tag")
"""Where it stands whether an answer is good."""
SYSTEMS = ("system", "system_prompt")
TEXTS = ("text", "content")
LONG = 100
"""Characters beyond which an answer is a completion, as is one of several lines."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row, whatever its shape was: what is asked, what is said to it, and what is right.

    `prompt` ends with the user's turn and is empty for plain text. A chat with several turns has
    all but the last answer in its prompt.
    """

    prompt: list[Message] = []
    completion: list[Message] = []
    """The assistant's answer, one turn; the better one of a pair."""
    rejected: list[Message] = []
    """The worse answer of a pair."""
    label: bool | None = None
    """The label that the completion got."""
    answer: str = ""
    """What a right completion comes to."""
    text: str = ""
    tools: list[dict[str, Any]] = []
    """Definitions of the tools that the conversation may call."""

    @property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return [*self.prompt, *self.completion]

    @property
    def uses_tools(self) -> bool:
        """Whether a model's template must know of tools to show the conversation."""
        turns = [*self.messages, *self.rejected]
        return bool(self.tools) or any(
            turn["role"] == "tool" or "tool_calls" in turn for turn in turns
        )


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset was taken for."""

    format: Format
    mapping: dict[str, Column]
    """Their columns to ours; a dot leads into a column of objects."""
    why: str
    """What decided it, in a sentence."""
    answer_too: bool = False
    """Whether the completion is also what a right one comes to, being short."""
    stages: list[Stage] = []
    """The stages that can learn from it."""
    unused: list[str] = []
    """Columns that are not looked at."""


class ColumnStatistics(msgspec.Struct, frozen=True):
    """What the first rows tell beyond the names of their columns."""

    long: frozenset[str] = frozenset()
    """Columns with long text or text of several lines."""
    labels: frozenset[str] = frozenset()
    """Columns that are true or false throughout; 1 and 0 may mean anything."""


def weigh(rows: Iterable[Mapping[str, Any]]) -> ColumnStatistics:
    """Looks at the first rows."""
    long: set[str] = set()
    labels: dict[str, bool] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and (len(value) > LONG or "\n" in value.strip()):
                long.add(name)
            if value is not None:
                labels[name] = labels.get(name, True) and (
                    isinstance(value, bool) or str(value).lower() in ("true", "false")
                )
    return ColumnStatistics(
        frozenset(long), frozenset(name for name, label in labels.items() if label)
    )


# Detection


def detect(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    """What rows with these columns are; None where no shape fits."""
    for look in (_preference, _feedback, _chat, _answered, _prompt_answer, _text):
        found = look(keys, evidence)
        if found is not None:
            used = {column.partition(".")[0] for column in found.mapping}
            unused = sorted(set(keys) - used)
            return msgspec.structs.replace(found, unused=unused)
    return None


def _first(keys: Collection[str], names: Iterable[str]) -> str:
    return next((name for name in names if name in keys), "")


def _mapped(**ours: str) -> dict[str, Column]:
    """Their columns to ours from ours to theirs, leaving out what is not there."""
    return {theirs: column for column, theirs in ours.items() if theirs}  # type: ignore[misc]


def _preference(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    chosen, rejected = _first(keys, CHOSEN), _first(keys, REJECTED)
    if not (chosen and rejected):
        return None
    prompt = _first(keys, PROMPTS)
    mapping = _mapped(
        system=_first(keys, SYSTEMS), prompt=prompt, chosen=chosen, rejected=rejected,
        answer=_first(keys, ANSWERS),
    )  # fmt: skip
    how = f"to {prompt}" if prompt else "that are whole conversations"
    why = f"{chosen} and {rejected} are a better and a worse answer {how}."
    return Detected(format="preference", mapping=mapping, why=why)


def _feedback(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    label = _first(keys, LABELS)
    if not label:
        return None
    talk = _first(keys, CONVERSATIONS)
    if talk and label in evidence.labels:
        return _rated(keys, talk, label)
    plain = {"prompt", "completion"} <= set(keys)
    prompt = _first(keys, PROMPTS)
    completion = _first(set(keys) - {prompt}, (*COMPLETIONS, "answer"))
    if not (plain or (prompt and completion and label in evidence.labels)):
        return None
    mapping = _mapped(
        system=_first(keys, SYSTEMS), prompt=prompt, completion=completion, label=label,
        answer=_first(set(keys) - {completion}, ANSWERS),
    )  # fmt: skip
    why = f"{label} says whether {completion} is a good answer to {prompt}."
    return Detected(format="feedback", mapping=mapping, why=why)


def _rated(keys: Collection[str], talk: str, label: str) -> Detected:
    """Whole conversations, each with a label for its last answer."""
    mapping = _mapped(
        messages=talk, label=label, system=_first(keys, SYSTEMS), tools=_first(keys, ("tools",)),
        answer=_first(keys, ANSWERS),
    )  # fmt: skip
    why = f"{label} says whether the last answer of {talk} is good."
    return Detected(format="feedback", mapping=mapping, why=why)


def _chat(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    name = _first(keys, CONVERSATIONS)
    if not name:
        return None
    mapping = _mapped(
        messages=name, system=_first(keys, SYSTEMS), tools=_first(keys, ("tools",)),
        answer=_first(keys, ANSWERS),
    )  # fmt: skip
    return Detected(format="chat", mapping=mapping, why=f"{name} holds conversations.")


def _answered(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    """A prompt with a completion, under one of many names."""
    prompt = _first(keys, PROMPTS)
    if prompt == "input" and "instruction" in keys:
        prompt = "instruction"
    if not prompt:
        return None
    context = _first(set(keys) - {prompt}, CONTEXTS) if prompt == "instruction" else ""
    completion = _first(set(keys) - {prompt, context}, COMPLETIONS)
    completion = completion or _two_meanings(prompt, keys, evidence)
    if not completion:
        return None
    answer = _first(set(keys) - {completion}, ANSWERS) or (
        NESTED_ANSWER if NESTED_ANSWER in keys else ""
    )
    mapping: dict[str, Column] = _mapped(system=_first(keys, SYSTEMS), prompt=prompt)
    mapping |= _mapped(prompt=context) | _mapped(completion=completion, answer=answer)
    also = not answer and completion in ("answer", "solution") and completion not in evidence.long
    why = f"{prompt}{f' with {context}' if context else ''} is the prompt, {completion} the answer"
    why += ", short enough to be compared with too." if also else " to learn."
    shape: Format = "alpaca" if prompt == "instruction" else "prompt_completion"
    return Detected(format=shape, mapping=mapping, why=why, answer_too=also)


def _two_meanings(prompt: str, keys: Collection[str], evidence: ColumnStatistics) -> str:
    """`solution` or `answer` where it is what is to be said, not what is to be compared with."""
    others = set(keys) & set(ANSWERS)
    if "solution" in keys and (prompt != "prompt" or "solution" in evidence.long or others):
        return "solution"
    if "answer" in keys and "solution" not in keys:
        asked = prompt != "prompt" and not others - {"answer"}
        if asked or "answer" in evidence.long:
            return "answer"
    return ""


def _prompt_answer(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    prompt = _first(keys, PROMPTS)
    answer = _first(keys, (*ANSWERS, "solution", NESTED_ANSWER))
    if not (prompt and answer):
        return None
    mapping = _mapped(system=_first(keys, SYSTEMS), prompt=prompt, answer=answer)
    why = f"{prompt} is the prompt, {answer} what a right answer comes to."
    return Detected(format="prompt_answer", mapping=mapping, why=why)


def _text(keys: Collection[str], evidence: ColumnStatistics) -> Detected | None:
    name = _first(keys, TEXTS)
    if not name:
        return None
    return Detected(format="text", mapping=_mapped(text=name), why=f"{name} is plain text.")


# Mapping by hand

NEEDED: list[tuple[Format, set[str]]] = [
    ("preference", {"chosen", "rejected"}),
    ("feedback", {"prompt", "completion", "label"}),
    ("feedback", {"messages", "label"}),
    ("chat", {"messages"}),
    ("prompt_completion", {"prompt", "completion"}),
    ("prompt_answer", {"prompt", "answer"}),
    ("text", {"text"}),
]
"""The columns that a mapping must fill for each shape, the more telling ones first."""


def from_mapping(mapping: Mapping[str, Column], source: str, why: str) -> Detected:
    """The shape that a mapping gives; refuses one that gives none."""
    ours = list(mapping.values())
    twice = next((one for one in ours if ours.count(one) > 1 and one != "prompt"), None)
    if twice:
        columns = [theirs for theirs, one in mapping.items() if one == twice]
        raise Refusal(
            f"The mapping of {source} takes {' and '.join(columns)} both for {twice}.",
            "Only prompt may be put together from several columns.",
            "Leave all but one of them out.",
        )
    shape: Format | None = next((shape for shape, need in NEEDED if need <= set(ours)), None)
    if shape is None:
        options = "; ".join(" with ".join(sorted(needed)) for _, needed in NEEDED)
        raise Refusal(
            f"The mapping of {source} gives no row that can be learnt from.",
            f"It fills {', '.join(ours)}.",
            f"Fill one of these: {options}.",
        )
    return Detected(format=shape, mapping=dict(mapping), why=why)


def check_columns(mapping: Mapping[str, Column], rows: list[dict[str, Any]], source: str) -> None:
    """Refuses a mapping that names a column which none of the first rows has."""
    present = {name for row in rows for name in columns_of(row)}
    for theirs in mapping:
        if rows and theirs not in present and all(_picked(row, theirs) is None for row in rows):
            close = difflib.get_close_matches(theirs, present, n=1)
            raise Refusal(
                f"The dataset {source} has no column {theirs}, which its mapping names.",
                f"Its columns are {', '.join(sorted(present)) or 'none'}.",
                f"Did you mean {close[0]}?" if close else "Name one of those.",
            )


# Rows


class RowParser:
    """Makes rows of one dataset, all in the shape of its first usable one."""

    def __init__(self, sample: list[Any], fixed: Detected | None = None) -> None:
        self._evidence = weigh([row for row in sample if isinstance(row, dict)])
        self._fixed = fixed
        self._known: dict[frozenset[str], Detected | None] = {}
        self.detected = fixed

    def row(self, value: Any) -> Row:
        """One row; raises `RowFault` where it cannot be used."""
        if isinstance(value, RowFault):
            raise value
        if not isinstance(value, dict):
            raise RowFault(f"a row must be an object, this is {type(value).__name__}")
        found = self._fixed or self._detect(value)
        if not MEDIA.isdisjoint(value):
            check_media(value, found.mapping)
        made = READERS[found.format](Fields(value, found))
        self._remember(found)
        return made

    def _detect(self, item: dict[str, Any]) -> Detected:
        filled = frozenset(columns_of(item))
        if filled not in self._known:
            self._known[filled] = detect(filled, self._evidence)
        found = self._known[filled] or detect(item.keys(), self._evidence)
        if found is None:
            keys = ", ".join(sorted(map(str, item))) or "none"
            missing = self._missing(item)
            raise RowFault(f"{missing}its keys are {keys}")
        first = self.detected
        if first is None:
            return found
        if found.format != first.format:
            raise RowFault(f"it is {found.format} where the rows before are {first.format}")
        theirs = {column: name for name, column in first.mapping.items()}
        for name, column in found.mapping.items():
            if name not in first.mapping and column in theirs and theirs[column] not in item:
                raise RowFault(f'it has no column "{theirs[column]}" but "{name}"')
        return found

    def _missing(self, item: dict[str, Any]) -> str:
        if self.detected is None:
            return ""
        gone = [name for name in self.detected.mapping if _picked(item, name) is None]
        return f"the column {' and '.join(gone)} is missing; " if gone else ""

    def _remember(self, found: Detected) -> None:
        if self.detected is None:
            self.detected = found
        elif not found.mapping.keys() <= self.detected.mapping.keys():
            mapping = self.detected.mapping | found.mapping
            self.detected = msgspec.structs.replace(self.detected, mapping=mapping)


def columns_of(item: dict[str, Any]) -> list[str]:
    """The columns that a row fills, the nested one that is known among them."""
    filled = [name for name, value in item.items() if value is not None]
    if _picked(item, NESTED_ANSWER) is not None:
        filled.append(NESTED_ANSWER)
    return filled


def _picked(item: dict[str, Any], name: str) -> Any:
    """A column's value; a dot leads into an object unless a column is called just so."""
    if name in item or "." not in name:
        return item.get(name)
    outer, _, inner = name.partition(".")
    value = item.get(outer)
    return _picked(value, inner) if isinstance(value, dict) else None


class Fields:
    """One row by our names for its columns, which faults call by theirs."""

    def __init__(self, item: dict[str, Any], detected: Detected) -> None:
        self._item = item
        self.detected = detected
        self._theirs: dict[str, list[str]] = {}
        for name, column in detected.mapping.items():
            self._theirs.setdefault(column, []).append(name)

    def name(self, column: Column) -> str:
        return self._theirs.get(column, [column])[0]

    def get(self, column: Column) -> Any:
        """The value, or None; a prompt of several columns is their texts, a blank line between."""
        names = self._theirs.get(column, [])
        if len(names) < 2:
            return _picked(self._item, names[0]) if names else None
        parts = [_picked(self._item, name) for name in names]
        if not all(isinstance(part, str | None) for part in parts):
            raise RowFault(f"{' and '.join(names)} must be text")
        return "\n\n".join(part for part in parts if part and part.strip())

    def need(self, column: Column) -> Any:
        value = self.get(column)
        if value is None:
            known = self.name(column) in self._item
            raise RowFault(f'"{self.name(column)}" is {"empty" if known else "missing"}')
        return value

    def answer(self) -> str:
        """The right answer as text, empty when the row has none."""
        answer = self.get("answer")
        if answer is None:
            return ""
        name = self.name("answer")
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise RowFault(f'"{name}" must be text or a number')
        if isinstance(answer, float) and not math.isfinite(answer):
            raise RowFault(f'"{name}" is {answer}, which is no number')
        return str(answer)

    def asked(self) -> list[Any]:
        """The prompt's turns, the system's before them."""
        return self.led(turns_of(self.need("prompt"), "user", self.name("prompt")))

    def led(self, turns: Any) -> Any:
        """The turns behind the system column's text, where there is one."""
        system = self.get("system")
        if system is None or system == "":
            return turns
        if not isinstance(system, str):
            raise RowFault(f'"{self.name("system")}" must be text')
        if not isinstance(turns, list):
            return turns
        first = turns[0] if turns else None
        if isinstance(first, dict) and "system" in (first.get("role"), first.get("from")):
            raise RowFault(f'it has a system message and a column "{self.name("system")}"')
        return [{"role": "system", "content": system}, *turns] if system.strip() else turns

    def said(self, column: Column) -> list[Any]:
        """An answer as turns."""
        return turns_of(self.need(column), "assistant", self.name(column))


def _read_chat(fields: Fields) -> Row:
    messages, tools = _conversation(fields), fields.get("tools")
    return Row(
        prompt=messages[:-1],
        completion=messages[-1:],
        answer=fields.answer(),
        tools=tools_of(tools) if tools else [],
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
    return Row(prompt=messages[:-1], completion=messages[-1:], answer=answer)


def _read_preference(fields: Fields) -> Row:
    """A pair; without a prompt both answers are whole conversations that begin alike."""
    names = fields.name("chosen"), fields.name("rejected")
    chosen, rejected = _side(fields, "chosen"), _side(fields, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise RowFault(f'"{names[0]}" and "{names[1]}" answer different prompts')
    if chosen == rejected:
        raise RowFault(f'"{names[0]}" and "{names[1]}" are the same')
    return Row(
        prompt=chosen[:-1], completion=chosen[-1:], rejected=rejected[-1:], answer=fields.answer()
    )


def _side(fields: Fields, column: Column) -> list[Message]:
    """One side of a pair as a whole conversation."""
    name, value = fields.name(column), fields.need(column)
    turns = (transcript(value) or value) if isinstance(value, str) else value
    prompt = fields.get("prompt")
    whole = isinstance(turns, list) and _begins(turns)
    if prompt is None and not isinstance(turns, list):
        raise RowFault(f'"{name}" is text and there is no prompt column beside it')
    if prompt is not None and not whole:
        return check_conversation(fields.asked() + turns_of(turns, "assistant", name), name)
    made = check_conversation(fields.led(turns), name)
    if prompt is not None and not _starts_with(made, prompt):
        raise RowFault(f'"{name}" begins with another prompt than "{fields.name("prompt")}"')
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
        raise RowFault(f'"{fields.name("label")}" must be true or false')
    if fields.get("messages") is not None:
        return msgspec.structs.replace(_read_chat(fields), label=good)
    turns = check_conversation(fields.asked() + fields.said("completion"))
    return Row(prompt=turns[:-1], completion=turns[-1:], label=good, answer=fields.answer())


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
        raise RowFault(f'"{fields.name("answer")}" is empty')
    return Row(prompt=prompt, answer=answer)


def _read_text(fields: Fields) -> Row:
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RowFault(f'"{fields.name("text")}" must be text and not empty')
    return Row(text=text)


READERS: dict[Format, Callable[[Fields], Row]] = {
    "chat": _read_chat,
    "prompt_completion": _read_answered,
    "alpaca": _read_answered,
    "preference": _read_preference,
    "feedback": _read_feedback,
    "prompt_answer": _read_prompt_answer,
    "text": _read_text,
}
