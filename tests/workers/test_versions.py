"""Edited copies of datasets: what changed and where they come from, nothing half written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.workers.opened import ROWS, Look, Open, as_csv, lines
from workers.data.browse.versions import clean_name
from workers.protocol import wire
from workers.protocol.browse import Edits, Version
from workers.protocol.events import (
    Note,
    VersionSaved,
)
from workers.protocol.requests import SaveVersion


def save(look: Look, name: str = "", **edits: Any) -> Version:
    return look.ask(SaveVersion(edits=Edits(**edits), name=name), VersionSaved).version


def test_an_edited_copy_holds_the_changes_and_where_it_comes_from(
    opened: Open, tmp_path: Path
) -> None:
    data = b'{"prompt":"a" , "completion":"b"}\n\n{"prompt": "odd"}\n{torn\n' + lines(ROWS[:4])
    look = opened(data, licence="MIT")
    changed = json.dumps({"prompt": "new", "completion": "text"}, indent=2)
    wire.append_request(
        look.folder,
        SaveVersion(edits=Edits(changed={3: changed}, dropped=[4], tags={5: "good", 3: "bad"})),
    )
    note = look.told(Note)
    assert (note.level, "line 4" in note.text) == ("warning", True)
    version = look.told(VersionSaved).version
    path = Path(version.path)
    written = path.read_bytes()
    assert path == look.home / "data" / f"d-{hashlib.sha256(written).hexdigest()[:8]}.jsonl"
    assert written.splitlines()[:2] == [b'{"prompt":"a" , "completion":"b"}', b'{"prompt": "odd"}']
    rest = [json.loads(line) for line in written.splitlines()[2:]]
    assert rest == [
        {"prompt": "new", "completion": "text", "tag": "bad"},
        ROWS[2] | {"tag": "good"},
        ROWS[3],
    ]
    assert msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Version) == version
    assert (version.rows, version.changed, version.dropped, version.tagged) == (5, 1, 2, 2)
    assert version.source == str(tmp_path / "d.jsonl")
    assert version.source_sha256 == hashlib.sha256(data).hexdigest()
    assert version.sha256 == hashlib.sha256(written).hexdigest()
    assert version.licence == "MIT"
    assert (tmp_path / "d.jsonl").read_bytes() == data
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []
    again = opened(str(path))
    assert again.opening.version_of == version.source
    assert again.opening.licence == "MIT"


def test_a_version_of_a_version_keeps_its_name(opened: Open) -> None:
    first = save(opened(ROWS), name="../../my set!.jsonl", dropped=[0])
    assert Path(first.path).name.startswith("my-set-")
    second = save(opened(first.path), dropped=[0])
    assert Path(second.path).name.startswith("my-set-")
    assert Path(second.path).name.count("-") == 2
    assert second.source == first.path
    look = opened(second.path)
    same = look.ask(SaveVersion(edits=Edits()), Note)
    assert (same.level, "Nothing was changed" in same.text) == ("error", True)
    assert version_of(second.path) == second


def version_of(path: str) -> Version:
    return msgspec.json.decode(Path(path).with_suffix(".json").read_bytes(), type=Version)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"changed": {2: '{"prompt": '}}, "line 3 cannot be saved"),
        ({"changed": {2: "[1]"}}, "it is no object"),
        ({"tags": {4: "good"}}, "line 5 cannot be saved"),
        ({"dropped": [99]}, "no row number 99"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(
    opened: Open, edits: dict[str, Any], told: str
) -> None:
    look = opened(lines(ROWS[:4]) + b"{torn\n")
    note = look.ask(SaveVersion(edits=Edits(**edits)), Note)
    assert note.level == "error"
    assert told in note.text
    assert not any((look.home / "data").glob("*"))


def test_a_version_that_was_changed_by_hand_is_not_written_over(opened: Open) -> None:
    look = opened(ROWS)
    path = Path(save(look, dropped=[0]).path)
    path.write_text("mine")
    other = Path(save(look, dropped=[0]).path)
    assert path.read_text() == "mine"
    assert other != path
    assert other.stem.startswith(path.stem)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def test_versions_of_other_kinds_are_json_lines(opened: Open, tmp_path: Path) -> None:
    as_csv(tmp_path / "table.csv")
    version = save(opened(str(tmp_path / "table.csv")), dropped=[0, 1])
    assert Path(version.path).name.startswith("table-")
    assert [json.loads(line) for line in _lines(version.path)] == ROWS[2:]
    builtin = save(opened("builtin:arithmetic"), tags={0: "good"})
    assert Path(builtin.path).name.startswith("arithmetic-")


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd", "etc-passwd"), ("a/b\\c", "a-b-c"), ("", ""), ("..", ""),
        ("数 é", "数-é"), ("x" * 99, "x" * 64), (".hidden\0", "hidden"),
    ],
)  # fmt: skip
def test_names_stay_in_their_folder(name: str, clean: str) -> None:
    assert clean_name(name) == clean
