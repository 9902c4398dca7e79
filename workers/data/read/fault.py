"""Why a single row cannot be used: in a sentence for people, and as a kind for the audit."""

from __future__ import annotations

from typing import Literal

FaultKind = Literal[
    "encoding", "json", "csv", "size", "schema", "value", "media", "tools", "loss_flags",
    "roles", "missing_prompt", "empty_answer", "chosen_equals_rejected", "template_refuses",
]  # fmt: skip
"""What is wrong with it: bytes that are no text, text that is no JSON or CSV, a row that is too
large; columns that fit no schema or differ from the rows before, a value of the wrong type; what
cannot be learnt from so far (pictures, calls of tools that are broken, flags that ask for another
loss mask); and what the audit reports as findings of their own, see `workers.data.audit.kinds`."""


class RowFault(Exception):
    """Why one row cannot be used."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FaultKind = kind
