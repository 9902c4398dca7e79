"""Conversations as the world writes them, brought to one form and checked turn by turn.

Known are role and content (OpenAI), from and value (ShareGPT), content in parts, calls of tools
with what they gave, and transcripts of "Human:" and "Assistant:".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection
from typing import Any

from workers.data.read.fault import RowFault

Message = dict[str, Any]
"""A turn: `role` and `content`, both text; of an assistant perhaps its `reasoning_content`, the
thinking beside its content, and `tool_calls`; of a tool perhaps the `name` and the `tool_call_id`
that it answers."""
ROLES = ("system", "user", "assistant", "tool")
PLAIN, SHARED = {"role", "content"}, {"from", "value"}
"""The keys of a turn that says nothing beyond its text, by OpenAI and ShareGPT."""
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
"""Whom ShareGPT's `from` names."""
MEDIA = frozenset(("image", "images", "audio", "audios", "video", "videos"))
"""Columns of a row, and keys of a turn, with what goes beside the text."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn, and types of its parts, that hold thinking: by DeepSeek's and vLLM's API, by
OpenRouter's, by OpenAI's gpt-oss."""
FLAGS = ("train", "weight", "loss", "loss_weight")
"""Keys of a turn that weigh it in the loss, by Axolotl, OpenAI, ms-swift and LLaMA-Factory."""


def check_conversation(messages: Any, name: str = "messages") -> list[Message]:
    """A usable conversation: known roles, no empty turn, roles in turn, ending with an answer."""
    if isinstance(messages, str):
        messages = _unpacked(messages)
    if not isinstance(messages, list) or not messages:
        raise RowFault("value", f'"{name}" must be a list with at least one message')
    turns = [_turn(number, message) for number, message in enumerate(messages, start=1)]
    _check_order(turns)
    return turns


def turns_of(value: Any, role: str, name: str) -> list[Any]:
    """Text as one turn of `role`; a list of turns as it is."""
    if isinstance(value, str):
        unpacked = _unpacked(value)
        return unpacked if isinstance(unpacked, list) else [{"role": role, "content": value}]
    if isinstance(value, list):
        return value
    raise RowFault("value", f'"{name}" must be text or a list of messages')


def _unpacked(text: str) -> Any:
    """A list of messages that stands as JSON in text, as a CSV cell has to hold it."""
    if not text.lstrip().startswith("[{"):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    turns = isinstance(found, list) and all(
        isinstance(turn, dict) and {"role", "from"} & turn.keys() for turn in found
    )
    return found if turns else text


def transcript(text: str) -> list[Message] | None:
    """The turns of a text that reads "Human: ... Assistant: ...", as Anthropic's HH-RLHF does."""
    if not text.startswith("\n\nHuman:"):
        return None
    parts = re.split(r"\n\n(Human|Assistant):", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _check_order(turns: list[Message]) -> None:
    roles = [turn["role"] for turn in turns]
    if "system" in roles[1:]:
        raise RowFault("roles", "a system message must come first")
    spoken = turns[1:] if roles[0] == "system" else turns
    if not spoken or spoken[0]["role"] != "user":
        raise RowFault("roles", "the first message must be the user's")
    for one, other in itertools.pairwise(spoken):
        _check_pair(one, other)
    if spoken[-1]["role"] != "assistant":
        raise RowFault("roles", "the last message must be the assistant's")


def _check_pair(one: Message, other: Message) -> None:
    pair = (one["role"], other["role"])
    called = "tool_calls" in one
    if pair[1] == "tool":
        if not (called or pair[0] == "tool"):
            raise RowFault("tools", "a tool answers without having been called")
    elif called:
        raise RowFault("tools", "a tool was called and does not answer")
    elif pair in (("user", "user"), ("assistant", "assistant"), ("tool", "user")):
        raise RowFault("roles", "user and assistant must take turns")


def _turn(number: int, message: Any) -> Message:
    if not isinstance(message, dict):
        raise RowFault("value", f"message {number} must be an object")
    if message.keys() == PLAIN and _is_sound(message):
        return message
    shared = message.get("role") is None and "from" in message
    role = message.get("from") if shared else message.get("role")
    content = message.get("content" if message.get("content") is not None else "value")
    called = shared and role == "function_call"
    if shared and isinstance(role, str):
        role = SPEAKERS.get(role.lower(), role)
    if role not in ROLES:
        raise RowFault(
            "roles", f"message {number} has the role {role!r}; known are {', '.join(ROLES)}"
        )
    if message.keys() != SHARED:
        _check_extras(number, role, message)
    thought = _reasoning(number, role, message, content)
    if called:
        return _called(number, content) | thought
    calls = message.get("tool_calls") if role == "assistant" else None
    text = _content(number, content, optional=bool(calls))
    turn: Message = {"role": role, "content": text} | thought
    if calls:
        turn["tool_calls"] = [_call(number, call) for call in _listed(number, calls)]
    if role == "tool":
        turn |= {key: message[key] for key in ("name", "tool_call_id") if message.get(key)}
    return turn


def _is_sound(message: dict[str, Any]) -> bool:
    """Whether a turn of role and content alone is as it has to be: most are, and it is quick."""
    content = message["content"]
    return message["role"] in ROLES and isinstance(content, str) and bool(content.strip())


def check_media(holder: dict[str, Any], known: Collection[str] = ()) -> None:
    """Refuses pictures, sound and video beside the text, by the name of their column.

    The column decides and not the text: a marker such as <image> stands for a picture where one
    comes along, and is a word like any other where somebody asks about HTML.

    Args:
        holder: a row or a turn.
        known: columns that are mapped, so that what they hold is text.
    """
    for name in sorted(MEDIA & holder.keys()):
        if name not in known and _filled(holder[name]):
            raise RowFault(
                "media", f'"{name}" holds more than the text, and only text can be learnt so far'
            )


def _filled(value: Any) -> bool:
    """Whether anything is in a value; Arrow pads lists and objects with nulls."""
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_filled, value)) if isinstance(value, list) else bool(value)


def _check_extras(number: int, role: str, message: dict[str, Any]) -> None:
    """Refuses what would change the meaning if it were passed over."""
    check_media(message)
    _check_flags(number, message, trained=role == "assistant")
    if message.get("function_call"):
        raise RowFault("tools", f'message {number} has "function_call"; write it as "tool_calls"')


def _check_flags(number: int, message: dict[str, Any], *, trained: bool) -> None:
    """Refuses flags that ask for anything but what happens: answers are in the loss in full, the
    other turns not at all. OpenAI's weight is of answers alone."""
    for key in FLAGS:
        value = message.get(key)
        if value is not None and value != trained and (trained or key != "weight"):
            raise _unlike(number, key, value)
    for part in message.get("train_detail") or ():
        if not isinstance(part, dict) or bool(part.get("train")) != trained:
            raise _unlike(number, "train_detail", part)


def _unlike(number: int, key: str, value: Any) -> RowFault:
    return RowFault(
        "loss_flags",
        f'message {number} has "{key}": {json.dumps(value, default=str)}; '
        "answers are learnt in full, and the other turns not at all",
    )


def _reasoning(number: int, role: str, message: dict[str, Any], content: Any) -> Message:
    """The thinking of a turn, wherever it stands beside the text; nothing where there is none."""
    held = [message[key] for key in REASONING if message.get(key)]
    if isinstance(content, list):
        held += ["".join(_thought(number, part) for part in content if _thinks(part))]
    if not all(isinstance(text, str) for text in held):
        raise RowFault("value", f"message {number} has thinking that is no text")
    texts = list(dict.fromkeys(text.strip() for text in held if text.strip()))
    if not texts:
        return {}
    if role != "assistant":
        raise RowFault("value", f"message {number} of the {role} has thinking, as answers alone do")
    inline = isinstance(content, str) and content.lstrip().startswith("<think>")
    if len(texts) > 1 or (inline and texts[0] not in content):
        raise RowFault("value", f"message {number} has thinking twice, each time another")
    return {} if inline else {"reasoning_content": texts[0]}


def _thinks(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in REASONING


def _thought(number: int, part: dict[str, Any]) -> str:
    """The text of a part of thinking, which stands under the name of its type or as other text."""
    keys = (part["type"], "text", "value", *REASONING)
    text = next((part[key] for key in keys if part.get(key)), "")
    if not isinstance(text, str):
        raise RowFault("value", f"message {number} has a part of thinking that is no text")
    return text


def _content(number: int, content: Any, *, optional: bool) -> str:
    if isinstance(content, list):
        content = "".join(_part(number, part) for part in content if not _thinks(part))
    if content is None and optional:
        return ""
    if not isinstance(content, str):
        raise RowFault("value", f"message {number} has no text content")
    if not content.strip() and not optional:
        kind = "missing_prompt" if number == 1 else "empty_answer"
        raise RowFault(kind, f"message {number} is empty")
    return content


def _part(number: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get("text", part.get("value")) if kind == "text" else None
    if isinstance(text, str):
        return text
    raise RowFault(
        "media", f"message {number} holds a part of type {kind!r}; only text can be learnt so far"
    )


# Tools


def _called(number: int, content: Any) -> Message:
    """ShareGPT's function_call, whose value is the call as JSON."""
    try:
        call = json.loads(content) if isinstance(content, str) else content
    except ValueError:
        raise _not_json(number) from None
    return {"role": "assistant", "content": "", "tool_calls": [_call(number, call)]}


def _not_json(number: int) -> RowFault:
    return RowFault("tools", f"message {number} calls a tool with what is not JSON")


def _listed(number: int, calls: Any) -> list[Any]:
    if not isinstance(calls, list):
        raise RowFault("tools", f'message {number} has "tool_calls" that are no list')
    return calls


def _call(number: int, call: Any) -> dict[str, Any]:
    """One call, with its arguments as an object: templates write them as JSON themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowFault("tools", f"message {number} calls a tool without a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise RowFault(
                "tools", f"message {number} calls a tool with what is not JSON"
            ) from None
    if not isinstance(arguments, dict):
        raise RowFault("tools", f"message {number} calls a tool with arguments that are no object")
    made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return made | ({"id": call["id"]} if call.get("id") else {})


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools, as a list or as JSON in text."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except ValueError:
            raise RowFault("tools", '"tools" is not JSON') from None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowFault("tools", '"tools" must be a list of objects')
    return value
