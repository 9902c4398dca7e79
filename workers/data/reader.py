"""Reads a dataset into rows, naming the file, the line and the reason for every bad one.

The entry to a dataset: `read` finds its files and reads them into raw rows, `schema` says what
their columns are and makes rows of them. Knows no model and no tokenizer.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import msgspec

from workers.data.read.fault import FaultKind, RowFault
from workers.data.read.files import RawRow, ReadProgress, find, locate, silent
from workers.data.row_store import RowStore
from workers.data.schema.detect import check_columns, from_mapping
from workers.data.schema.detected import Detected
from workers.data.schema.messages import Message, check_conversation
from workers.data.schema.parser import RowParser
from workers.data.schema.propose import propose
from workers.data.schema.row import Row
from workers.data.schema.schemas import SCHEMAS
from workers.protocol.audit import BadLine, grouped
from workers.protocol.catalogue import known_dataset
from workers.protocol.mapping import Proposal
from workers.protocol.recipe import Column, Documents, Source, Stage
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of

__all__ = [
    "SCHEMAS",
    "BadRow",
    "BadRows",
    "Detected",
    "Message",
    "Row",
    "RowFault",
    "Table",
    "check_conversation",
    "inspect",
    "locate",
    "parser_of",
    "proposal_for",
    "read",
    "read_table",
    "serves",
    "shapes",
    "stages_of",
]  # fmt: skip

SAMPLED_ROWS = 200
"""First rows that are looked at before the columns' meaning is settled."""
SHOWN = 3
"""Kinds of faults that a refusal names."""
WATCHED_ROWS = 256
"""Rows between two looks at how far reading is."""


def serves(row: Row, stage: Stage) -> bool:
    """Whether a stage can learn from the row."""
    spec = spec_of(stage)
    if row.uses_tools and not spec.templated:
        return False
    if spec.supervision == "completions" and row.label is False:
        return False  # an undesirable completion is not to be imitated
    return any(getattr(row, field) not in (None, "", []) for field in spec.fields)


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be used.

    `line` counts from 1; in a file that has no lines (Parquet, Arrow) it is the row's number.
    """

    line: int
    reason: str
    file: str = ""
    """Where the dataset has several."""
    excerpt: str = ""
    """The beginning of its text, where it could not be read as a row at all."""
    kind: FaultKind = "value"

    def __str__(self) -> str:
        return f"{f'{self.file} ' if self.file else ''}line {self.line}: {self.reason}"


class BadRows(Protocol):
    """What keeps bad rows, or as many of them as it likes."""

    def append(self, row: BadRow, /) -> None: ...
    def __len__(self) -> int: ...


class Table(msgspec.Struct, frozen=True):
    """One dataset, read whole."""

    source: str
    path: str
    sha256: str
    format: str
    """The name of its schema."""
    rows: Sequence[Row]
    """In the file's order."""
    detected: Detected
    """What it was taken for, and why."""
    bad: list[BadRow] = []
    """Rows that were left out; none unless that was asked for."""
    documents: str = ""
    """How its text files were split into documents; empty where it has none."""
    questions: int = 0
    """Conversations that go on behind their last answer; what follows it is left out."""
    windows: list[str] = []
    """Files that are not UTF-8 and are read as what Windows writes (cp1252)."""
    unread: dict[str, int] = {}
    """Keys of turns that nothing looks at, flags among them: rows by key."""

    @property
    def notes(self) -> list[str]:
        """What to tell of how the rows were read, a sentence each."""
        told = [
            f"{name} is not UTF-8 and is read as cp1252, as Excel on Windows saves CSV."
            for name in self.windows
        ]
        if self.questions:
            go = "conversation goes" if self.questions == 1 else "conversations go"
            told.append(
                f"{self.questions} {go} on behind the last answer; what nobody answers is left out."
            )
        return told


def read_table(
    source: str,
    *,
    mapping: Mapping[str, Column] | None = None,
    bad_rows: Literal["refuse", "skip"] = "refuse",
    say: Callable[[str], None] = silent,
    documents: Documents = "auto",
) -> Table:
    """Reads a dataset.

    Args:
        source: as a recipe names it.
        mapping: their columns to ours, instead of detection; a dot leads into a column of objects.
        bad_rows: whether a bad row refuses the whole, or is left out and reported.
        say: told when something slow begins.
        documents: how text files are split.

    Raises:
        Refusal: there is no such dataset, or it has bad rows that may not be skipped, or no others.
    """
    bad: list[BadRow] = []
    table = read(source, mapping, say, bad=bad, documents=documents)
    if bad and (bad_rows == "refuse" or table is None):
        if table is None:
            proposal = None if mapping else proposal_for(source, documents)
            raise _refuse_rows(source, bad, len(bad), proposal)
        raise _refuse_rows(table.path, bad, len(table.rows) + len(bad))
    assert table is not None
    return msgspec.structs.replace(table, bad=bad)


def read(
    source: str,
    mapping: Mapping[str, Column] | None = None,
    say: Callable[[str], None] = silent,
    *,
    rows: list[Row] | RowStore | None = None,
    bad: BadRows | None = None,
    progress: Callable[[int, int], bool] = lambda done, total: True,
    documents: Documents = "auto",
) -> Table | None:
    """The usable rows of a dataset; no table where none is usable.

    Args:
        rows: takes the usable ones up; a `RowStore` keeps them on disk.
        bad: takes the others up.
        progress: told how many bytes are read, of how many; False ends the reading early.

    Raises:
        Refusal: there is no such dataset, it cannot be read at all, or it is empty.
    """
    found, place = find(source, say, documents), ReadProgress()
    total = found.bytes
    rows = [] if rows is None else rows
    bad = [] if bad is None else bad
    items = found.items(place)
    sample = list(itertools.islice(items, SAMPLED_ROWS))
    parser = parser_of(source, mapping, sample)
    watched = _watched(items, lambda: progress(place.bytes, total))
    _convert(itertools.chain(sample, watched), parser, rows, bad)
    if parser.detected is None or not rows:
        if bad:
            return None
        raise Refusal(
            f"The dataset {found.path} holds no rows.",
            "The file is empty.",
            f"Each row needs {shapes()}.",
        )
    detected = _with_stages(parser.detected, rows)
    path = str(found.path)
    return Table(
        source, path, found.sha256, detected.format, rows, detected,
        questions=parser.remarks.questions, windows=place.windows,
        unread=dict(parser.remarks.unread),
        documents=found.documents_words,
    )  # fmt: skip


def _watched(items: Iterator[RawRow], carry_on: Callable[[], bool]) -> Iterator[RawRow]:
    """The items, until asked to end."""
    for number, item in enumerate(items):
        if number % WATCHED_ROWS == 0 and not carry_on():
            return
        yield item
    carry_on()


def inspect(
    source: str,
    mapping: Mapping[str, Column] | None = None,
    say: Callable[[str], None] = silent,
) -> Detected:
    """What a dataset is taken for, by its first rows alone."""
    found = find(source, say)
    sample = list(itertools.islice(found.items(), SAMPLED_ROWS))
    parser = parser_of(source, mapping, sample)
    rows: list[Row] = []
    bad: list[BadRow] = []
    _convert(sample, parser, rows, bad)
    if parser.detected is None:
        raise _refuse_rows(str(found.path), bad, len(bad))
    return _with_stages(parser.detected, rows)


def proposal_for(source: str, documents: Documents = "auto") -> Proposal | None:
    """What the columns of a dataset most likely are, by its first rows; None where nothing suggests
    itself."""
    sample = itertools.islice(find(source, documents=documents).items(), SAMPLED_ROWS)
    return propose([item.value for item in sample])


def parser_of(source: str, mapping: Mapping[str, Column] | None, sample: list[RawRow]) -> RowParser:
    """Goes by the mapping given, else by the catalogue's where it fits, else by detection."""
    values = [item.value for item in sample]
    rows = [value for value in values if isinstance(value, dict)]
    if mapping:
        check_columns(mapping, rows, source)
        return RowParser(values, from_mapping(mapping, source, "The recipe maps the columns."))
    entry = known_dataset(Source(source=source))
    if entry is not None and entry.mapping:
        catalogued: Any = entry.mapping
        try:
            check_columns(catalogued, rows, source)
            return RowParser(
                values, from_mapping(catalogued, source, "The catalogue maps the columns.")
            )
        except Refusal:
            pass  # the set has changed since it was entered; what it holds now counts
    return RowParser(values)


def _convert(
    items: Iterable[RawRow], parser: RowParser, rows: list[Row] | RowStore, bad: BadRows
) -> None:
    for file, line, value, excerpt in items:
        try:
            rows.append(parser.row(value))
        except RowFault as fault:
            bad.append(BadRow(line, str(fault), file, excerpt, fault.kind))


def places_of(source: Source, wanted: Sequence[Row]) -> list[tuple[str, int]]:
    """File and line of rows, by reading the dataset once more; no file and 0 for those that are not
    in it. Of equal rows the first one's."""
    items = find(source.source, silent, source.documents).items()
    sample = list(itertools.islice(items, SAMPLED_ROWS))
    parser = parser_of(source.source, source.mapping, sample)
    keys = [msgspec.json.encode(row) for row in wanted]
    left, found = set(keys), dict[bytes, tuple[str, int]]()
    for file, line, value, _ in itertools.chain(sample, items):
        with contextlib.suppress(RowFault):
            key = msgspec.json.encode(parser.row(value))
            if key in left:
                left.remove(key)
                found[key] = file, line
        if not left:
            break
    return [found.get(key, ("", 0)) for key in keys]


def _with_stages(detected: Detected, rows: Sequence[Row]) -> Detected:
    return msgspec.structs.replace(detected, stages=stages_of(rows[:SAMPLED_ROWS]))


def stages_of(rows: Iterable[Row], stages: Sequence[Stage] = get_args(Stage)) -> list[Stage]:
    """The stages that at least one row can serve; goes through the rows once."""
    kinds = {
        (row.uses_tools, row.label, bool(row.completion), bool(row.rejected), bool(row.prompt),
         bool(row.text), bool(row.segments)): row
        for row in rows
    }  # fmt: skip
    return [stage for stage in stages if any(serves(row, stage) for row in kinds.values())]


def shapes() -> str:
    """What a row may hold, in words."""
    *most, last = [schema.words for schema in SCHEMAS.values()]
    return f"{', '.join(most)}, or {last}"


def _refuse_rows(
    path: str, bad: list[BadRow], total: int, proposal: Proposal | None = None
) -> Refusal:
    groups = grouped([BadLine(row.line, row.reason, row.file) for row in bad])
    shown = "; ".join(group.words for group in groups[:SHOWN])
    left = sum(group.count for group in groups[SHOWN:])
    more = f"; and {left} more" if left else ""
    if len(bad) == total:
        cause, remedy = "No row is left to use.", "Mend them."
    else:
        cause = "A row that is skipped in silence would change what is learnt."
        remedy = 'Mend or remove those rows, or leave them out with bad_rows = "skip".'
    if proposal is not None:
        remedy = f"Map its columns with {proposal.options}. {proposal.words}"
    return Refusal(
        f"{len(bad)} of {total} rows in {path} cannot be used. {shown}{more}.",
        cause,
        f"{remedy} Each row needs {shapes()}.",
    )
