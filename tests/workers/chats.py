"""A conversation and its parts, and rows written to a file, for tests of reading."""

from __future__ import annotations

import json
from pathlib import Path

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}
PROMPT, GOOD, BAD = CHAT["messages"][:1], CHAT["messages"][1:], [
    {"role": "assistant", "content": "No"}
]  # fmt: skip


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return str(path)
