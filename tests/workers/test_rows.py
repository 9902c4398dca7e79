"""Rows gathered for a run: mapped as the recipe says, and what was skipped is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from workers.host import Host
from workers.protocol.events import Event, Note
from workers.protocol.recipe import parse_recipe
from workers.protocol.refusal import Refusal
from workers.train import SKIPPED, _tell_skipped
from workers.train.rows import gather


class Listener:
    """A host that only listens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[Event] = []

    def emit(self, event: Event) -> None:
        self.heard.append(event)


def _recipe(path: Path, more: str) -> Any:
    return parse_recipe(
        f'[[data]]\nsource = "{path.as_posix()}"\n{more}\n[evaluation]\nholdout = 0.0\n'
    )


def _write(path: Path) -> Path:
    rows = [json.dumps({"ask": f"{n}?", "say": f"{n}!"}) for n in range(4)]
    path.write_text("\n".join([*rows, "{broken", '{"ask": "5?"}']))
    return path


MAPPING = 'mapping = { ask = "prompt", say = "completion" }'


def test_bad_rows_are_refused_unless_the_recipe_skips_them(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="2 of 6 rows"):
        gather(_recipe(_write(tmp_path / "d.jsonl"), MAPPING))


def test_skipped_rows_are_told_and_listed_beside_the_run(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.jsonl")
    rows = gather(_recipe(path, f'{MAPPING}\nbad_rows = "skip"'))
    assert sorted(row.completion[0]["content"] for row in rows.training) == ["0!", "1!", "2!", "3!"]
    host = Listener(tmp_path)
    _tell_skipped(cast(Host, host), rows.tables)
    note = host.heard[0]
    assert isinstance(note, Note)
    assert note.level == "warning"
    assert "2 of 6 rows" in note.text
    assert "line 5: not valid JSON" in note.text
    listed = [json.loads(line) for line in (tmp_path / SKIPPED).read_text().splitlines()]
    assert [(row["line"], row["source"]) for row in listed] == [(5, str(path)), (6, str(path))]
    assert listed[0]["excerpt"] == "{broken"


def test_nothing_is_told_where_nothing_was_skipped(tmp_path: Path) -> None:
    host = Listener(tmp_path)
    _tell_skipped(cast(Host, host), [])
    assert not host.heard
    assert not (tmp_path / SKIPPED).exists()
