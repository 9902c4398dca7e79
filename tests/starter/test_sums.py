"""The set of the demo: every sum is right, boxed, and asked once."""

from __future__ import annotations

import json
import re
from pathlib import Path

SUMS = Path(__file__).parents[2] / "assets" / "data" / "sums.jsonl"


def test_every_sum_is_right_and_boxed() -> None:
    rows = [json.loads(line) for line in SUMS.read_text().splitlines()]
    pairs = [tuple(map(int, re.findall(r"\d+", row["prompt"]))) for row in rows]
    assert len(set(pairs)) == len(pairs) == 400
    for row, (a, b) in zip(rows, pairs, strict=True):
        assert row["answer"] == str(a + b)
        assert row["messages"][0]["content"] == row["prompt"]
        assert (
            row["messages"][-1]["content"]
            == f"<think>{a} + {b} = {a + b}</think>\\boxed{{{a + b}}}"
        )
