"""A text file is one or many documents by a rule that is shown, and none of it is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from workers.data.read import text
from workers.data.reader import read, read_table
from workers.protocol.recipe import Documents

FILES = {
    "a book": ("One\ntwo.\n\n\nThree.\n", ["One\ntwo.", "Three."], "split at blank lines"),
    "a corpus": ("One\n\ntwo.<|endoftext|>Three.\n<|endoftext|>\n", ["One\n\ntwo.", "Three."],
                 "split at <|endoftext|>"),
    "no blank line": ("One\ntwo.\r\nThree.\n\n", ["One\ntwo.\nThree."], "one a file"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_the_rule_goes_by_the_file(tmp_path: Path, name: str, packed: bool) -> None:
    data, documents, words = FILES[name]
    path = tmp_path / ("t.txt.gz" if packed else "t.txt")
    path.write_bytes(gzip.compress(data.encode()) if packed else data.encode())
    table = read_table(str(path))
    assert [row.text for row in table.rows] == documents
    assert table.documents == words


@pytest.mark.parametrize(
    ("rule", "documents"),
    [
        ("file", ["One\n\ntwo.<|endoftext|>Three."]),
        ("lines", ["One", "two.<|endoftext|>Three."]),
        ("blank_lines", ["One", "two.<|endoftext|>Three."]),
        ("endoftext", ["One\n\ntwo.", "Three."]),
    ],
)
def test_another_rule_is_taken_when_asked_for(
    tmp_path: Path, rule: Documents, documents: list[str]
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("One\n\ntwo.<|endoftext|>Three.\n")
    table = read_table(str(path), documents=rule)
    assert [row.text for row in table.rows] == documents
    assert table.documents == text.WORDS[rule]


def test_a_very_long_document_comes_in_parts_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_ROW_BYTES", 40)
    path = tmp_path / "t.txt"
    lines = [f"Line number {n}." for n in range(20)]
    path.write_text("\n".join(lines))
    parts = [row.text for row in read_table(str(path)).rows]
    assert "\n".join(parts) == "\n".join(lines)
    assert max(map(len, parts)) <= 40


def test_a_line_that_is_too_long_to_be_held_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.data.read.jsonl.MAX_ROW_BYTES", 40)
    path = tmp_path / "t.txt"
    path.write_text(f"One.\n{'x' * 99}\nTwo.\n")
    bad: list = []
    table = read(str(path), bad=bad, documents="file")
    assert table is not None
    assert [row.text for row in table.rows] == ["One.", "Two."]
    assert [(one.line, one.kind) for one in bad] == [(2, "size")]


def test_rows_of_a_table_are_no_documents() -> None:
    assert read_table("builtin:stories").documents == ""
