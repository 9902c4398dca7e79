"""From raw values to rows, all of one dataset in one schema."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.data.read.fault import RowFault
from workers.data.schema.columns import columns_of, listed, picked, statistics_of
from workers.data.schema.detect import detect
from workers.data.schema.detected import Detected
from workers.data.schema.fields import Fields
from workers.data.schema.remarks import RemarkCount
from workers.data.schema.row import Row
from workers.data.schema.schemas import SCHEMAS
from workers.data.schema.unlearnable import SUSPECT, check_learnable, name_of

OPTIONAL = ("system", "tools", "history", "reasoning")


class RowParser:
    """Makes rows of one dataset, all in the schema of its first usable one."""

    def __init__(self, sample: list[Any], fixed: Detected | None = None) -> None:
        self._statistics = statistics_of([row for row in sample if isinstance(row, dict)])
        self._fixed = fixed
        self._known: dict[frozenset[str], Detected | None] = {}
        self.detected = fixed
        self.remarks = RemarkCount()
        self._settled = False

    def settle(self) -> None:
        """Goes from now on by what the rows so far have shown, whichever rows are read."""
        self._settled = True

    def row(self, value: Any) -> Row:
        """One row; raises `RowFault` where it cannot be used."""
        if isinstance(value, RowFault):
            raise value
        if not isinstance(value, dict):
            raise RowFault("schema", f"a row must be an object, this is {type(value).__name__}")
        suspect = not SUSPECT.isdisjoint(value)
        if suspect and self._fixed is None and (reason := name_of(value)):
            raise RowFault("schema", reason)
        found = self._fixed or self._detect(value)
        if suspect:
            check_learnable(value, found.mapping, by_hand=self._fixed is not None)
        fields = Fields(value, found)
        made = SCHEMAS[found.format].read(fields)
        self.remarks.add(fields.remarks)
        if not self._settled:
            self._remember(found)
        return made

    def _detect(self, item: dict[str, Any]) -> Detected:
        filled = frozenset(columns_of(item))
        if filled not in self._known:
            self._known[filled] = detect(filled, self._statistics)
        found = self._known[filled] or detect(item.keys(), self._statistics)
        if found is None:
            raise RowFault("schema", f"{self._missing(item)}its keys are {listed(map(str, item))}")
        first = self.detected
        if first is None:
            return found
        if found.format != first.format:
            raise RowFault(
                "schema",
                f"{self._missing(item)}it is {found.format} where the rows before are "
                f"{first.format}",
            )
        if found.mapping.keys() <= first.mapping.keys():
            return found
        theirs = {column: name for name, column in first.mapping.items()}
        for name, column in found.mapping.items():
            if name in first.mapping or column not in theirs:
                continue
            if picked(item, theirs[column]) is None and theirs[column] not in item:
                raise RowFault("schema", f'it has no column "{theirs[column]}" but "{name}"')
        return found

    def _missing(self, item: dict[str, Any]) -> str:
        if self.detected is None:
            return ""
        needed = (name for name, column in self.detected.mapping.items() if column not in OPTIONAL)
        gone = [name for name in needed if picked(item, name) is None]
        return f"the column {' and '.join(gone)} is missing; " if gone else ""

    def _remember(self, found: Detected) -> None:
        if self.detected is None:
            self.detected = found
        elif not found.mapping.keys() <= self.detected.mapping.keys():
            mapping = self.detected.mapping | found.mapping
            self.detected = msgspec.structs.replace(self.detected, mapping=mapping)
