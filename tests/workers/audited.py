"""Clean rows, and findings by their kind, for tests of the audit."""

from __future__ import annotations

import random
from typing import Any

from workers.data.audit.audit import Audited
from workers.data.reader import Row
from workers.protocol.audit import AuditFinding

Rows = list[Row]
THINGS = "boat lamp reef storm crew rope sail wind tide gull rock sand".split()  # noqa: SIM905


def row(asked: str, said: str, **more: Any) -> Row:
    return Row(
        prompt=[{"role": "user", "content": asked}],
        completion=[{"role": "assistant", "content": said}],
        **more,
    )


def clean(count: int = 60) -> Rows:
    draw = random.Random(0)
    return [
        row(f"Tell me of {' and '.join(draw.sample(THINGS, 3))}, number {n}.",
            f"The {' '.join(draw.choices(THINGS, k=12))} are there.")
        for n in range(count)
    ]  # fmt: skip


def named(audited: Audited) -> dict[str, AuditFinding]:
    return {one.kind: one for one in audited.findings}
