"""Definitions of tools and calls of them, brought to the form that OpenAI's API gives them."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from workers.data.read.fault import RowFault

Call = dict[str, Any]
"""`type`, `function` with its `name` and its `arguments` as an object, perhaps an `id`."""
TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
"""Python's words for types, as xLAM's parameters have them, to JSON Schema's."""
IN_TEXT = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
"""A call in an answer's text, as Hermes and Qwen write it."""
RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def calls_of(number: int, value: Any) -> list[Call]:
    """One call or several, as objects or as JSON in text; raises `RowFault` for anything else.

    Args:
        number: the turn's, from 1.
    """
    value = _loaded(number, value)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RowFault("tools", f"message {number} calls no tool")
    return [_call(number, _loaded(number, call)) for call in listed]


def _loaded(number: int, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise RowFault("tools", f"message {number} calls a tool with what is not JSON") from None


def _call(number: int, call: Any) -> Call:
    """One call, with its arguments as an object: templates write them as JSON themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowFault("tools", f"message {number} calls a tool without a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _loaded(number, arguments or "{}")
    if not isinstance(arguments, dict):
        raise RowFault("tools", f"message {number} calls a tool with arguments that are no object")
    made: Call = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    return made | ({"id": str(call["id"])} if call.get("id") else {})


def as_calls(value: Any) -> list[Call] | None:
    """The calls that a whole answer is, such as xLAM's; None where it is anything else."""
    if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        return None
    try:
        return calls_of(1, value)
    except RowFault:
        return None


# Calls in an answer's text


def take_calls(turns: list[dict[str, Any]], *, tools: bool) -> None:
    """Makes calls of those that stand between <tool_call> marks in an answer's text, in place.

    Args:
        turns: of a conversation; a mark is a call where a tool answers it.
        tools: whether the row defines tools, so that every mark is one.

    Raises:
        RowFault: what stands between the marks is no call.
    """
    for at, turn in enumerate(turns):
        if "<tool_" not in turn["content"]:
            continue
        found = IN_TEXT.findall(turn["content"]) if turn["role"] == "assistant" else []
        answered = at + 1 < len(turns) and turns[at + 1]["role"] == "tool"
        if found and "tool_calls" not in turn and (tools or answered):
            calls = [_call(at + 1, _literal(at + 1, text)) for text in found]
            said = IN_TEXT.sub("", turn["content"]).strip()
            turns[at] = turn | {"content": said, "tool_calls": calls}
        elif turn["role"] == "tool" and (given := RESPONSE.findall(turn["content"])):
            turns[at] = turn | {"content": "\n".join(text.strip() for text in given)}


def _literal(number: int, text: str) -> Any:
    """JSON, or the Python literal that stands for it in Hermes' first set."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise RowFault("tools", f"message {number} calls a tool with what is not JSON") from None


# Definitions


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools, as a list or as JSON in text, each as a function of OpenAI's form."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except (ValueError, RecursionError):
            raise RowFault("tools", '"tools" is not JSON') from None
    if not isinstance(value, list):
        raise RowFault("tools", '"tools" must be a list of objects')
    return [_tool(_unpacked(tool)) for tool in value]


def _unpacked(tool: Any) -> dict[str, Any]:
    """A definition that stands as JSON in text, for the sake of a column of one type."""
    if isinstance(tool, str):
        try:
            tool = json.loads(tool)
        except (ValueError, RecursionError):
            raise RowFault("tools", '"tools" holds text that is not JSON') from None
    if not isinstance(tool, dict):
        raise RowFault("tools", '"tools" must be a list of objects')
    return tool


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A definition under "function", where LLaMA-Factory, xLAM and OpenAI's functions have it
    bare; its parameters as JSON Schema."""
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return tool  # of a kind of its own, such as a search that the maker of a model runs
    parameters = function.get("parameters")
    if isinstance(parameters, str):
        parameters = _parameters(parameters)
    if isinstance(parameters, dict) and _is_plain(parameters):
        parameters = _schema(parameters)
    if parameters is not function.get("parameters"):
        function = function | {"parameters": parameters}
    if tool.get("function") is function:
        return tool
    return {"type": "function", "function": {k: v for k, v in function.items() if k != "type"}}


def _parameters(text: str) -> Any:
    """Parameters that Axolotl has as JSON in text, for the sake of a column of one type."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowFault("tools", '"tools" has parameters that are not JSON') from None


def _is_plain(parameters: dict[str, Any]) -> bool:
    """Whether parameters stand by name without a schema around them, as in xLAM."""
    if not parameters or "properties" in parameters:
        return False
    return all(isinstance(one, dict) and isinstance(one.get("type"), str)
               for one in parameters.values())  # fmt: skip


def _schema(parameters: dict[str, Any]) -> dict[str, Any]:
    properties, required = {}, []
    for name, about in parameters.items():
        kind, _, rest = about["type"].partition(",")
        properties[name] = about | {"type": TYPES.get(kind.strip(), kind.strip())}
        if "optional" not in rest and "default" not in about:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}
