"""Rows per second of the audit, over those of the bare fast tokenizer on the same rows.

    python tests/benchmarks/audit_throughput.py [ROWS] [ROUNDS]

Bare is what a script would do: the rows are rendered beforehand, outside the clock, and the
tokenizer is called on a thousand of them at a time. The audit renders, tokenizes, masks and looks
at each row. Rows are generated conversations of about 200 words in invented words.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from typing import Any

from workers.data.audit import Audit
from workers.data.formats import Row
from workers.data.mapping import render
from workers.protocol.assets import assets_folder

BATCH = 1000
SYLLABLES = [one + other for one in "bcdfglmnprst" for other in "aeiou"]


def generate(count: int) -> list[Row]:
    draw = random.Random(0)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(5000)]

    def prose(low: int, high: int) -> str:
        said = draw.choices(words, k=draw.randint(low, high))
        return " ".join(f"{word}." if at % 12 == 11 else word for at, word in enumerate(said))

    return [
        Row(
            prompt=[{"role": "user", "content": prose(10, 70)}],
            completion=[{"role": "assistant", "content": prose(60, 260)}],
        )
        for _ in range(count)
    ]


class Clock:
    """Seconds on the wall, and of all cores together."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        wall, cpu = self._began
        return time.perf_counter() - wall, time.process_time() - cpu


def bare(tokenizer: Any, texts: list[str]) -> tuple[float, float]:
    clock = Clock()
    for at in range(0, len(texts), BATCH):
        tokenizer(texts[at : at + BATCH], add_special_tokens=False)
    return clock.read()


def ours(tokenizer: Any, rows: list[Row]) -> tuple[float, float]:
    clock = Clock()
    found = Audit(rows, tokenizer, "sft", 1024).run()
    assert found.tokens is not None
    return clock.read()


def main(count: int, rounds: int) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(assets_folder() / "starter" / "model")
    rows = generate(count)
    texts = [render(row.messages, tokenizer) for row in rows]
    plain, audit = [], []
    for _ in range(rounds):
        plain.append(bare(tokenizer, texts))
        audit.append(ours(tokenizer, rows))
    wall, cpu = ([[one[at] for one in runs] for runs in (plain, audit)] for at in (0, 1))
    print(json.dumps({
        "ratio": round(statistics.median(wall[0]) / statistics.median(wall[1]), 3),
        "best_ratio": round(min(wall[0]) / min(wall[1]), 3),
        "cpu_ratio": round(min(cpu[0]) / min(cpu[1]), 3),
        "bare_rows_per_second": [round(count / seconds) for seconds in wall[0]],
        "audit_rows_per_second": [round(count / seconds) for seconds in wall[1]],
        "letters_a_row": round(sum(map(len, texts)) / count),
    }))  # fmt: skip


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*arguments) if len(arguments) == 2 else main(arguments[0] if arguments else 50_000, 3)
