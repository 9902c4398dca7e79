"""One raw row by our names for its columns, which faults call by theirs."""

from __future__ import annotations

import json
import math
from typing import Any

from workers.data.read.fault import FaultKind, RowFault
from workers.data.schema.columns import picked
from workers.data.schema.detected import Detected
from workers.data.schema.messages import Message, check_conversation, turns_of
from workers.data.schema.remarks import Remarks
from workers.data.schema.tool_calls import tools_of
from workers.data.schema.transcripts import offered_by, prompt_turns, transcript
from workers.protocol.recipe import Column

EMPTY: dict[str, FaultKind] = {"prompt": "missing_prompt", "label": "value"}
"""The kind of fault that an empty column is; empty_answer of the others."""


class Fields:
    """One row by our names for its columns, which faults call by theirs."""

    def __init__(self, item: dict[str, Any], detected: Detected) -> None:
        self._item = item
        self.detected = detected
        self.remarks = Remarks()
        self._tools: list[dict[str, Any]] | None = None
        self._theirs: dict[str, list[str]] = {}
        for name, column in detected.mapping.items():
            self._theirs.setdefault(column, []).append(name)

    def name(self, column: Column) -> str:
        return self._theirs.get(column, [column])[0]

    def has(self, column: Column) -> bool:
        """Whether a column of theirs is ours by this name."""
        return column in self._theirs

    def get(self, column: Column) -> Any:
        """The value, or None; a prompt of several columns is their texts, a blank line between."""
        names = self._theirs.get(column, [])
        if len(names) < 2:
            return picked(self._item, names[0]) if names else None
        parts = [picked(self._item, name) for name in names]
        if not all(isinstance(part, str | None) for part in parts):
            raise RowFault("value", f"{' and '.join(names)} must be text")
        return "\n\n".join(part for part in parts if part and part.strip())

    def need(self, column: Column) -> Any:
        value = self.get(column)
        if value is None:
            known = self.name(column) in self._item
            if not known:
                raise RowFault("schema", f'"{self.name(column)}" is missing')
            raise RowFault(EMPTY.get(column, "empty_answer"), f'"{self.name(column)}" is empty')
        return value

    def answer(self) -> str:
        """The right answer as text, empty when the row has none."""
        answer = self.get("answer")
        if answer is None:
            return ""
        name = self.name("answer")
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise RowFault("value", f'"{name}" must be text or a number')
        if isinstance(answer, float) and not math.isfinite(answer):
            raise RowFault("value", f'"{name}" is {answer}, which is no number')
        return str(answer)

    def label(self) -> bool:
        """True or false, also as 1 or 0 and, as CSV has to write it, in letters."""
        value = self.need("label")
        if isinstance(value, str):
            words = {"true": 1, "1": 1, "1.0": 1, "false": 0, "0": 0, "0.0": 0}
            value = words.get(value.strip().lower())
        if value not in (0, 1):
            raise RowFault("value", f'"{self.name("label")}" must be true or false')
        return bool(value)

    def asked(self) -> list[Any]:
        """The prompt's turns, those of the history and the system's before them."""
        value = self.need("prompt")
        turns = prompt_turns(value) if isinstance(value, str) else None
        turns = turns or turns_of(value, "user", self.name("prompt"))
        return self.led([*self._history(), *turns])

    def _history(self) -> list[Any]:
        """Alpaca's and ms-swift's earlier turns: pairs of a question and its answer."""
        history = self.get("history") or []
        if isinstance(history, str):
            history = _loaded(history)
        if not isinstance(history, list) or not all(map(_is_pair, history)):
            name = self.name("history")
            raise RowFault("value", f'"{name}" must be a list of pairs of question and answer')
        roles = ("user", "assistant")
        return [
            {"role": role, "content": said}
            for pair in history
            for role, said in zip(roles, pair, strict=True)
        ]

    def led(self, turns: Any) -> Any:
        """The turns behind the system column's text, where there is one."""
        system = self.get("system")
        if system is None or system == "":
            return turns
        if not isinstance(system, str):
            raise RowFault("value", f'"{self.name("system")}" must be text')
        if not isinstance(turns, list):
            return turns
        first = turns[0] if turns else None
        if isinstance(first, dict) and "system" in (first.get("role"), first.get("from")):
            raise RowFault(
                "schema", f'it has a system message and a column "{self.name("system")}"'
            )
        system = offered_by(system)[0]
        return [{"role": "system", "content": system}, *turns] if system.strip() else turns

    def said(self, column: Column) -> list[Any]:
        """An answer as turns."""
        return turns_of(self.need(column), "assistant", self.name(column))

    def talk(self) -> Any:
        """The conversation's turns as they stand there, the system's before them."""
        value = self.need("messages")
        if isinstance(value, str):
            value = transcript(value) or turns_of(value, "user", self.name("messages"))
        return self.led(value)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Definitions of tools, those that glaive has in the system's text among them."""
        if self._tools is None:
            tools, system = self.get("tools"), self.get("system")
            offered = offered_by(system)[1] if isinstance(system, str) else []
            self._tools = tools_of(tools) if tools else offered
        return self._tools

    def check_prompt(self, turns: list[Message], column: Column) -> None:
        """Refuses a whole conversation that begins with another prompt than the row has."""
        if self.has("prompt"):
            source, begun = "prompt", self.get("prompt")
        else:
            source, begun = "messages", self.get("messages")
        if not _starts_with(turns, begun):
            raise RowFault(
                "value",
                f'"{self.name(column)}" begins with another prompt than "{self.name(source)}"',
            )

    def conversation(
        self, turns: Any, column: Column = "messages", *, asks: bool = False
    ) -> list[Message]:
        """Turns as a usable conversation."""
        name, tools = self.name(column), bool(self.tools)
        return check_conversation(turns, name, self.remarks, tools=tools, asks=asks)


def _starts_with(turns: list[Message], prompt: Any) -> bool:
    if isinstance(prompt, list):
        begun = [_said(turn) for turn in prompt if isinstance(turn, dict)]
        said = [turn["content"] for turn in turns[:-1] if turn["role"] != "system"]
        return begun == [turn["content"] for turn in turns[: len(prompt)]] or begun == said
    asked = [turn["content"].strip() for turn in turns if turn["role"] == "user"]
    return isinstance(prompt, str) and prompt.strip() in asked


def _said(turn: dict[str, Any]) -> Any:
    return turn.get("content", turn.get("value"))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _loaded(text: str) -> Any:
    """What stands as JSON in text, as a CSV cell has to hold it; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
