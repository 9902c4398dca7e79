"""One raw row by our names for its columns, which faults call by theirs."""

from __future__ import annotations

import math
from typing import Any

from workers.data.read.fault import FaultKind, RowFault
from workers.data.schema.columns import picked
from workers.data.schema.detected import Detected
from workers.data.schema.messages import tools_of, turns_of
from workers.protocol.recipe import Column

EMPTY: dict[str, FaultKind] = {"prompt": "missing_prompt", "label": "value"}
"""The kind of fault that an empty column is; empty_answer of the others."""


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

    def tools(self) -> list[dict[str, Any]]:
        """The tools that the conversation may call."""
        held = self.get("tools")
        return tools_of(held) if held else []

    def asked(self) -> list[Any]:
        """The prompt's turns, the system's before them."""
        return self.led(turns_of(self.need("prompt"), "user", self.name("prompt")))

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
        return [{"role": "system", "content": system}, *turns] if system.strip() else turns

    def said(self, column: Column) -> list[Any]:
        """An answer as turns."""
        return turns_of(self.need(column), "assistant", self.name(column))
