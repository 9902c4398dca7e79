"""Rows per second of the audit, over those of the bare fast tokenizer on rows of the same file.

    python tests/benchmarks/audit_throughput.py [--rows N]

Bare is what a script would do: the rows are rendered beforehand, outside the clock, and the
tokenizer is called on a thousand of them at a time. The audit renders, tokenizes, masks and looks
at each row. Both run by turns, a thousand rows bare after every ten thousand audited, so that
whatever else the machine does falls on both alike. Rows are generated conversations of about 200
words in invented words, in a JSON lines file that is read from the disk first. Memory is the
process's highest so far (`ru_maxrss`), as growth over what it was with the tokenizer loaded.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from workers.data import reader as formats
from workers.data.audit.audit import Audit
from workers.data.row_store import RowStore
from workers.data.tokenize.chat_template import render
from workers.protocol.assets import assets_folder

BARE, EVERY = 1000, 10_000
EARLY = 100_000
SYLLABLES = [one + other for one in "bcdfglmnprst" for other in "aeiou"]


def write(path: Path, count: int) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(5000)]

    def prose(low: int, high: int) -> str:
        said = draw.choices(words, k=draw.randint(low, high))
        said[11::12] = [f"{word}." for word in said[11::12]]
        return " ".join(said)

    with path.open("w") as file:
        for _ in range(count):
            row = {"prompt": prose(10, 70), "completion": prose(60, 260)}
            file.write(json.dumps(row) + "\n")


class Clock:
    """Seconds on the wall and of all cores together, while it runs."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


class Memory:
    """The process's highest memory at some moments, over what it was in the beginning."""

    def __init__(self) -> None:
        self._begun = self._highest()
        self.grown: dict[str, int] = {}

    def mark(self, moment: str) -> None:
        self.grown.setdefault(moment, round(self._highest() - self._begun))

    def _highest(self) -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Bare:
    """The tokenizer alone, by turns with the audit."""

    def __init__(self, tokenizer: Any, rows: RowStore) -> None:
        self._tokenizer, self._rows = tokenizer, rows
        self.clock, self.aside = Clock(), Clock()
        self.done = 0

    def catch_up(self, audited: int) -> None:
        with self.aside:
            while self.done < audited // EVERY * BARE or not self.done:
                begin = self.done * EVERY // BARE
                rows = self._rows[begin : begin + BARE]
                texts = [render(row.messages, self._tokenizer) for row in rows]
                with self.clock:
                    self._tokenizer(texts, add_special_tokens=False)
                self.done += len(texts)


def main(count: int) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(assets_folder() / "starter" / "model")
    tokenizer(["warm up"])
    with tempfile.TemporaryDirectory() as folder, RowStore(Path(folder)) as rows:
        path = Path(folder) / "rows.jsonl"
        write(path, count)
        reading, auditing, memory = Clock(), Clock(), Memory()

        def read(done: int, total: int) -> bool:
            if len(rows) >= EARLY:
                memory.mark("first_100k_rows_read")
            return True

        with reading:
            formats.read(str(path), rows=rows, progress=read)
        memory.mark("all_rows_read")
        bare = Bare(tokenizer, rows)
        bare.catch_up(0)

        def audited(done: int, total: int) -> bool:
            bare.catch_up(done)
            if done >= EARLY:
                memory.mark("first_100k_rows_looked_at")
            if done == total:
                memory.mark("all_rows_looked_at")
            return True

        before = bare.aside.wall, bare.aside.cpu
        with auditing:
            found = Audit(rows, tokenizer, "sft", 1024, folder=Path(folder)).run(audited)
        memory.mark("end")
        assert found.tokens is not None
        wall = auditing.wall - bare.aside.wall + before[0]
        cpu = auditing.cpu - bare.aside.cpu + before[1]
        rate = bare.done / bare.clock.wall
        print(json.dumps({
            "rows": count,
            "file_mb": round(path.stat().st_size / 1e6),
            "ratio": round(count / wall / rate, 3),
            "ratio_with_reading": round(count / (wall + reading.wall) / rate, 3),
            "cpu_ratio": round(count / cpu / (bare.done / bare.clock.cpu), 3),
            "bare_rows_per_second": round(rate),
            "audit_rows_per_second": round(count / wall),
            "read_rows_per_second": round(count / reading.wall),
            "memory_grown_mb": memory.grown,
        }))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    main(parser.parse_args().rows)
