"""A dataset looked at: rows of any kind and columns by hand, in this process and by the worker."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.workers.opened import ROWS, Open, as_csv, job_of, lines
from workers.__main__ import run_folder
from workers.data.browse.row_cache import CACHE, CachedRows, IndexedRows
from workers.data.read.files import find
from workers.data.reader import read
from workers.protocol import wire
from workers.protocol.browse import Edits
from workers.protocol.events import (
    Failed,
    Finished,
    Note,
    Opened,
    RowsCounted,
    RowsShown,
)
from workers.protocol.recipe import Column, Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import MapColumns, SaveVersion, ShowRows, Stop

# Rows


def test_json_lines_are_open_at_once_and_looked_up_where_they_lie(opened: Open) -> None:
    data = lines(ROWS).replace(b"\n", b"\n\n", 5)
    look = opened(data)
    assert isinstance(look.rows, IndexedRows)
    assert look.opening.format == "prompt_completion"
    assert look.opening.mapping == {"prompt": "prompt", "completion": "completion"}
    assert look.opening.columns == ["prompt", "completion"]
    assert "sft" in look.opening.stages
    shown = look.show(3, 4)
    assert [row.row for row in shown] == [3, 4, 5, 6]
    assert [row.line for row in shown] == [7, 9, 11, 12]
    assert json.loads(shown[0].text) == ROWS[3]
    assert (shown[0].prompt, shown[0].answer) == ("What is 3+1?", "It is 4: ü, 数.")
    assert look.counted() == RowsCounted(rows=260, complete=True)
    assert [row.row for row in look.show(258, 50)] == [258, 259]
    assert look.show(260) == []
    assert not (look.folder / CACHE).exists()


MAKERS: dict[str, Callable[[Path], Any]] = {
    "d.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "d.csv": as_csv,
    "d.parquet": lambda path: parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "d.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS))),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_other_kind_is_put_down_as_it_is_read(
    opened: Open, tmp_path: Path, name: str
) -> None:
    MAKERS[name](tmp_path / name)
    look = opened(str(tmp_path / name))
    assert isinstance(look.rows, CachedRows)
    assert look.opening.format == "prompt_completion"
    assert [json.loads(row.text) for row in look.show(250, 20)] == ROWS[250:]
    assert look.counted() == RowsCounted(rows=260, complete=True)
    assert (look.folder / CACHE).exists()
    look.rows.close()
    assert not (look.folder / CACHE).exists()


def test_a_folder_names_each_rows_file(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, rows in (("a.jsonl", ROWS[:3]), ("b.jsonl", ROWS[3:5])):
        (tmp_path / "set" / name).write_bytes(lines(rows))
    shown = opened(str(tmp_path / "set")).show(0)
    assert [(row.row, row.file, row.line) for row in shown] == [
        (0, "a.jsonl", 1), (1, "a.jsonl", 2), (2, "a.jsonl", 3), (3, "b.jsonl", 1),
        (4, "b.jsonl", 2),
    ]  # fmt: skip


def test_reasons_are_those_that_a_run_gives(opened: Open, tmp_path: Path) -> None:
    odd: list[Any] = [*ROWS[:3], {"prompt": "x"}, {"prompt": "", "completion": "y"}, [1], 7]
    look = opened(lines(odd) + b'{"prompt": "torn\n' + b'{"prompt": NaN, "completion": "a"}\n')
    bad: list[Any] = []
    read(str(tmp_path / "d.jsonl"), bad=bad)
    shown = look.show(0)
    assert {row.line: row.reason for row in shown if row.reason} == {
        one.line: one.reason for one in bad
    }
    assert shown[7].text == '{"prompt": "torn'
    assert look.counted().bad == len(bad) == 6


def test_dates_bytes_and_nan_are_no_text(opened: Open, tmp_path: Path) -> None:
    day = datetime.date(2026, 1, 2)
    rows: list[Any] = [
        {"prompt": "a", "completion": "b", "day": day, "raw": b"\x00\xff", "n": float("nan")}
    ]
    rows.append(rows[0] | {"completion": "c"})
    table = pa.Table.from_pylist(rows)
    path = tmp_path / "d.parquet"
    parquet.write_table(table, path)
    look = opened(str(path))
    text = json.loads(look.show(0)[0].text)
    assert text == {"prompt": "a", "completion": "b", "day": "2026-01-02", "raw": "AP8=", "n": None}
    look.ask(MapColumns(mapping={"prompt": "prompt", "day": "completion"}), Opened)
    assert look.show(0)[0].reason == '"day" must be text or a list of messages'


def test_long_rows_come_whole_when_asked_for_alone(opened: Open) -> None:
    long = {"prompt": "a", "completion": "b" * 600_000}
    look = opened([long, long, long, ROWS[0]])
    shown = look.show(0)
    assert [row.whole for row in shown] == [True, False, False, True]
    assert len(shown[1].text) == 2000
    assert json.loads(look.show(1, 1)[0].text) == long


def test_a_packed_file_that_is_cut_off_shows_what_it_has(opened: Open) -> None:
    noise = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(9000)]
    data = gzip.compress(lines([{"prompt": one[:9], "completion": one} for one in noise]))
    look = opened(data[: len(data) // 2], "d.jsonl.gz")
    assert "cannot be unpacked to its end" in look.told(Note).text
    assert 200 < look.counted().rows < 9000
    saving = look.ask(SaveVersion(edits=Edits(dropped=[0])), Note)
    assert (saving.level, "cannot be unpacked" in saving.text) == ("error", True)


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_dataset_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(data)
    assert "holds no rows" in refused(tmp_path, tmp_path / "d.jsonl")


def refused(tmp_path: Path, source: Path) -> str:
    """What a job says that ends with a refusal."""
    folder = job_of(tmp_path / "job", Source(source=str(source)))
    assert run_folder(folder) == 1
    told = wire.ending(wire.read_events(folder))
    assert isinstance(told, Failed)
    assert told.kind == "refused"
    return told.what


def test_a_nearly_full_disk_ends_putting_down(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(ROWS))
    spooled = CachedRows(find(str(tmp_path / "d.json")), tmp_path, least_free_bytes=1 << 60)
    with pytest.raises(Refusal, match="MB free"):
        spooled.advance(1.0)
    spooled.close()


# Columns


def test_columns_that_fit_no_shape_are_mapped_by_hand(opened: Open) -> None:
    rows = [{"q": f"Who {n}?", "more": {"a": {"text": f"I {n}."}, "b": 1}} for n in range(5)]
    look = opened(rows)
    assert look.opening.format is None
    assert "line 1: its keys are more, q" in look.opening.why
    assert look.opening.columns == ["q", "more.a.text", "more.b"]
    assert look.show(0)[0].reason == "its keys are more, q"
    from_mapping: dict[str, Column] = {"q": "prompt", "more.a.text": "completion"}
    opening = look.ask(MapColumns(mapping=from_mapping), Opened).opening
    assert (opening.format, opening.mapping) == ("prompt_completion", from_mapping)
    assert look.show(2, 1)[0].answer == "I 2."
    assert look.counted().bad == 0
    assert look.ask(MapColumns(), Opened).opening.format is None


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"nix": "prompt", "completion": "completion"}, "has no column nix"),
        ({"prompt": "prompt"}, "no row that can be learnt"),
        ({"prompt": "text", "completion": "text"}, "both for text"),
        ({"prompt": "messages"}, "line 1: the last message"),
    ],
)
def test_a_faulty_mapping_says_what_is_wrong(
    opened: Open, mapping: dict[str, Column], told: str
) -> None:
    look = opened(ROWS)
    opening = look.ask(MapColumns(mapping=mapping), Opened).opening
    assert opening.format is None
    assert told in opening.why
    assert opening.mapping == mapping
    assert look.show(0)[0].reason
    assert look.tokens(0).reason


def test_a_licence_is_told_with_where_it_stands(opened: Open) -> None:
    assert opened("builtin:arithmetic").opening.licence == "Apache-2.0"
    named = opened(ROWS, licence="MIT").opening
    assert (named.licence, named.licence_from) == ("MIT", "the recipe")
    assert opened(ROWS).opening.licence == ""


# The worker


@pytest.mark.parametrize("ends", ["stop", "owner"])
def test_the_worker_answers_until_it_is_stopped_or_its_owner_is_gone(
    tmp_path: Path, ends: str, wait_until: Callable[..., None]
) -> None:
    (tmp_path / "d.json").write_text(json.dumps(ROWS))
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(owner.pid)
    folder = job_of(
        tmp_path / "job", Source(source=str(tmp_path / "d.json")),
        owner_pid=owner.pid, owner_started=process.create_time(),
    )  # fmt: skip
    wire.append_request(folder, ShowRows(first=240))
    worker = subprocess.Popen([sys.executable, "-m", "workers", str(folder)])

    def kinds() -> list[type]:
        return [type(line.event) for line in wire.read_events(folder)]

    try:
        wait_until(lambda: {Opened, RowsShown, RowsCounted} <= set(kinds()), 60)
        if ends == "stop":
            wire.append_request(folder, Stop())
        else:
            owner.communicate(b"\n")
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        owner.kill()
        owner.communicate()
        worker.wait()
    assert kinds()[-1] is Finished
    assert not (folder / CACHE).exists()


def test_what_is_no_dataset_is_refused_in_words(tmp_path: Path) -> None:
    assert "There is no dataset at" in refused(tmp_path, tmp_path / "none.jsonl")
