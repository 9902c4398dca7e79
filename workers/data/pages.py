"""A look into JSON lines of any size: only where each line begins is ever held.

The index grows as far as it is asked for, so the first page of a large file comes at once.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.lines import Numbered, lines, read_line, start

CHUNK_BYTES = 16 << 20
NEWLINE = 10


class Pages:
    """The lines of one file, a page at a time. Blank lines are passed over; lines keep numbers."""

    def __init__(self, path: Path, size: int = 100) -> None:
        """Opens the file; refuses one whose lines cannot be told apart (UTF-16)."""
        self.path, self.size = path, size
        self._file = path.open("rb")
        start(self._file, str(path))
        self._begun = self._scanned = self._file.tell()
        self._bytes = path.stat().st_size
        self._parts: list[NDArray[np.int64]] = [np.array([self._begun], np.int64)]
        self._known = 1

    def close(self) -> None:
        self._file.close()

    def page(self, number: int) -> list[Numbered]:
        """Rows and faults of one page, counted from 0; none behind the end."""
        first = number * self.size
        while self._known <= first + self.size and self._scan():
            pass
        if first >= self._count():
            return []
        begin, end = self._offset(first), self._offset(first + self.size)
        self._file.seek(begin)
        part: Any = io.BytesIO(self._file.read(end - begin))
        return [
            read_line(line, text)
            for line, text in enumerate(lines(part), start=first + 1)
            if text is None or text.strip()
        ]

    def count(self) -> int:
        """Lines in all, blank ones among them; the first call reads the file through."""
        while self._scan():
            pass
        return self._count()

    def _scan(self) -> bool:
        """Indexes one more chunk; false when there is none left."""
        self._file.seek(self._scanned)
        chunk = self._file.read(min(CHUNK_BYTES, self._bytes - self._scanned))
        if not chunk:
            return False
        found = np.flatnonzero(np.frombuffer(chunk, np.uint8) == NEWLINE)
        self._parts.append(found.astype(np.int64) + (self._scanned + 1))
        self._known += len(found)
        self._scanned += len(chunk)
        return True

    def _count(self) -> int:
        """Lines known so far; what follows the last line end is a line only if it holds a byte."""
        ended = self._known > 0 and self._at(self._known - 1) >= self._bytes
        return self._known - 1 if ended else self._known

    def _offset(self, line: int) -> int:
        return self._at(line) if line < self._known else self._bytes

    def _at(self, line: int) -> int:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return int(self._parts[0][line])
