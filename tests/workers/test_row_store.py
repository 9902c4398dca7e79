"""Rows and numbers on disk are those that were put there, whatever is read between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.data.reader import Row
from workers.data.row_store import BLOCK_BYTES, Columns, RowStore

HELD = pytest.mark.parametrize("held_bytes", [1, 100, 1 << 20])
"""On disk from the first byte, or after a while; in memory."""


def _rows(count: int) -> list[Row]:
    return [
        Row(prompt=[{"role": "user", "content": f"größer {n} 🦊"}], text="x" * (n * 7 % 90))
        for n in range(count)
    ]  # fmt: skip


@HELD
def test_rows_come_back_in_order_by_number_and_in_part(tmp_path: Path, held_bytes: int) -> None:
    rows = _rows(50)
    with RowStore(tmp_path, held_bytes) as file:
        for row in rows:
            file.append(row)
        assert len(file) == 50
        assert list(file) == rows
        assert (file[0], file[-1], file[3:9]) == (rows[0], rows[-1], rows[3:9])
        with pytest.raises(IndexError):
            file[50]
        file.append(rows[7])
        assert file[50] == rows[7]
    assert not os.listdir(tmp_path)


def test_other_rows_may_be_read_on_the_way(tmp_path: Path) -> None:
    rows = [Row(text=f"{n} " * 20_000) for n in range(40)]
    with RowStore(tmp_path) as file:
        for row in rows:
            file.append(row)
        assert sum(len(row.text) for row in rows) > 2 * BLOCK_BYTES
        assert [(row, file[-1 - n]) for n, row in enumerate(file)] == [
            (row, rows[-1 - n]) for n, row in enumerate(rows)
        ]


def test_tools_and_large_numbers_come_back(tmp_path: Path) -> None:
    called: dict[str, Any] = {
        "function": {"name": "f", "arguments": {"n": 2**80, "x": [None, 1.5]}}
    }
    row = Row(completion=[{"role": "assistant", "content": "", "tool_calls": [called]}],
              tools=[{"name": "f"}], label=False, answer="1")  # fmt: skip
    with RowStore(tmp_path) as file:
        file.append(row)
        assert file[0] == row


def test_no_rows_are_no_rows(tmp_path: Path) -> None:
    with RowStore(tmp_path) as file:
        assert (len(file), list(file), file[:3]) == (0, [], [])


@HELD
def test_columns_are_read_one_by_one(tmp_path: Path, held_bytes: int) -> None:
    table = np.arange(600, dtype=np.uint32).reshape(200, 3)
    with Columns(3, np.uint32, tmp_path, held_bytes) as columns:
        assert len(columns.column(0)) == 0
        for begin, end in ((0, 1), (1, 1), (1, 120), (120, 200)):
            columns.append(table[begin:end])
        for number in range(3):
            assert np.array_equal(columns.column(number), table[:, number])
