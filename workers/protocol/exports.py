"""Which exported files speak like the trained model: the record beside them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.protocol.events import Checked
from workers.protocol.wire import write_atomically

PARITY = "parity.json"
"""In a run's `exports`: a file's name to the checks that compared it."""


def read_parity(exports: Path) -> dict[str, list[Checked]]:
    """The record; empty where there is none, or none that can be read."""
    try:
        return msgspec.json.decode((exports / PARITY).read_bytes(), type=dict[str, list[Checked]])
    except (OSError, msgspec.DecodeError):
        return {}


def record_parity(exports: Path, name: str, checks: list[Checked] | None) -> None:
    """Writes what the comparison of one file found.

    No checks stand for a comparison that was begun and has not ended; None takes the file out of
    the record.
    """
    record = read_parity(exports)
    record.pop(name, None)
    if checks is not None:
        record[name] = checks
    write_atomically(exports / PARITY, msgspec.json.format(msgspec.json.encode(record), indent=2))


def differs(checks: list[Checked] | None) -> str:
    """Why a file cannot be taken for the trained model; empty where it can.

    A file without a record is from an older export, or was asked for without a comparison.
    """
    if checks is None:
        return ""
    if not checks:
        return "its comparison with the trained model never ended"
    return "; ".join(f"{one.check}: {one.detail}" for one in checks if not one.passed)
