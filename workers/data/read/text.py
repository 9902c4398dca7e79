"""Plain text as documents, by one of four rules; every letter of the file is in one of them.

A document is learnt between its own begin and end tokens, and what is longer than a window is split
without loss, so the rule decides where one text ends and the next begins. Documents of more than
8 MiB come in several rows, split at line ends.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator

from workers.data.read.fault import RowFault
from workers.data.read.jsonl import EXCERPT, MAX_ROW_BYTES, NumberedRow, lines, not_utf8, start
from workers.protocol.recipe import Documents

SEPARATOR = b"<|endoftext|>"
"""Stands between documents in corpora that were made for GPT-2 and later models."""
LOOKED_BYTES = 1 << 20
"""Beginning of a file by which its rule is chosen."""
WORDS: dict[Documents, str] = {
    "blank_lines": "split at blank lines",
    "endoftext": f"split at {SEPARATOR.decode()}",
    "lines": "one a line",
    "file": "one a file",
}

Line = tuple[int, bytes | None]
"""Its number, from 1, and its bytes; None for one that is too long to be held."""


def rule_of(head: bytes) -> Documents:
    """How a file that begins so is split where nobody says."""
    if SEPARATOR in head:
        return "endoftext"
    return "blank_lines" if b"\n\n" in head.replace(b"\r", b"").strip() else "file"


def text_rows(
    stream: io.BufferedReader, name: str, rule: Documents = "blank_lines"
) -> Iterator[NumberedRow]:
    """The documents of a text file, each with the line that it begins on."""
    start(stream, name)
    numbered = enumerate(lines(stream), start=1)
    match rule:
        case "lines":
            documents: Iterable[Iterable[Line]] = ([line] for line in numbered)
        case "file":
            documents = [numbered]
        case "endoftext":
            documents = _separated(numbered)
        case _:
            documents = _paragraphs(numbered)
    for document in documents:
        yield from _rows(document)


def _paragraphs(numbered: Iterable[Line]) -> Iterator[Iterable[Line]]:
    for blank, group in itertools.groupby(
        numbered, lambda line: line[1] is not None and not line[1].strip()
    ):
        if not blank:
            yield group


def _separated(numbered: Iterable[Line]) -> Iterator[list[Line]]:
    held: list[Line] = []
    for number, line in numbered:
        first, *more = line.split(SEPARATOR) if line is not None else [None]
        held.append((number, first))
        for part in more:
            yield held
            held = [(number, part)]
    yield held


def _rows(document: Iterable[Line]) -> Iterator[NumberedRow]:
    """A document as one row, or as several where it is very long."""
    held: list[Line] = []
    size = 0
    for number, line in document:
        if line is None:
            limit = f"{MAX_ROW_BYTES >> 20} MiB"
            yield from _row(held)
            yield NumberedRow(number, RowFault("size", f"its line is longer than {limit}"))
            held, size = [], 0
            continue
        if size + len(line) > MAX_ROW_BYTES:
            yield from _row(held)
            held, size = [], 0
        held.append((number, line))
        size += len(line) + 1
    yield from _row(held)


def _row(held: list[Line]) -> Iterator[NumberedRow]:
    data = b"\n".join(line for _, line in held if line is not None)
    if not data.strip():
        return
    begun = next(number for number, line in held if line and line.strip())
    try:
        yield NumberedRow(begun, {"text": data.decode().strip("\r\n")})
    except UnicodeDecodeError:
        fault = RowFault("encoding", not_utf8(data))
        yield NumberedRow(begun, fault, data[:EXCERPT].decode("latin-1"))
