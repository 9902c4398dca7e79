"""Reads tables that are not JSON into rows: CSV and TSV, Parquet and Arrow."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.read.jsonl import (
    EXCERPT,
    MAX_ROW_BYTES,
    NumberedRow,
    is_by_windows,
    not_utf8,
    start,
)
from workers.protocol.refusal import Refusal

BATCH_ROWS = 512
DELIMITERS = ",;\t|"


# CSV


def csv_rows(
    stream: io.BufferedReader,
    name: str,
    delimiter: str = "",
    by_windows: Callable[[str], None] = lambda name: None,
) -> Iterator[NumberedRow]:
    """Rows under a header line.

    Args:
        delimiter: found out where none is given.
        by_windows: told the name where the text is read as cp1252, being no UTF-8.
    """
    start(stream, name)
    text = _decoded(stream, lambda: by_windows(name))
    first = next(text, "")
    if not first.strip():
        return
    delimiter = delimiter or max(DELIMITERS, key=first.count)
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
    header = _header(reader, name)
    while True:
        begun = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            yield NumberedRow(begun, RowFault("csv", f"not valid CSV: {_csv_fault(fault)}"))
            continue
        if fields:
            yield _csv_row(begun, header, fields, delimiter)


def _decoded(stream: Iterable[bytes], by_windows: Callable[[], None]) -> Iterator[str]:
    """Lines as text, with lone surrogates for bytes that are none.

    From the first line on that Windows has written in cp1252, as Excel does, lines that are not
    UTF-8 are read so; not in a file that has shown letters in UTF-8 before.
    """
    windows = utf8 = False
    for line in stream:
        try:
            text = line.decode()
            utf8 = utf8 or not text.isascii()
        except UnicodeDecodeError:
            if not windows and not utf8 and is_by_windows(line):
                windows = True
                by_windows()
            text = _as_windows(line) if windows else line.decode("utf-8", "surrogateescape")
        yield text


def _as_windows(line: bytes) -> str:
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:  # five bytes stand for nothing in it
        return line.decode("utf-8", "surrogateescape")


def _header(reader: Any, name: str) -> list[str]:
    try:
        header = [field.strip() for field in next(reader)]
    except csv.Error as fault:
        raise Refusal(
            f"The header of {name} cannot be read: {fault}.",
            "A quotation mark in it may not be closed.",
            "Mend the first line; it names the columns.",
        ) from None
    if len(set(header)) < len(header) or not all(header):
        raise Refusal(
            f"The header of {name} has columns without a name or with the same one.",
            f"It reads: {', '.join(header)}.",
            "Give every column a name of its own in the first line.",
        )
    return header


def _csv_fault(fault: csv.Error) -> str:
    reason = str(fault)
    if "unexpected end of data" in reason:
        return "a quotation mark is not closed before the file ends"
    return reason


def _csv_row(begun: int, header: list[str], fields: list[str], delimiter: str) -> NumberedRow:
    excerpt = delimiter.join(fields)[:EXCERPT]
    shown = excerpt.encode("utf-8", "surrogateescape").decode("latin-1")
    if len(fields) != len(header):
        reason = f"it has {len(fields)} fields where the header has {len(header)}"
        return NumberedRow(begun, RowFault("csv", reason), shown)
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        data = "".join(fields).encode("utf-8", "surrogateescape")
        return NumberedRow(begun, RowFault("encoding", not_utf8(data)), shown)
    return NumberedRow(begun, dict(zip(header, fields, strict=True)))


# Columns on disk


def parquet_rows(stream: Any, name: str) -> Iterator[NumberedRow]:
    """Rows of a Parquet file, numbered from 1; Parquet has no lines."""
    import pyarrow.parquet as parquet

    yield from _numbered(lambda: parquet.ParquetFile(stream).iter_batches(BATCH_ROWS), name)


def arrow_rows(stream: Any, name: str) -> Iterator[NumberedRow]:
    """Rows of an Arrow or Feather file, or of the stream format that `datasets` saves."""
    yield from _numbered(lambda: _arrow_batches(stream), name)


def _arrow_batches(stream: Any) -> Iterator[Any]:
    import pyarrow

    begun = stream.tell()
    try:
        reader = pyarrow.ipc.open_file(stream)
    except pyarrow.ArrowInvalid:
        stream.seek(begun)
        yield from pyarrow.ipc.open_stream(stream)
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _numbered(batches: Any, name: str) -> Iterator[NumberedRow]:
    import pyarrow

    number = 0
    try:
        for batch in batches():
            _check_names(batch.schema.names, name)
            types = {field.name: field.type for field in batch.schema}
            nested = [name for name, kind in types.items() if pyarrow.types.is_nested(kind)]
            long = [name for name, kind in types.items() if not pyarrow.types.is_primitive(kind)]
            for at in range(0, batch.num_rows, BATCH_ROWS):
                for row in _rows_of(batch.slice(at, BATCH_ROWS), nested, long):
                    number += 1
                    yield NumberedRow(number, row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise Refusal(
            f"The dataset {name} cannot be read after row {number}.",
            f"{str(fault).splitlines()[0] if str(fault) else type(fault).__name__}.",
            "The file may be cut off or of another kind than its name says; fetch it again.",
        ) from fault


def _check_names(names: list[str], source: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(
            f"The dataset {source} has two columns called {twice}.",
            "Which of them is meant cannot be told.",
            "Rename one of them.",
        )


def _rows_of(batch: Any, nested: list[str], long: list[str]) -> Iterator[Any]:
    """The rows of a batch, those that are too large as faults.

    Args:
        nested: columns of lists and objects.
        long: columns of values of any length.
    """
    texts = batch.select(long) if long and batch.nbytes > MAX_ROW_BYTES else None
    for at, row in enumerate(batch.to_pylist()):
        if texts is not None and texts.slice(at, 1).nbytes > MAX_ROW_BYTES:
            yield RowFault("size", f"it is longer than {MAX_ROW_BYTES >> 20} MiB")
            continue
        for name in nested:
            row[name] = _without_padding(row[name])
        yield row


def _without_padding(value: Any) -> Any:
    """A value without the nulls that Arrow fills objects with, so that all have the same keys."""
    if isinstance(value, list):
        return [_without_padding(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_padding(one) for key, one in value.items() if one is not None}
    return value
