"""Prompts with the answer to learn, and prompts with what a right answer comes to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema.columns import (
    ANSWERS,
    CALLED,
    COMPLETIONS,
    NESTED_ANSWER,
    PROMPTS,
    REASONING,
    TOOLS,
    ColumnStatistics,
    first_of,
)
from workers.data.schema.fields import Fields
from workers.data.schema.found import Found, context_of, mapped, prompt_columns, prompt_of
from workers.data.schema.messages import Message
from workers.data.schema.row import Row
from workers.data.schema.tool_calls import as_calls


def find_prompt_completion(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = prompt_of(keys)
    return None if prompt == "instruction" else _answered(prompt, keys, statistics)


def find_alpaca(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = prompt_of(keys)
    return _answered(prompt, keys, statistics) if prompt == "instruction" else None


def completion_of(prompt: str, keys: Collection[str], statistics: ColumnStatistics) -> str:
    """The column with the answer to learn; empty where there is none."""
    context = context_of(prompt, keys, statistics)
    completion = first_of(set(keys) - {prompt, context}, COMPLETIONS)
    if not completion and CALLED in keys and first_of(keys, TOOLS):
        completion = CALLED
    return completion or _two_meanings(prompt, keys, statistics)


def _answered(prompt: str, keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    """A prompt with a completion, under one of many names."""
    completion = completion_of(prompt, keys, statistics) if prompt else ""
    if not completion:
        return None
    context = context_of(prompt, keys, statistics)
    answer = first_of(set(keys) - {completion}, ANSWERS) or (
        NESTED_ANSWER if NESTED_ANSWER in keys else ""
    )
    mapping = prompt_columns(prompt, keys, statistics)
    thinking = first_of(statistics.wordy & statistics.texts & set(keys), REASONING)
    mapping |= mapped(completion=completion, answer=answer, reasoning=thinking)
    also = not answer and completion in ("answer", "solution") and completion not in statistics.long
    why = f"{prompt}{f' with {context}' if context else ''} is the prompt, {completion} the answer"
    why += f" behind the thinking in {thinking}" if thinking else ""
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


def read_answered(fields: Fields) -> Row:
    messages = answered_turns(fields)
    answer = fields.answer()
    if fields.detected.answer_too:
        answer = messages[-1]["content"]
    return Row(prompt=messages[:-1], completion=messages[-1:], answer=answer, tools=fields.tools)


def answered_turns(fields: Fields) -> list[Message]:
    """The prompt's turns and the completion's, which may be calls, or the whole conversation."""
    value = fields.need("completion")
    calls = as_calls(value) if fields.tools else None
    if calls:
        called = {"role": "assistant", "content": "", "tool_calls": calls}
        return fields.conversation([*fields.asked(), called])
    said = fields.said("completion")
    if begins(said):
        whole = fields.conversation(fields.led(said), "completion")
        fields.check_prompt(whole, "completion")
        return whole
    return fields.conversation(fields.asked() + _thinking(fields, said))


def _thinking(fields: Fields, said: list[Any]) -> list[Any]:
    """A completion with the thinking of its own column; thinking that it has already counts."""
    thought, last = fields.get("reasoning"), said[-1] if said else None
    if thought is not None and not isinstance(thought, str):
        raise RowFault("value", f'"{fields.name("reasoning")}" must be text')
    content = last.get("content") if isinstance(last, dict) else None
    if not thought or not isinstance(content, str) or "<think>" in content:
        return said
    return [*said[:-1], {"reasoning_content": thought} | said[-1]]


def begins(turns: list[Any]) -> bool:
    """Whether turns begin a conversation instead of answering in one."""
    first = turns[0] if turns else None
    if not isinstance(first, dict):
        return False
    return (first.get("role") or first.get("from")) not in ("assistant", "gpt", "model")


def find_prompt_answer(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    prompt = first_of(keys, PROMPTS)
    answer = first_of(keys, (*ANSWERS, "solution", NESTED_ANSWER))
    if not (prompt and answer):
        return None
    mapping = prompt_columns(prompt, keys, statistics) | mapped(answer=answer)
    why = f"{prompt} is the prompt, {answer} what a right answer comes to."
    return Found(mapping=mapping, why=why)


def read_prompt_answer(fields: Fields) -> Row:
    prompt = fields.conversation(fields.asked(), "prompt", asks=True)
    answer = fields.answer()
    if not answer.strip():
        raise RowFault("empty_answer", f'"{fields.name("answer")}" is empty')
    return Row(prompt=prompt, answer=answer, tools=fields.tools)
