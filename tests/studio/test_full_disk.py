"""A full disk takes the index into memory while it lasts; nothing is lost and all goes on."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import studio.store
from studio.headless import Headless
from studio.jobs import Jobs
from studio.paths import Home
from studio.records import JobRow
from studio.session import Session
from studio.store import Store
from studio.terminal import Terminal
from workers.protocol import wire
from workers.protocol.events import Event, Metrics
from workers.protocol.jobs import Chat, Job, Train
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.wire import Line

Follow = Callable[..., JobRow]


def fill_disk(store: Store) -> None:
    """From now on the index cannot grow, which SQLite tells as a full disk does.

    What room its pages still have is taken by curves of nobody.
    """
    pages = store._disk.execute("PRAGMA page_count").fetchone()[0]
    store._disk.execute(f"PRAGMA max_page_count={pages}")
    with suppress(sqlite3.OperationalError):
        for step in range(100_000):
            store._disk.execute("INSERT INTO metrics VALUES ('~', 'x', ?, 1.0)", (step,))


def free_disk(store: Store) -> None:
    store._disk.execute("PRAGMA max_page_count=1000000")
    store._disk.execute("DELETE FROM metrics WHERE job = '~'")


def _job(name: str) -> Job:
    task = Train(recipe=Recipe())
    return Job(id=name, name=name, created="2026-01-01", home="", task=task)


def _many(first: int, count: int = 4000) -> list[Line]:
    steps = range(first, first + count)
    return [Line(s, float(s), Metrics(step=s, values={"loss": 1 / s})) for s in steps]


def test_a_write_that_finds_no_room_is_done_in_memory(store: Store) -> None:
    store.add(_job("a"))
    store.apply("a", _many(1, 10), 10)
    fill_disk(store)
    store.apply("a", _many(11), 20)
    assert store.in_memory
    assert len(store.series("a", "loss").steps) == 4010
    store.add(_job("b"))
    assert store.ids() == {"a", "b"}
    row = store.job("a")
    assert row is not None
    assert row.cursor == 20


def test_the_disk_is_taken_up_again_only_where_all_fits(store: Store) -> None:
    store.add(_job("a"))
    fill_disk(store)
    store.apply("a", _many(1), 20)
    with store.on_disk():
        store.apply("a", _many(1), 20)
    assert store.in_memory
    assert len(store.series("a", "loss").steps) == 4000
    free_disk(store)
    with store.on_disk():
        store.apply("a", _many(1), 20)
    assert not store.in_memory
    assert len(store.series("a", "loss").steps) == 4000


def test_another_fault_of_the_index_is_not_taken_for_a_full_disk(store: Store) -> None:
    store._disk.execute("DROP TABLE jobs")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.add(_job("a"))


def test_a_run_is_followed_to_its_end_and_the_index_catches_up(
    jobs: Jobs, home: Home, recipe: Recipe, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("studio.jobs.SCAN_EVERY_S", 0.0)
    first = jobs.train(recipe)
    headless = Headless(jobs, Terminal(json=False))
    headless.follow(first)
    run = jobs.train(recipe)
    fill_disk(jobs.store)
    seen: list[Any] = []
    row = headless.watch(Session(jobs, run).on(Event, seen.append))
    assert (row.status, row.steps) == ("finished", 8)
    assert [event.step for event in seen if isinstance(event, Metrics)][-1] == 8
    told = capsys.readouterr().err.replace("\n", " ")
    assert told.count("is full") == 1
    free_disk(jobs.store)
    seen.clear()
    Session(jobs, run).on(Event, seen.append)
    headless.poll()
    assert seen == []
    assert jobs.index_fault is None
    assert "There is room on the disk again" in capsys.readouterr().err
    other = Store(home.store)
    assert other.job(run) == row
    assert other.series(run, "loss").steps == list(range(1, 9))
    other.close()


def test_an_index_that_finds_no_room_at_its_opening_is_kept_in_memory(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(path: Path | str) -> sqlite3.Connection:
        opened = connect_to(path)
        if path != ":memory:":
            opened.execute("PRAGMA max_page_count=1")
        return opened

    connect_to = studio.store._connect
    monkeypatch.setattr(studio.store, "_connect", connect)
    store = Store(home.store)
    store.add(_job("a"))
    assert (store.in_memory, store.ids()) == (True, {"a"})
    store._disk.execute("PRAGMA max_page_count=1000000")
    with store.on_disk():
        store.add(_job("a"))
    assert (store.in_memory, store.ids()) == (False, {"a"})
    store.close()


class Full:
    """Every write to a file fails as on a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        def fail(folder: Path, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

        monkeypatch.setattr(wire, name, fail)


def test_what_cannot_be_asked_of_a_job_is_refused_with_a_remedy(
    jobs: Jobs, recipe: Recipe, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs.train(recipe)
    with monkeypatch.context() as patched:
        Full(patched, "append_request")
        for ask in (jobs.pause, jobs.stop):
            with pytest.raises(Refusal, match="No space left") as refused:
                ask(run)
            assert "Free some space" in refused.value.remedy
    assert follow(jobs, run).status == "finished"


def test_a_job_that_has_no_work_to_lose_is_ended_unasked(
    jobs: Jobs, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = psutil.Process()
    task = Chat(model="m", owner_pid=me.pid, owner_started=me.create_time())
    talk = jobs.start(task, "chat")
    Full(monkeypatch, "append_request")
    jobs.stop(talk, grace_s=0.0)
    assert follow(jobs, talk).status == "stopped"


def test_a_line_cut_off_by_the_full_disk_keeps_no_dead_run_alive(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(msgspec.structs.replace(recipe, name="dies"))
    jobs._children[run].wait()
    with (jobs.folder(run) / wire.EVENTS).open("ab") as file:
        file.write(b'{"n": 99, "t"')
    row = follow(jobs, run, 5.0)
    assert (row.status, row.steps) == ("failed", 3)
    jobs.folders.index_restarted()
    assert jobs.store.live() == []


def test_a_resume_that_cannot_be_written_is_refused_and_starts_nothing(
    jobs: Jobs, recipe: Recipe, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs.train(msgspec.structs.replace(recipe, name="greedy"))
    follow(jobs, run)
    with monkeypatch.context() as patched:
        Full(patched, "write_job")
        with pytest.raises(Refusal, match="No space left"):
            jobs.resume(run, {"training.batch_size": 1})
    assert follow(jobs, run).status == "failed"


def test_a_next_stage_that_finds_no_room_is_told_and_ends_no_poll(
    jobs: Jobs, recipe: Recipe, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs.train(recipe, [msgspec.structs.replace(recipe, name="second")])
    opened = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "next":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    follow(jobs, run)
    row = jobs.store.job(run)
    assert row is not None
    assert "The next stage could not start" in row.cause
    assert "Free some space" in row.remedy
