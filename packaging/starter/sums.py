"""Two-digit additions as a pretrained model can learn to write them at once: sums.jsonl.

Where `arithmetic` works digit by digit, for a model that learns to calculate, these say the sum and
box it: a language model that adds already learns the form in thirty steps. Seeded; the same file
comes out each time.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

SEED, COUNT = 20261121, 400
QUESTIONS = (
    "What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?", "Compute {a} + {b}.",
    "{a} + {b} = ?", "Please add up {a} and {b}.",
)  # fmt: skip


def rows() -> list[dict[str, object]]:
    """400 different pairs, each a chat with prompt and answer beside it."""
    draw = random.Random(SEED)
    numbers = range(10, 100)
    pairs = draw.sample([(a, b) for a in numbers for b in numbers], COUNT)
    return [_row(draw.choice(QUESTIONS).format(a=a, b=b), a, b) for a, b in pairs]


def _row(question: str, a: int, b: int) -> dict[str, object]:
    worked = f"<think>{a} + {b} = {a + b}</think>\\boxed{{{a + b}}}"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": worked}]
    return {"prompt": question, "answer": str(a + b), "messages": messages}


def write(folder: Path) -> None:
    """Writes sums.jsonl into a folder."""
    lines = (json.dumps(row) + "\n" for row in rows())
    (folder / "sums.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
