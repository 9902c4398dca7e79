"""What a chat template needs of its turns beyond role and content, found by rendering probes."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple, cast

from workers.data.schema.messages import Message

ASKED, ANSWERED = "\ue002", "\ue003"
"""Stand for a question and its answer; of no meaning to a template."""


class Traits(NamedTuple):
    no_system: bool = False
    """It refuses a system turn (Gemma 2)."""
    parts: bool = False
    """It reads contents in parts alone, as those of vision models do (Idefics 3)."""
    text_arguments: bool = False
    """It takes the arguments of a call as JSON in text alone (DeepSeek-V3)."""
    empty_tools: bool = False
    """It needs a list of tools though there are none (Hermes)."""


def rendered(template: str, messages: list[Message], **variables: Any) -> str:
    """A conversation in a template's text alone, without special tokens; empty where it fails."""
    from transformers.utils.chat_template_utils import render_jinja_template

    tokens: dict[str, Any] = {"bos_token": "", "eos_token": ""}
    try:
        texts, _ = render_jinja_template(
            conversations=cast("Any", [messages]), chat_template=template, **tokens | variables
        )
    except Exception:  # templates raise what they like
        return ""
    return texts[0]


@lru_cache(maxsize=32)
def traits_of(template: str) -> Traits:
    """What one question and its answer tell of a template."""
    talk: list[Message] = [
        {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
    ]  # fmt: skip
    if ANSWERED not in rendered(template, talk):
        return Traits(
            parts=ANSWERED in rendered(template, [_in_parts(turn) for turn in talk]),
            empty_tools=ANSWERED in rendered(template, talk, tools=[]),
        )
    system: Message = {"role": "system", "content": "?"}
    called: Message = {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "id": "a00000000", "function": {"name": "f", "arguments": {"a": "b"}}}
    ]}  # fmt: skip
    return Traits(
        no_system=not rendered(template, [system, *talk]),
        text_arguments=not rendered(template, [talk[0], called])
        and bool(rendered(template, [talk[0], _in_text(called)])),
    )


def as_taken(messages: list[Message], template: str) -> list[Message]:
    """The turns as a template takes them."""
    traits = traits_of(template)
    if traits.no_system and is_led(messages):
        messages = _led(messages)
    if traits.parts:
        messages = [_in_parts(turn) for turn in messages]
    if traits.text_arguments:
        messages = [_in_text(turn) if "tool_calls" in turn else turn for turn in messages]
    return messages


def is_led(messages: list[Message]) -> bool:
    """Whether a system turn comes before the first of the user's."""
    return [turn["role"] for turn in messages[:2]] == ["system", "user"]


def _led(messages: list[Message]) -> list[Message]:
    """The system's text before the first of the user's, as Gemma 3 writes it."""
    system, asked, *others = messages
    return [asked | {"content": f"{system['content']}\n\n{asked['content']}"}, *others]


def _in_parts(turn: Message) -> Message:
    content = turn["content"]
    return turn | {"content": [{"type": "text", "text": content}]} if content else turn


def _in_text(turn: Message) -> Message:
    calls = [
        call | {"function": call["function"] | {
            "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}}
        for call in turn["tool_calls"]
    ]  # fmt: skip
    return turn | {"tool_calls": calls}
