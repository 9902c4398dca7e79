"""A look into JSON lines of any size: only where each row begins is ever held.

Rows are the lines that are not blank, numbered from 0. The index grows as far as it is asked for,
so the first rows of a large file come at once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.data.read.jsonl import NumberedRow, Strict, lines, read_line, start

CHUNK_BYTES = 4 << 20
NEWLINE = 10
BLANKS = np.frombuffer(b" \t\r\n\x0b\x0c", np.uint8)
"""Bytes that a blank line may begin with."""
BREAKS = np.frombuffer(b"\r\n", np.uint8)
LOOK_BYTES = 4096


class IndexedRow(NamedTuple):
    """One row with its bytes."""

    row: NumberedRow
    data: bytes | None
    """The line without its end; None for one that is too long to be a row."""


class LineIndex:
    """The rows of one file, wherever they are asked for. Memory: 8 bytes a row."""

    def __init__(self, path: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Opens the file; refuses one whose lines cannot be told apart (UTF-16)."""
        self.path = path
        self._chunk_bytes = chunk_bytes
        self._file = path.open("rb")
        start(self._file, str(path))
        self._scanned = self._open = self._file.tell()
        self._bytes = path.stat().st_size
        self._begins = array("q")
        self._blanks = array("q")
        """For each blank line, the rows before it."""

    def close(self) -> None:
        self._file.close()

    @property
    def complete(self) -> bool:
        """Whether all rows are known."""
        return self._scanned >= self._bytes

    @property
    def known(self) -> int:
        """Rows that are indexed so far."""
        return len(self._begins)

    def scan(self) -> bool:
        """Indexes one more chunk; False when there is none left."""
        if self.complete:
            return False
        self._file.seek(self._scanned)
        chunk = self._file.read(min(self._chunk_bytes, self._bytes - self._scanned))
        if not chunk:
            self._bytes = self._scanned  # the file was cut off since it was opened
        data, base = np.frombuffer(chunk, np.uint8), self._scanned
        self._scanned += len(chunk)
        ends = np.flatnonzero(data == NEWLINE).astype(np.int64) + (base + 1)
        if self.complete and self._open < self._scanned and not chunk.endswith(b"\n"):
            ends = np.append(ends, self._scanned)
        if len(ends):
            begins = np.concatenate([[self._open], ends[:-1]])
            self._take(begins, self._blank(begins, ends, data, base))
            self._open = int(ends[-1])
        return True

    def count(self) -> int:
        """Rows in all; the first call reads the file through."""
        while self.scan():
            pass
        return self.known

    def rows(self, first: int, count: int) -> Iterator[IndexedRow]:
        """Rows and faults from number `first`; fewer at the end."""
        while self.known < first + count and self.scan():
            pass
        left = min(count, self.known - first)
        if left <= 0:
            return
        strict, place = Strict(), self._begins[first]
        number = first + 1 + bisect_right(self._blanks, first)
        while left:
            self._file.seek(place)
            data = next(lines(self._file), b"")
            place = self._file.tell()
            if data is None or data.strip():
                yield IndexedRow(read_line(number, data, strict), data)
                left -= 1
            elif place >= self._bytes:
                return
            number += 1

    def _take(self, begins: NDArray[np.int64], blank: NDArray[np.bool_]) -> None:
        """Adds the rows among lines."""
        if blank.any():
            before = np.cumsum(~blank)[blank] + self.known
            self._blanks.frombytes(before.astype(np.int64).tobytes())
        self._begins.frombytes(begins[~blank].astype(np.int64).tobytes())

    def _blank(
        self,
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        data: NDArray[np.uint8],
        base: int,
    ) -> NDArray[np.bool_]:
        """Which lines hold nothing; `data` is the chunk that begins at `base`."""
        first = data[np.maximum(begins - base, 0)]
        suspect = np.isin(first, BLANKS) | (begins < base)
        blank = (begins >= base) & (ends - begins <= 2) & np.isin(first, BREAKS)
        for at in np.flatnonzero(suspect & ~blank):
            blank[at] = self._is_blank(int(begins[at]), int(ends[at]))
        return blank

    def _is_blank(self, begin: int, end: int) -> bool:
        self._file.seek(begin)
        while (part := self._file.read(min(end - begin, LOOK_BYTES))) and not part.strip():
            begin += len(part)
        return begin >= end
