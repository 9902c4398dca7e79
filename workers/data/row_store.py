"""Rows, and columns of numbers about them, that lie on disk: memory stays flat for any dataset.

Both live in a temporary file that is gone when closed; as long as they are small it is in memory.
A memory-mapped Arrow file of one binary column is no faster in all: of 60,000 rows it takes 1.5 to
2.3 times as long to write, 0.45 times to read in any order, as long to go through. And it must be
closed before it is read, while rows here are read as soon as they are appended.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.data.schema.row import Row

HELD_BYTES = 16 << 20
"""What is smaller stays in memory."""
BLOCK_BYTES = 1 << 20
"""Read at once where rows are gone through in order."""


class _OnDisk:
    """A temporary file, gone when closed. Use as a context, or call `close`."""

    def __init__(self, folder: Path | None = None, held_bytes: int = HELD_BYTES) -> None:
        self._file: Any = tempfile.SpooledTemporaryFile(held_bytes, dir=folder and str(folder))  # noqa: SIM115

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, begin: int, size: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(size)


class RowStore(_OnDisk, Sequence[Row]):
    """Rows in the order in which they were appended; 8 bytes of memory each.

    Args:
        folder: where the file lies; the system's folder for temporary files where none is given.
    """

    def __init__(self, folder: Path | None = None, held_bytes: int = HELD_BYTES) -> None:
        super().__init__(folder, held_bytes)
        self._ends = array("Q", [0])
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Row).decode

    def append(self, row: Row) -> None:
        """Writes one row behind the last."""
        data = self._encode(row)
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(at)
        begin = self._ends[place]
        return self._decode(self._read(begin, self._ends[place + 1] - begin))

    def __iter__(self) -> Iterator[Row]:
        """All rows; other rows may be read between two of them."""
        at, ends = 0, self._ends
        while at < len(self):
            begin = ends[at]
            upto = at + 1
            while upto < len(self) and ends[upto + 1] - begin <= BLOCK_BYTES:
                upto += 1
            block = memoryview(self._read(begin, ends[upto] - begin))
            for place in range(at, upto):
                yield self._decode(block[ends[place] - begin : ends[place + 1] - begin])
            at = upto


class Columns(_OnDisk):
    """A table of numbers that grows by rows and is read column by column."""

    def __init__(
        self, width: int, kind: Any, folder: Path | None = None, held_bytes: int = HELD_BYTES
    ) -> None:
        super().__init__(folder, held_bytes)
        self.width = width
        self._kind = np.dtype(kind)
        self._heights = array("Q")

    def append(self, block: NDArray[Any]) -> None:
        """Takes up rows: an array of shape (rows, width)."""
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(block.T, self._kind).tobytes())
        self._heights.append(len(block))

    def column(self, number: int) -> NDArray[Any]:
        """One column, as many numbers as there are rows."""
        parts: list[NDArray[Any]] = []
        begin = 0
        for height in self._heights:
            size = height * self._kind.itemsize
            data = self._read(begin + number * size, size)
            parts.append(np.frombuffer(data, self._kind))
            begin += size * self.width
        return np.concatenate(parts) if parts else np.zeros(0, self._kind)
