"""What a dataset is taken for: its schema, by the names of its columns or by a mapping."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from workers.data.schema.columns import ColumnStatistics, columns_of, listed, picked
from workers.data.schema.detected import Detected
from workers.data.schema.schemas import Schema, by_telling
from workers.protocol.recipe import Column
from workers.protocol.refusal import Refusal


def detect(keys: Collection[str], statistics: ColumnStatistics) -> Detected | None:
    """What rows with these columns are; None where no schema fits."""
    for schema in by_telling():
        found = schema.find(keys, statistics)
        if found is not None:
            used = {column.partition(".")[0] for column in found.mapping}
            unused = sorted(set(keys) - used)
            return Detected(format=schema.name, unused=unused, **found._asdict())
    return None


def from_mapping(mapping: Mapping[str, Column], source: str, why: str) -> Detected:
    """The schema that a mapping gives; refuses one that gives none."""
    ours = list(mapping.values())
    twice = next((one for one in ours if ours.count(one) > 1 and one != "prompt"), None)
    if twice:
        columns = [theirs for theirs, one in mapping.items() if one == twice]
        raise Refusal(
            f"The mapping of {source} takes {' and '.join(columns)} both for {twice}.",
            "Only prompt may be put together from several columns.",
            "Leave all but one of them out.",
        )
    filled = (schema.name for schema, need in _needed() if need <= set(ours))
    schema = next(filled, None)
    if schema is None:
        options = "; ".join(" with ".join(sorted(need)) for _, need in _needed())
        raise Refusal(
            f"The mapping of {source} gives no row that can be learnt from.",
            f"It fills {', '.join(ours)}.",
            f"Fill one of these: {options}.",
        )
    return Detected(format=schema, mapping=dict(mapping), why=why)


def _needed() -> list[tuple[Schema, frozenset[Column]]]:
    """The columns that a mapping must fill for each schema, the more telling ones first."""
    return [(schema, need) for schema in by_telling() for need in schema.needed]


def check_columns(mapping: Mapping[str, Column], rows: list[dict[str, Any]], source: str) -> None:
    """Refuses a mapping that names a column which none of the first rows has."""
    present = {name for row in rows for name in columns_of(row)}
    for theirs in mapping:
        if rows and theirs not in present and all(picked(row, theirs) is None for row in rows):
            close = difflib.get_close_matches(theirs, present, n=1)
            raise Refusal(
                f"The dataset {source} has no column {theirs}, which its mapping names.",
                f"Its columns are {listed(present)}.",
                f"Did you mean {close[0]}?" if close else "Name one of those.",
            )
