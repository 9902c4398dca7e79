"""Conversations that stand in one text, with the speakers named before what they say.

Anthropic's HH-RLHF has "Human:" and "Assistant:"; glaive's sets have "USER:", "ASSISTANT:" and
"FUNCTION RESPONSE:", calls behind <functioncall>, and the functions in the system's text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema.tool_calls import tools_of

HH = re.compile(r"\n\n(Human|Assistant):")
GLAIVE = re.compile(r"(?:^|\n)\s*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):")
END = "<|endoftext|>"
"""What glaive ends an answer with."""
CALL = "<functioncall>"
ROLES = {
    "Human": "user",
    "Assistant": "assistant",
    "SYSTEM": "system",
    "USER": "user",
    "ASSISTANT": "assistant",
    "FUNCTION RESPONSE": "tool",
}
QUOTED = re.compile(r"""("arguments"\s*:\s*)'(.*)'(\s*[,}])""", re.DOTALL)
"""Arguments in single quotes, which glaive puts around JSON."""
OFFERED = "with access to the following functions"


def is_transcript(text: str) -> bool:
    """Whether a text reads like one of glaive's conversations."""
    return text.lstrip().startswith(("USER:", "SYSTEM:"))


def transcript(text: str) -> list[dict[str, Any]] | None:
    """The turns of a transcript; None where a text is none."""
    if text.startswith("\n\nHuman:"):
        return _split(HH, text)
    if is_transcript(text):
        turns = [_called(turn) for turn in _split(GLAIVE, text)]
        return [turn for turn in turns if turn["content"] or "tool_calls" in turn]
    return None


def prompt_turns(text: str) -> list[dict[str, Any]] | None:
    """The turns of a prompt as HH-RLHF has it, up to the answer that it may leave open."""
    turns = transcript(text) if text.startswith("\n\nHuman:") else None
    return turns[:-1] if turns and not turns[-1]["content"] else turns


def _split(speaker: re.Pattern[str], text: str) -> list[dict[str, Any]]:
    parts = speaker.split(text)[1:]
    return [
        {"role": ROLES[who], "content": said.strip().removesuffix(END).strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _called(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn with its call taken out of the text; one that cannot be read is left to be named."""
    content = turn["content"]
    if turn["role"] != "assistant" or CALL not in content:
        return turn
    said, _, call = content.partition(CALL)
    return {"role": "assistant", "content": said.strip(), "tool_calls": [_loaded(call.strip())]}


def _loaded(call: str) -> Any:
    try:
        return json.loads(QUOTED.sub(_requoted, call))
    except (ValueError, RecursionError):
        return call


def _requoted(found: re.Match[str]) -> str:
    before, arguments, behind = found.groups()
    return f"{before}{json.dumps(arguments)}{behind}"


def offered_by(text: str) -> tuple[str, list[dict[str, Any]]]:
    """A system's text without glaive's name of the speaker, and the functions that it offers.

    A text that offers functions is left out whole: a template says by itself which tools there are.
    """
    if not text.startswith("SYSTEM:"):
        return text, []
    said = text.removeprefix("SYSTEM:").strip()
    if OFFERED not in said or "{" not in said:
        return said, []
    return "", tools_of(_objects(said[said.index("{") :]))


def _objects(text: str) -> list[Any]:
    """JSON objects that follow one another."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            reason = "the system's text offers functions that cannot be read as JSON"
            raise RowFault("tools", reason) from None
        found.append(value)
        at = len(text) - len(text[at:].lstrip(" \t\r\n,"))
    return found
