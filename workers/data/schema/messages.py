"""Conversations as the world writes them, brought to one form and checked turn by turn.

Known are role and content (OpenAI), from and value (ShareGPT), a question with its answer in one
object (ms-swift), content in parts (OpenAI, LLaMA-Factory, Anthropic), calls of tools with what
they gave, and flags that weigh a turn in the loss.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema import loss_flags
from workers.data.schema.media import check_media, filled
from workers.data.schema.remarks import Remarks
from workers.data.schema.tool_calls import calls_of, take_calls

Message = dict[str, Any]
"""A turn: `role` and `content`, both text; of an assistant perhaps its `reasoning_content`, the
thinking beside its content, and `tool_calls`; of a tool perhaps the `name` and the `tool_call_id`
that it answers; `train`, where an answer is not in the loss, or another turn is."""
ROLES = ("system", "user", "assistant", "tool")
PLAIN, SHARED, PAIRED = {"role", "content"}, {"from", "value"}, {"human", "assistant"}
"""The keys of a turn that says nothing beyond its text, by OpenAI and ShareGPT, and of ms-swift's
two turns in one."""
ALSO = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
"""Other words for roles: OpenAI's newer and older ones, Gemma's, ShareGPT's, ms-swift's."""
SPEAKERS = {"chatgpt": "assistant", "bot": "assistant"} | ALSO
"""Whom ShareGPT's `from` names, in capitals or not."""
CALLS = ("function_call", "tool_call")
"""Roles of turns that are nothing but calls."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn, and types of its parts, that hold thinking: by DeepSeek's and vLLM's API, by
OpenRouter's, by OpenAI's gpt-oss."""
TEXTS = ("text", "input_text", "output_text", "refusal")
"""Types of parts that are text, by OpenAI's two APIs."""
LISTED = re.compile(r"\s*\[\s*\{")
"""How a list of objects begins in JSON."""
READ = frozenset((
    "role", "content", "from", "value", "human", "assistant", "tool_calls", "function_call",
    "refusal", "train_detail", *loss_flags.FLAGS, *REASONING,
))  # fmt: skip
"""Keys of a turn that are looked at, whoever speaks."""


def check_conversation(
    messages: Any,
    name: str = "messages",
    remarks: Remarks | None = None,
    *,
    tools: bool = False,
    asks: bool = False,
) -> list[Message]:
    """A usable conversation: known roles, no empty turn, roles in turn, ending with an answer.

    Turns behind the last answer are left out. Two system turns at the head become one.

    Args:
        name: the column's, for faults.
        remarks: told of what is passed over.
        tools: whether the row defines tools, so that marks of calls in its text are calls.
        asks: whether the conversation is to end with a question instead.
    """
    if isinstance(messages, str):
        messages = unpacked(messages)
    if not isinstance(messages, list) or not messages:
        raise RowFault("value", f'"{name}" must be a list with at least one message')
    remarks = remarks or Remarks()
    turns: list[Message] = []
    for number, message in enumerate(messages, start=1):
        plain = _plain(message) if isinstance(message, dict) else None
        for turn in [plain] if plain else _turns(number, message, remarks):
            _add(turns, turn)
    take_calls(turns, tools=tools)
    if not asks:
        _leave_out_questions(turns, remarks)
    _check_order(turns, "user" if asks else "assistant")
    return turns


def turns_of(value: Any, role: str, name: str) -> list[Any]:
    """Text as one turn of `role`; one turn, or a list of turns, as they are."""
    if isinstance(value, str):
        found = unpacked(value)
        return found if isinstance(found, list) else [{"role": role, "content": value}]
    if isinstance(value, dict) and {"role", "from"} & value.keys():
        return [value]
    if isinstance(value, list):
        return value
    raise RowFault("value", f'"{name}" must be text or a list of messages')


def unpacked(text: str) -> Any:
    """A list of messages that stands as JSON in text, as a CSV cell has to hold it."""
    if not LISTED.match(text):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    turns = isinstance(found, list) and all(
        isinstance(turn, dict) and {"role", "from"} & turn.keys() for turn in found
    )
    return found if turns else text


def _add(turns: list[Message], turn: Message) -> None:
    """Puts a turn behind the others, or into the last one where the two are one: system's texts,
    and calls behind what led to them, which ms-swift and ShareGPT write as turns of their own."""
    last = turns[-1] if turns else {"role": ""}
    called = turn.pop("called") if "called" in turn else False
    if called and last["role"] == "assistant":
        calls = [*last.get("tool_calls", ()), *turn["tool_calls"]]
        turns[-1] = turn | last | {"tool_calls": calls}
    elif turn["role"] == "system" and last["role"] == "system" and len(turns) == 1:
        turns[-1] = last | {"content": f"{last['content']}\n\n{turn['content']}"}
    else:
        turns.append(turn)


def _leave_out_questions(turns: list[Message], remarks: Remarks) -> None:
    """Takes away what follows the last answer, where there is one: nobody answers it."""
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    behind = turns[answers[-1] + 1 :] if answers else []
    if behind and all(turn["role"] in ("user", "tool") for turn in behind):
        del turns[-len(behind) :]
        remarks.questions += 1


def _check_order(turns: list[Message], last: str) -> None:
    roles = [turn["role"] for turn in turns]
    if "system" in roles[1:]:
        raise RowFault("roles", "a system message must come first")
    spoken = turns[1:] if roles[0] == "system" else turns
    if not spoken or spoken[0]["role"] != "user":
        raise RowFault("roles", "the first message must be the user's")
    for one, other in itertools.pairwise(spoken):
        _check_pair(one, other)
    if spoken[-1]["role"] != last and not (last == "user" and spoken[-1]["role"] == "tool"):
        raise RowFault("roles", f"the last message must be the {last}'s")


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


# One turn


def _turns(number: int, message: Any, remarks: Remarks) -> list[Message]:
    """The turn that an object is; two where it is a question with its answer, and one for each
    tool that answers in Anthropic's parts."""
    if not isinstance(message, dict):
        raise RowFault("value", f"message {number} must be an object")
    keys = message.keys()
    if keys >= PAIRED and not {"role", "from"} & keys:
        question, answer = message["human"], message["assistant"]
        pair = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        return [_turn(number, turn, remarks) for turn in pair]
    return [_turn(number, turn, remarks) for turn in _without_results(message)]


def _plain(message: dict[str, Any]) -> Message | None:
    """A turn that is a role and text and nothing else, as most are; None where more has to be
    looked at."""
    keys = message.keys()
    if keys == PLAIN:
        role, content, turn = message["role"], message["content"], message
    elif keys == SHARED and message["from"] not in CALLS:
        role, content = message["from"], message["value"]
        role = SPEAKERS.get(role, role) if isinstance(role, str) else role
        turn = {"role": role, "content": content}
    else:
        return None
    return turn if role in ROLES and isinstance(content, str) and content.strip() else None


def _turn(number: int, message: dict[str, Any], remarks: Remarks) -> Message:
    shared = message.get("role") is None and "from" in message
    said = message.get("from") if shared else message.get("role")
    role = _role(number, said, SPEAKERS if shared else ALSO)
    content = message.get("content" if message.get("content") is not None else "value")
    turn: Message = {"role": role, "content": ""}
    if message.keys() != SHARED:
        check_media(message)
        remarks.unread |= _unread(role, message)
    turn |= _reasoning(number, role, message, content)
    if said in CALLS:
        turn |= {"tool_calls": calls_of(number, content), "called": True}
    elif calls := _calls(number, role, message, content):
        turn["tool_calls"] = calls
    if said not in CALLS:
        content = message.get("refusal") if content is None else content
        turn["content"] = _content(number, content, role, optional="tool_calls" in turn)
    if role == "tool":
        turn |= {key: str(message[key]) for key in ("name", "tool_call_id") if message.get(key)}
    train = loss_flags.trained(number, role, message)
    return turn if train == (role == "assistant") else turn | {"train": train}


def _role(number: int, said: Any, others: dict[str, str]) -> str:
    role = others.get(said.lower(), said.lower()) if isinstance(said, str) else said
    if role not in ROLES:
        raise RowFault(
            "roles", f"message {number} has the role {said!r}; known are {', '.join(ROLES)}"
        )
    return role


def _unread(role: str, message: dict[str, Any]) -> set[str]:
    """Keys of a turn that nothing looks at."""
    known = READ | {"name", "tool_call_id"} if role == "tool" else READ
    keys = {key for key in message.keys() - known if filled(message[key])}
    return keys | loss_flags.unread(role, message)


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


def _content(number: int, content: Any, role: str, *, optional: bool) -> str:
    if isinstance(content, list):
        parts = (part for part in content if not _thinks(part) and not _calls_in(part))
        content = "".join(_part(number, part) for part in parts)
    if isinstance(content, dict) and role == "tool":
        content = json.dumps(content, ensure_ascii=False)
    if content is None and optional:
        return ""
    if not isinstance(content, str):
        raise RowFault("value", f"message {number} has no text content")
    if not content.strip() and not optional and role != "tool":
        kind = "missing_prompt" if number == 1 else "empty_answer"
        raise RowFault(kind, f"message {number} is empty")
    return content


def _part(number: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    keys = ("text", "value", "content", "refusal")
    if kind in TEXTS:
        text = next((part[key] for key in keys if part.get(key) is not None), None)
        if isinstance(text, str):
            return text
    raise RowFault(
        "media", f"message {number} holds a part of type {kind!r}; only text can be learnt so far"
    )


# Tools in a turn


def _calls(number: int, role: str, message: dict[str, Any], content: Any) -> list[dict[str, Any]]:
    """The calls of an answer, wherever they stand in it."""
    if role != "assistant":
        return []
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise RowFault("tools", f'message {number} has "tool_calls" that are no list')
    found = calls_of(number, calls) if calls else []
    if message.get("function_call"):
        found += calls_of(number, message["function_call"])
    for part in content if isinstance(content, list) else ():
        if (call := _calls_in(part)) is not None:
            found += calls_of(number, call)
    return found


def _calls_in(part: Any) -> Any:
    """The calls in a part of an answer, by LLaMA-Factory and by Anthropic; None in any other."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("tool_call", "tool_calls"):
        return part.get("value")
    if kind == "tool_use":
        return {
            "name": part.get("name"),
            "arguments": part.get("input") or {},
            "id": part.get("id"),
        }
    return None


def _without_results(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A turn with what tools gave, which Anthropic has as parts of the user's, as turns before."""
    parts = message.get("content")
    if not isinstance(parts, list) or not any(map(_is_result, parts)):
        return [message]
    turns = [
        {"role": "tool", "content": part.get("content"), "tool_call_id": part.get("tool_use_id")}
        for part in parts
        if _is_result(part)
    ]
    rest = [part for part in parts if not _is_result(part)]
    return [*turns, message | {"content": rest}] if rest else turns


def _is_result(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_result"
