"""The rows of any dataset wherever they are asked for, none of them held.

JSON lines are looked up where they lie. Every other kind is read from its beginning, as far as it
is asked for, and its rows are put down as JSON lines in a folder, with the place of each.
"""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from workers.data.browse.line_index import IndexedRow, LineIndex
from workers.data.read.fault import RowFault
from workers.data.read.files import READ_BYTES, DataFiles, RawRow
from workers.data.read.jsonl import UTF8_MARK, ends_with_returns
from workers.protocol.refusal import Refusal
from workers.protocol.sources import kind_of_file

CACHE = "rows.jsonl"
LEAST_FREE_BYTES = 1 << 30
LOOKED_BYTES = 64 << 20
"""Bytes put down between two looks at the disk."""
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
ODD = "$not json"


class CachedRow(NamedTuple):
    """One row as it is shown and as it is written again."""

    file: str
    line: int
    value: Any
    """The row, or a `RowFault`."""
    text: str
    """The row as JSON in one line, or the beginning of what is none."""

    @property
    def json(self) -> bool:
        """Whether `text` is the whole row as JSON."""
        return not isinstance(self.value, RowFault)


class Rows(Protocol):
    """A dataset's rows by number from 0, as far as they are known."""

    @property
    def known(self) -> int: ...

    @property
    def complete(self) -> bool:
        """Whether all rows are known."""
        ...

    @property
    def fault(self) -> Refusal | None:
        """Why what follows the known rows cannot be read."""
        ...

    def advance(self, seconds: float) -> None:
        """Gets to know more rows for about so long."""
        ...

    def rows(self, first: int, count: int) -> Iterator[CachedRow]:
        """Known rows from number `first`."""
        ...

    def close(self) -> None: ...


def open_rows(found: DataFiles, folder: Path) -> Rows:
    """The rows of a dataset; what has to be put down goes into `folder`.

    Raises:
        Refusal: a file cannot be read, or is of no known kind.
    """
    try:
        return IndexedRows(found.path) if _is_lines(found) else CachedRows(found, folder)
    except OSError as fault:
        raise Refusal(
            f"The dataset {found.path} cannot be read: {fault.strerror}.",
            "It may belong to somebody else or lie on a disk that is gone.",
            "Make the file readable, or copy it elsewhere.",
        ) from fault


def _is_lines(found: DataFiles) -> bool:
    """Whether the dataset is one file of JSON lines, with line feeds between them, neither packed
    nor a JSON document."""
    if found.files != (found.path,) or ".json" in [s.lower() for s in found.path.suffixes]:
        return False
    with found.path.open("rb") as file:
        head = file.read(READ_BYTES)
    begun = head.removeprefix(UTF8_MARK).lstrip()[:1]
    kind = kind_of_file(found.path)
    named = kind == "json" and begun != b"["
    lines = named or (kind is None and begun == b"{")
    return lines and not head.startswith(PACKED) and not ends_with_returns(head)


class IndexedRows:
    """JSON lines where they lie."""

    fault: Refusal | None = None

    def __init__(self, path: Path) -> None:
        self._index = LineIndex(path)

    @property
    def known(self) -> int:
        return self._index.known

    @property
    def complete(self) -> bool:
        return self._index.complete

    def advance(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._index.scan() and time.monotonic() < until:
            pass

    def rows(self, first: int, count: int) -> Iterator[CachedRow]:
        return map(_cached, self._index.rows(first, min(count, self.known - first)))

    def close(self) -> None:
        self._index.close()


def _cached(indexed: IndexedRow) -> CachedRow:
    line, value, excerpt = indexed.row
    text = excerpt if isinstance(value, RowFault) else (indexed.data or b"").decode().strip()
    return CachedRow("", line, value, text)


class CachedRows:
    """Rows of any kind, read as far as they are asked for and put down in a folder."""

    def __init__(
        self, found: DataFiles, folder: Path, least_free_bytes: int = LEAST_FREE_BYTES
    ) -> None:
        self._items = found.items()
        self._path = folder / CACHE
        self._file = self._path.open("w+b")
        self._begins = array("q")
        self._end = self._looked = 0
        self._least_free_bytes = least_free_bytes
        self.complete = False
        self.fault: Refusal | None = None

    @property
    def known(self) -> int:
        return len(self._begins)

    def advance(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._require_space()
        self._file.seek(self._end)
        while not self.complete and time.monotonic() < until:
            item = self._next()
            if item is None:
                self.complete = True
                return
            line = _packed(item)
            self._file.write(line)
            self._begins.append(self._end)
            self._end += len(line)

    def rows(self, first: int, count: int) -> Iterator[CachedRow]:
        for place in self._begins[first : first + count]:
            self._file.seek(place)
            yield _unpacked(self._file.readline())

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _next(self) -> RawRow | None:
        try:
            return next(self._items, None)
        except Refusal as refusal:
            if not self.known:
                raise
            self.fault = refusal
            return None

    def _require_space(self) -> None:
        if self._looked and self._end < self._looked:
            return
        self._looked = self._end + LOOKED_BYTES
        free = shutil.disk_usage(self._path.parent).free
        if free < self._least_free_bytes:
            raise Refusal(
                f"The disk that holds {self._path.parent} has only {free / 1e6:.0f} MB free.",
                "Rows of a file that is not JSON lines are put down there to be looked at.",
                "Free some space, or name another folder with --home DIR.",
            )


def _packed(item: RawRow) -> bytes:
    """One row for the cache, as JSON that `_unpacked` reads back to equal values."""
    fault = [item.value.kind, str(item.value)] if isinstance(item.value, RowFault) else None
    parts = [item.file, item.line, None if fault else item.value, fault, item.excerpt]
    return json.dumps(parts, ensure_ascii=False, default=_odd).encode("utf-8", "replace") + b"\n"


def _unpacked(line: bytes) -> CachedRow:
    text = line.decode()
    parts = json.loads(text, object_hook=_odd_again if ODD in text else None)
    file, number, value, fault, excerpt = parts
    if fault is not None:
        return CachedRow(file, number, RowFault(*fault), excerpt)
    return CachedRow(file, number, value, as_json(value))


def as_json(value: Any) -> str:
    """A row as JSON in one line; what JSON does not know (dates, bytes) stands as text."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case Odd():
            return value.text
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case _:
            return value


class Odd(msgspec.Struct, frozen=True):
    """A value that JSON does not know, so that no row takes it for text."""

    text: str


def _odd(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {ODD: base64.b64encode(value).decode()}
    if isinstance(value, datetime.date | datetime.time):
        return {ODD: value.isoformat()}
    return {ODD: str(value)}


def _odd_again(found: dict[str, Any]) -> Any:
    return Odd(found[ODD]) if found.keys() == {ODD} else found
