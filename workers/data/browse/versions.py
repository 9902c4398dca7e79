"""Edited copies of datasets: written whole beside the studio's own data, never over a user's file.

A copy is called NAME-HASH8.jsonl after its content; NAME-HASH8.json beside it says what it was
made from. Untouched rows are kept as they are, byte for byte where they are lines of JSON.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workers.data.browse.row_cache import CachedRow, Rows, as_json
from workers.data.read.fault import RowFault
from workers.data.read.files import DataFiles
from workers.data.read.jsonl import Strict, parse
from workers.folders import sha256_of
from workers.protocol import wire
from workers.protocol.browse import Edits, Version
from workers.protocol.refusal import Refusal
from workers.protocol.sources import KINDS, PACKED

TAG = "tag"
"""The column that tags are kept in."""
LONGEST_NAME = 64
LISTED = 3
"""Lines that are named in a sentence."""
STAMP = re.compile(r"-[0-9a-f]{8,64}$")


class Saved(NamedTuple):
    """A version, and the lines of its source that could not be kept."""

    version: Version
    unreadable: int
    where: list[str]
    """The first of them, in words."""


def save(
    rows: Rows,
    edits: Edits,
    found: DataFiles,
    folder: Path,
    *,
    name: str = "",
    licence: str = "",
    progress: Callable[[int], bool] = lambda done: True,
) -> Saved | None:
    """Writes an edited copy; nothing is there unless it is whole. None where it was stopped.

    Args:
        rows: of the dataset, all known.
        edits: by row number from 0.
        folder: where versions lie.
        name: what the copy is called; empty takes the source's.
        progress: told how many rows are done; False stops.

    Raises:
        Refusal: a changed row cannot be read again, or the dataset has no such row.
    """
    _check_numbers(edits, rows.known)
    folder.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".version.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            written = _Writing(edits, file)
            for number, row in enumerate(rows.rows(0, rows.known)):
                if not progress(number):
                    return None
                written.take(number, row)
            file.flush()
            os.fsync(file.fileno())
        path = _place(
            folder, clean_name(name.removesuffix(".jsonl")) or name_of(found), written.sha256
        )
        _require_other(path, found)
        version = written.version(found, path, licence)
        os.replace(partial, path)
        wire.write_atomically(path.with_suffix(".json"), msgspec.json.encode(version))
        return Saved(version, written.unreadable, written.where)
    finally:
        Path(partial).unlink(missing_ok=True)


def version_at(path: Path) -> Version | None:
    """What a file was made from, where it is a version."""
    try:
        version = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Version)
    except (OSError, msgspec.DecodeError):
        return None
    return version if path.suffix == ".jsonl" and Path(version.path).name == path.name else None


def clean_name(name: str) -> str:
    """A name that is one file's in any folder; empty where nothing is left of it."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:LONGEST_NAME].rstrip("-._")


def name_of(found: DataFiles) -> str:
    """What a version of a dataset is called where nobody says."""
    if version_at(found.path):
        return STAMP.sub("", found.path.stem)
    path = Path(re.split(r"[/\\]", found.source.removeprefix("builtin:").rstrip("/\\"))[-1])
    for known in (PACKED, KINDS):
        path = path.with_suffix("") if path.suffix.lower() in known else path
    return clean_name(path.name) or "dataset"


def _place(folder: Path, name: str, sha256: str) -> Path:
    """Where a version goes: a file that was changed since by hand is not written over."""
    short = [folder / f"{name}-{sha256[:length]}.jsonl" for length in (8, 16)]
    free = (path for path in short if not path.exists() or sha256_of(path) == sha256)
    return next(free, folder / f"{name}-{sha256}.jsonl")


def _require_other(path: Path, found: DataFiles) -> None:
    if path.exists() and found.path.exists() and path.samefile(found.path):
        raise Refusal(
            "The version would be the same as what is open.",
            "Nothing was changed in it.",
            "Change, drop or tag a row first.",
        )


def _check_numbers(edits: Edits, known: int) -> None:
    named = [*edits.changed, *edits.dropped, *edits.tags]
    beyond = next((number for number in named if not 0 <= number < known), None)
    if beyond is not None:
        raise Refusal(
            f"The dataset has no row number {beyond}.",
            f"It has {known} rows, counted from 0.",
            "Open it again: it may have changed since.",
        )


class _Writing:
    """Rows on their way into a version."""

    def __init__(self, edits: Edits, file: Any) -> None:
        self._edits = edits
        self._dropped = frozenset(edits.dropped)
        self._file = file
        self._sum = hashlib.sha256()
        self._strict = Strict()
        self.rows = self.unreadable = 0
        self.where: list[str] = []

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()

    def take(self, number: int, row: CachedRow) -> None:
        """Writes one row as the edits want it."""
        if number in self._dropped:
            return
        text, edits = row.text, self._edits
        if number in edits.changed or number in edits.tags:
            text = self._edited(number, row)
        elif not row.json:
            self.unreadable += 1
            if self.unreadable <= LISTED:
                self.where.append(place_of(row))
            return
        data = text.encode() + b"\n"
        self._file.write(data)
        self._sum.update(data)
        self.rows += 1

    def version(self, found: DataFiles, path: Path, licence: str) -> Version:
        """What stands beside the rows."""
        return Version(
            source=found.source,
            source_sha256=found.sha256,
            path=str(path),
            sha256=self.sha256,
            rows=self.rows,
            changed=len(self._edits.changed.keys() - self._dropped),
            dropped=len(self._dropped) + self.unreadable,
            tagged=len(self._edits.tags.keys() - self._dropped),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            licence=licence,
        )

    def _edited(self, number: int, row: CachedRow) -> str:
        given = self._edits.changed.get(number)
        value = self._read(given, row) if given is not None else row.value
        if not isinstance(value, dict):
            raise _unusable(row, "it is no object")
        if number in self._edits.tags:
            value = {**value, TAG: self._edits.tags[number]}
        return as_json(value)

    def _read(self, text: str, row: CachedRow) -> Any:
        try:
            return parse(text, self._strict)
        except RowFault as fault:
            raise _unusable(row, str(fault)) from None


def place_of(row: CachedRow) -> str:
    """Where a row stands, in words."""
    return f"{row.file} line {row.line}".strip()


def _unusable(row: CachedRow, reason: str) -> Refusal:
    return Refusal(
        f"The row at {place_of(row)} cannot be saved.",
        f"What was changed or tagged there is not a readable row: {reason}.",
        'Write it as one JSON object, for example {"prompt": "…", "completion": "…"}, or drop it.',
    )


def unreadable_note(saved: Saved) -> str:
    """The sentence about rows that were left out because they are no JSON."""
    more = saved.unreadable - len(saved.where)
    where = ", ".join(saved.where) + (f" and {more} more" if more else "")
    return (
        f"{saved.unreadable} rows that are not readable JSON were left out of the version: {where}."
    )
