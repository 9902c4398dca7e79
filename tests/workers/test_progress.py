"""How far reading and auditing are: in bytes and rows, with the time that is left."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from workers.data import reader as formats
from workers.data.row_store import RowStore
from workers.host import Host
from workers.inspect import Pace
from workers.protocol import wire
from workers.protocol.events import Progress
from workers.protocol.jobs import Inspect, Job
from workers.protocol.recipe import Source

COUNT = 5000


def _write(folder: Path) -> dict[str, Path]:
    rows = [{"prompt": f"{n}?", "completion": f"{n * 7919 % 10007}!" * 3} for n in range(COUNT)]
    data = "\n".join(map(json.dumps, rows)).encode()
    made = {name: folder / f"d.{name}" for name in ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")}
    made["jsonl"].write_bytes(data)
    made["jsonl.gz"].write_bytes(gzip.compress(data))
    made["jsonl.zst"].write_bytes(pa.compress(data, "zstd", asbytes=True))
    parquet.write_table(pa.Table.from_pylist(rows), made["parquet"])
    return made


@pytest.mark.parametrize("name", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_reading_tells_how_many_bytes_of_the_file_are_read(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path)[name]
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> bool:
        told.append((done, total))
        return True

    table = formats.read(str(path), progress=progress)
    assert table is not None
    assert len(table.rows) == COUNT
    size = path.stat().st_size
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (size, size)
    if name == "jsonl":
        assert told[2][0] < size / 2


def test_reading_ends_when_asked_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    path = _write(tmp_path)["jsonl"]
    with RowStore(tmp_path) as rows:
        formats.read(str(path), rows=rows, progress=lambda done, total: False)
        assert 0 < len(rows) < COUNT / 2
    whole = formats.read(str(path))
    assert whole is not None
    assert len(whole.rows) == COUNT


def test_a_phase_says_how_long_it_still_takes_and_hears_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.inspect.PROGRESS_EVERY_S", 0.0)
    job = Job(id="look", name="look", created="2026-01-01T00:00:00+00:00", home=str(tmp_path),
              task=Inspect(source=Source(source="builtin:sums")))  # fmt: skip
    folder = tmp_path / "look"
    folder.mkdir()
    wire.write_job(folder, job)
    with Host(folder) as host:
        pace = Pace(host, "rows")
        assert pace(0, 1_000_000)
        assert pace(250_000, 1_000_000)
        host.requests.stop_asked = True
        assert not pace(500_000, 1_000_000)
    told = [line.event for line in wire.read_events(folder) if isinstance(line.event, Progress)]
    assert [one.done for one in told] == [0, 250_000, 500_000]
    assert told[0].seconds_left is None
    assert told[0].words == "0 of 1,000,000 rows"
    assert all(one.seconds_left is not None and one.seconds_left > 0 for one in told[1:])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s left"),
        (40.4, "40 s left"),
        (150.0, "2 min left"),
        (3600.0, "60 min left"),
        (7380.0, "2 h 3 min left"),
    ],
)
def test_time_is_told_in_words(seconds: float, words: str) -> None:
    rows = Progress(done=120_000, total=1_000_000, unit="rows", seconds_left=seconds)
    assert rows.words == f"120,000 of 1,000,000 rows, {words}"
    read = Progress(done=310_400_000, total=1_240_000_000, unit="bytes", seconds_left=seconds)
    assert read.words == f"310 of 1,240 MB read, {words}"
