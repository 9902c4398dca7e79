"""Edits of a dataset that are not saved yet: undone one by one, kept on disk, never in the file.

A draft is a file of JSON lines: whose edits they are, then one line for each state of a row; the
last one of a row counts. What was typed and is no JSON yet is kept too. Knows no toolkit.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from workers.protocol.browse import Edits


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done to one row."""

    text: str = ""
    """The whole row as JSON; empty where it was not changed."""
    typed: str = ""
    """What stands in the editor and is no JSON object yet."""
    dropped: bool = False
    tag: str = ""


UNTOUCHED = Mark()


class _Head(msgspec.Struct, frozen=True):
    source: str
    stamp: str


class _Entry(msgspec.Struct, frozen=True):
    row: int
    mark: Mark


class EditHistory:
    """The marks of one dataset's rows, by row number from 0."""

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self._past: list[dict[int, Mark]] = []
        self._typing: int | None = None
        self._unwritten: set[int] = set()
        self._path: Path | None = None

    # Changing

    def put(self, marks: dict[int, Mark], *, typing: bool = False) -> None:
        """One edit of one or more rows. Letters typed into one row one after another are one."""
        before = {row: self.marks.get(row, UNTOUCHED) for row in marks}
        if before == marks:
            return
        row = next(iter(marks))
        if not (typing and self._typing == row):
            self._past.append(before)
        self._typing = row if typing else None
        self._set(marks)

    def pause(self) -> None:
        """What is typed from now on is an edit of its own."""
        self._typing = None

    def undo(self) -> list[int]:
        """Takes the last edit back; the rows that it was about."""
        if not self._past:
            return []
        before = self._past.pop()
        self._typing = None
        self._set(before)
        return list(before)

    def _set(self, marks: dict[int, Mark]) -> None:
        for row, mark in marks.items():
            if mark == UNTOUCHED:
                self.marks.pop(row, None)
            else:
                self.marks[row] = mark
        self._unwritten |= set(marks)

    def change(self, row: int, **fields: str | bool) -> Mark:
        """The row's mark with these fields put in."""
        return msgspec.structs.replace(self.mark(row), **fields)

    # Asking

    def mark(self, row: int) -> Mark:
        return self.marks.get(row, UNTOUCHED)

    @property
    def edits(self) -> Edits:
        """What is to be saved; a dropped row is neither changed nor tagged."""
        kept = {row: mark for row, mark in self.marks.items() if not mark.dropped}
        return Edits(
            changed={row: mark.text for row, mark in kept.items() if mark.text},
            dropped=sorted(set(self.marks) - set(kept)),
            tags={row: mark.tag for row, mark in kept.items() if mark.tag},
        )

    @property
    def unfinished(self) -> list[int]:
        """Rows whose text is no JSON object yet."""
        return sorted(row for row, mark in self.marks.items() if mark.typed and not mark.dropped)

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def words(self) -> str:
        """'3 changed, 1 dropped, 2 tagged, not saved yet'; empty without edits."""
        edits = self.edits
        counts = [(len(edits.changed), "changed"), (len(edits.dropped), "dropped"),
                  (len(edits.tags), "tagged"), (len(self.unfinished), "not finished")]  # fmt: skip
        words = ", ".join(f"{count:,} {word}" for count, word in counts if count)
        return f"{words}, not saved yet" if words else ""

    # Keeping

    def open(self, folder: Path, source: str, stamp: str) -> bool:
        """Takes up the draft of a dataset, if there is one; `stamp` tells one state of its file
        from another.

        Returns whether a draft was set aside because the file has changed since.
        """
        self.__init__()
        self._path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.jsonl"
        self._head = _Head(source, stamp)
        try:
            head, *lines = self._path.read_bytes().splitlines() or [b""]
        except OSError:
            return False
        if _head(head) != self._head:
            self._path.replace(self._path.with_suffix(".outdated"))
            return True
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=_Entry)
            except msgspec.DecodeError:
                continue  # torn by a crash; what was written before it stands
            self._set({entry.row: entry.mark})
        self._unwritten.clear()
        return False

    def write(self) -> None:
        """Appends what changed since the last call; raises `OSError`."""
        if self._path is None or not self._unwritten:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = [_Entry(row, self.mark(row)) for row in sorted(self._unwritten)]
        head = [] if self._path.exists() else [self._head]
        with self._path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in [*head, *entries]))
        self._unwritten.clear()

    def clear(self) -> None:
        """Forgets every edit and deletes the draft."""
        path = self._path
        self.marks, self._past, self._typing, self._unwritten = {}, [], None, set()
        if path is not None:
            path.unlink(missing_ok=True)


def _head(line: bytes) -> _Head | None:
    try:
        return msgspec.json.decode(line, type=_Head)
    except msgspec.DecodeError:
        return None


def stamp_of(path: str) -> str:
    """Tells one state of a file or folder from another; empty for what is not on this disk."""
    given = Path(path)
    try:
        files = sorted(given.iterdir()) if given.is_dir() else [given]
        states = [(file.name, file.stat()) for file in files]
    except OSError:
        return ""
    stamps = "".join(f"{name}:{state.st_size}:{state.st_mtime_ns};" for name, state in states)
    return hashlib.sha256(stamps.encode()).hexdigest()[:16]
