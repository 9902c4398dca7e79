"""A worker's folder: claimed once, numbered, guarded; a raise becomes three answers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.__main__ import run_folder
from workers.host import Host, failed, serve
from workers.protocol import wire
from workers.protocol.events import Failed, Finished, Note, Phase, Started
from workers.protocol.jobs import Job, Probe, Score, Train
from workers.protocol.recipe import Recipe, Training
from workers.protocol.refusal import Refusal
from workers.protocol.requests import (
    Cancel,
    Pause,
    Resume,
    SaveNow,
    Say,
    ScoreAnswers,
    Stop,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wire.write_job(tmp_path, Job(id="j", name="j", created="", home="", task=Probe()))
    return tmp_path


def test_events_are_numbered_and_the_folder_is_released(folder: Path) -> None:
    with Host(folder) as host:
        assert (folder / wire.ALIVE).exists()
        host.emit(Phase(name="one"))
        host.emit(Finished())
    lines = wire.read_events(folder)
    assert [line.n for line in lines] == [1, 2, 3]
    assert isinstance(lines[0].event, Started)
    assert not (folder / wire.ALIVE).exists()


def test_a_second_start_on_a_running_folder_is_refused(folder: Path) -> None:
    with Host(folder) as host, pytest.raises(Refusal, match=f"process {os.getpid()}"):
        Host(folder).__enter__()
    host.requests.take()
    ended = subprocess.run(
        [sys.executable, "-m", "workers", str(folder / "none")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "holds no job.json" in ended.stderr


def test_an_ended_folder_is_never_written_over(folder: Path) -> None:
    with Host(folder) as host:
        host.emit(Finished())
    before = (folder / wire.EVENTS).read_bytes()
    with pytest.raises(Refusal, match="already ended"):
        Host(folder).__enter__()
    assert (folder / wire.EVENTS).read_bytes() == before


def test_a_failed_folder_goes_on_and_ends_anew(folder: Path) -> None:
    assert run_folder(folder, lambda task: _run_out) == 1
    with Host(folder) as host:
        assert host.started_before
        host.emit(Finished())
    lines = wire.read_events(folder)
    assert [line.n for line in lines] == [1, 2, 3, 4]
    assert wire.ending(lines) == Finished()
    with pytest.raises(Refusal, match="already ended"):
        Host(folder).__enter__()


def _run_out(_: Host) -> None:
    raise MemoryError


def test_what_was_asked_before_a_resume_is_done_with(folder: Path) -> None:
    run_folder(folder, lambda task: _run_out)
    for request in (SaveNow(), Stop(), Pause(), Resume(), SaveNow()):
        wire.append_request(folder, request)
    with Host(folder) as host:
        assert not host.requests.end_asked
        assert host.requests.take() == [SaveNow()]


def test_out_of_memory_names_the_resume_that_needs_less(folder: Path) -> None:
    recipe = Recipe(training=Training(batch_size=8, gradient_accumulation=2))
    job = Job(id="j", name="j", created="", home="", task=Train(recipe=recipe))
    wire.write_job(folder, job)
    told = failed(MemoryError(), folder)
    assert (
        f"python -m studio resume {folder.name} --set training.batch_size=4 "
        "--set training.gradient_accumulation=4" in told.remedy
    )


def test_numbers_go_on_after_a_death_in_mid_line(folder: Path) -> None:
    with Host(folder) as host:
        host.emit(Note(text="one"))
    with (folder / wire.EVENTS).open("ab") as file:
        file.write(b'{"n": 3, "t"')
    (folder / wire.ALIVE).write_bytes(b'{"pid": 999999, "started": 1.0}')
    with Host(folder) as host:
        host.emit(Finished())
    assert [line.n for line in wire.read_events(folder)] == [1, 2, 3, 4]


class Disk:
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self.room = room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self.room])
        self.room -= written
        return written

    def close(self) -> None:
        self._file.close()


def test_a_line_that_found_no_room_spoils_no_later_one(folder: Path) -> None:
    with Host(folder) as host:
        disk = host._events = Disk(host._events, room=20)  # type: ignore[assignment]
        with pytest.raises(OSError, match="No space left"):
            host.emit(Phase(name="lost"))
        disk.room = 10_000
        host.emit(Finished())
    lines = wire.read_events(folder)
    assert [line.n for line in lines] == [1, 2]
    assert wire.ending(lines) == Finished()


def test_stray_prints_of_c_code_too_go_to_the_log(
    folder: Path,
) -> None:
    script = (
        "import os, pathlib; from workers.host import output_to_log\n"
        f"with output_to_log(pathlib.Path({str(folder)!r})):\n"
        "    print('from python'); os.write(1, b'from c\\n'); os.write(2, b'complaint\\n')\n"
        "print('back')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("back\n", "")
    said = (folder / wire.LOG).read_text()
    assert all(words in said for words in ("from python", "from c", "complaint"))


def test_requests_are_heard_in_order_and_a_stop_is_remembered(folder: Path) -> None:
    say = Say(messages=[{"role": "user", "content": "hi"}])
    with Host(folder) as host:
        for request in (SaveNow(), say, Stop()):
            wire.append_request(folder, request)
        taken = host.requests.take()
        assert taken == [SaveNow(), say, Stop()]
        assert host.requests.stop_asked
        assert host.requests.take() == []


def test_a_cancel_breaks_off_what_is_done_and_all_else_waits(folder: Path) -> None:
    say = Say(messages=[{"role": "user", "content": "hi"}])
    with Host(folder) as host:
        assert not host.requests.interrupted()
        for request in (say, Cancel(), SaveNow()):
            wire.append_request(folder, request)
        assert host.requests.next() == say
        assert host.requests.interrupted()
        assert not host.requests.interrupted()  # it is done with
        assert not host.requests.stop_asked
        wire.append_request(folder, Stop())
        assert host.requests.interrupted()
        assert host.requests.next() == SaveNow()


@pytest.fixture
def owned(folder: Path) -> Path:
    """The folder of a task that this process owns."""
    me = psutil.Process()
    task = Score(model="m", owner_pid=me.pid, owner_started=me.create_time())
    wire.write_job(folder, Job(id="j", name="j", created="", home="", task=task))
    return folder


def test_a_task_that_serves_answers_in_order_until_it_is_stopped(owned: Path) -> None:
    told: list[str] = []
    asked = [ScoreAnswers(prompt=[], answers=[name]) for name in ("one", "two")]
    with Host(owned) as host:
        for request in (SaveNow(), *asked):
            wire.append_request(owned, request)

        def answer(request: ScoreAnswers) -> None:
            told.extend(request.answers)
            if "two" in request.answers:
                wire.append_request(owned, Stop())

        def count() -> bool:
            told.append("counted")
            return True

        serve(host, {ScoreAnswers: answer}, count)
        assert told == ["one", "two"]


def test_a_task_that_serves_does_other_work_between_requests(owned: Path) -> None:
    left = [3]

    def count() -> bool:
        left[0] -= 1
        if left[0] == 0:
            wire.append_request(owned, Stop())
        return left[0] > 0

    with Host(owned) as host:
        serve(host, {}, count)
    assert left == [0]


def test_a_task_ends_when_its_owner_is_gone(folder: Path) -> None:
    task = Score(model="m", owner_pid=os.getpid(), owner_started=1.0)
    wire.write_job(folder, Job(id="j", name="j", created="", home="", task=task))
    with Host(folder) as host:
        serve(host, {})  # returns


def test_a_raise_becomes_failed_and_a_code(folder: Path) -> None:
    def room(_: Host) -> None:
        raise Refusal("No.", "Because.", "Do otherwise.")

    assert run_folder(folder, lambda task: room) == 1
    end = wire.ending(wire.read_events(folder))
    assert end == Failed(what="No.", cause="Because.", remedy="Do otherwise.", kind="refused")


@pytest.mark.parametrize(
    ("fault", "kind", "word"),
    [
        (MemoryError(), "out_of_memory", "batch"),
        (OSError(errno.ENOSPC, "full", "/d/x"), "disk_full", "space"),
        (ValueError("odd"), "error", wire.LOG),
    ],
)
def test_known_faults_are_cases_of_their_own(
    tmp_path: Path, fault: Exception, kind: str, word: str
) -> None:
    told = failed(fault, tmp_path)
    assert told.kind == kind
    assert word in told.remedy
    assert told.traceback
