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
from workers.train.dataset import build_dataset


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
        build_dataset(_recipe(_write(tmp_path / "d.jsonl"), MAPPING))


def test_skipped_rows_are_told_and_listed_beside_the_run(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.jsonl")
    rows = build_dataset(_recipe(path, f'{MAPPING}\nbad_rows = "skip"'))
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


# The mixture


def _mixture(tmp_path: Path, *more: str, test: str = "") -> Any:
    """Two sources of 40 and 4 rows, with what is written to each."""
    tables = []
    for name, count, added in zip("ab", (40, 4), more or ("", ""), strict=True):
        path = tmp_path / f"{name}.jsonl"
        rows = [json.dumps({"prompt": f"{name}{n}?", "completion": "!"}) for n in range(count)]
        path.write_text("\n".join(rows))
        tables.append(f'[[data]]\nsource = "{path.as_posix()}"\n{added}\n')
    return parse_recipe("".join(tables) + f'[evaluation]\nholdout = 0.0\ntest = "{test}"\n')


def test_a_source_that_is_repeated_often_is_named(tmp_path: Path) -> None:
    rows = build_dataset(_mixture(tmp_path))
    assert [part.share for part in rows.parts] == [(40, 22), (4, 22)]
    warnings = [note.text for note in rows.notes if note.level == "warning"]
    assert len(warnings) == 1
    assert "b.jsonl 5.5 times (22 rows drawn from 4)" in warnings[0]
    assert not [
        n for n in build_dataset(_mixture(tmp_path, "weight = 3", "")).notes if n.level != "info"
    ]


def test_a_run_keeps_what_each_source_gave_and_its_licence(tmp_path: Path) -> None:
    mixture = _mixture(tmp_path, 'limit = 10\nlicence = "cc-by-sa-4.0"', 'licence = "odbl"')
    rows = build_dataset(mixture)
    one, other = rows.datasets
    assert (one["rows"], one["limit"], one["drawn"], one["epochs"]) == (40, 10, 7, 0.7)
    assert (one["licence"], one["licence_from"]) == ("CC-BY-SA-4.0", "the recipe")
    assert (other["rows"], other["drawn"], other["epochs"]) == (4, 7, 1.75)
    assert len(rows.training) == 14
    assert [note.level for note in rows.notes] == ["warning"]
    assert "each ask that what is made of them" in rows.notes[0].text


def test_a_licence_that_nobody_tells_is_said_quietly(tmp_path: Path) -> None:
    notes = build_dataset(_mixture(tmp_path, "weight = 3", 'licence = "mit"')).notes
    assert [note.level for note in notes] == ["info"]
    assert "a.jsonl is not known" in notes[0].text


def test_bad_rows_of_a_test_set_are_skipped_only_where_all_sources_skip_theirs(
    tmp_path: Path,
) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text('{"prompt": "a1?", "completion": "!"}\n{"prompt": "c?"\n')
    with pytest.raises(Refusal, match="1 of 2 rows"):
        build_dataset(_mixture(tmp_path, 'bad_rows = "skip"', "", test=test.as_posix()))
    skip = 'bad_rows = "skip"'
    rows = build_dataset(_mixture(tmp_path, skip, skip, test=test.as_posix()))
    assert (rows.left_out, len(rows.held_out)) == (1, 1)
    assert [len(table.bad) for table in rows.tables] == [0, 0, 1]
    assert rows.datasets[2] == {
        "source": test.as_posix(), "path": str(test), "sha256": rows.tables[2].sha256,
        "format": "prompt_completion", "rows": 1,
    }  # fmt: skip
    assert "1 training rows ask what the test set asks" in "".join(n.text for n in rows.notes)
