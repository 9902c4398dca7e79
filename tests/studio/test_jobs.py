"""Jobs with real child processes: start, follow, stop, die, resume, recover."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from studio.folders import delete_folder, slug
from studio.jobs import Jobs
from studio.paths import Home
from studio.process import Rung, Worker, _environment, launch
from studio.records import JobRow
from studio.settings import Settings
from studio.store import Store
from workers.protocol import wire
from workers.protocol.events import Metrics, Note, Resumed, Retried, Started
from workers.protocol.jobs import Change, Train
from workers.protocol.recipe import Model, Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Stop

Follow = Callable[[Jobs, str], JobRow]
Wait = Callable[[Callable[[], object]], None]


def _named(recipe: Recipe, name: str) -> Recipe:
    return msgspec.structs.replace(recipe, name=name)


def test_a_run_is_heard_whole_and_once(jobs: Jobs, recipe: Recipe, wait_until: Wait) -> None:
    run = jobs.train(recipe)
    heard: list[int] = []

    def ended() -> bool:
        for news in jobs.poll(limit_bytes=256):
            heard.extend(line.n for line in news.lines)
        row = jobs.store.job(run)
        return row is not None and not row.live

    wait_until(ended)
    assert heard == list(range(1, len(wire.read_events(jobs.folder(run))) + 1))
    row = jobs.store.job(run)
    assert row is not None
    assert (row.status, row.steps) == ("finished", 8)
    job = wire.read_job(jobs.folder(run))
    assert job.resolved is not None
    assert job.interpreter


def test_two_studios_can_follow_one_run(
    jobs: Jobs, home: Home, fake: Settings, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(recipe)
    other = Jobs(home, Store(home.store), fake)
    other.recover()
    heard: list[int] = []
    while (row := other.store.job(run)) is None or row.live:
        heard += [line.n for news in other.poll() for line in news.lines]
        jobs.poll()
    assert follow(jobs, run).status == "finished"
    assert heard == sorted(set(heard))
    other.close()
    other.store.close()


def test_a_refusal_in_the_worker_is_told(jobs: Jobs, recipe: Recipe, follow: Follow) -> None:
    row = follow(jobs, jobs.train(_named(recipe, "fails")))
    assert row.status == "failed"
    assert row.cause == "It failed. It was named so."
    assert row.remedy == "Name it otherwise."


def test_a_killed_worker_is_told_with_its_signal(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    row = follow(jobs, jobs.train(_named(recipe, "dies")))
    assert row.status == "failed"
    assert "signal 9" in row.cause
    assert row.steps == 3


def test_a_worker_found_dead_by_a_new_studio_is_told(
    jobs: Jobs, home: Home, fake: Settings, recipe: Recipe, wait_until: Wait
) -> None:
    run = jobs.train(_named(recipe, "hangs"))
    alive = jobs.folder(run) / wire.ALIVE
    wait_until(alive.exists)
    pid = msgspec.json.decode(alive.read_bytes(), type=wire.Alive).pid
    os.kill(pid, signal.SIGKILL)
    jobs._children[run].wait()
    later = Jobs(home, Store(home.store), fake)
    later.recover()
    later.catch_up()
    row = later.store.job(run)
    assert row is not None
    assert row.status == "failed"
    assert "left no last word" in row.cause
    later.close()
    later.store.close()


def test_a_stop_saves_and_says_so(jobs: Jobs, recipe: Recipe, follow: Follow) -> None:
    training = msgspec.structs.replace(recipe.training, max_steps=10_000)
    run = jobs.train(msgspec.structs.replace(recipe, training=training))
    jobs.stop(run)
    row = follow(jobs, run)
    assert row.status == "stopped"
    assert "Stopped when asked" in row.cause
    assert list((jobs.folder(run) / "checkpoints").glob("*/manifest.json"))


def test_the_stop_ladder_is_climbed_to_its_end(
    jobs: Jobs, recipe: Recipe, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs.train(_named(recipe, "hangs"))
    hung = Note(text="Hanging")
    wait_until(lambda: hung in [line.event for line in wire.read_events(jobs.folder(run))])
    now = [0.0]
    monkeypatch.setattr("studio.jobs.time.monotonic", lambda: now[0])
    jobs.stop(run, grace_s=1.0)
    rungs: list[Rung] = []

    def ended() -> bool:
        now[0] += 2.0
        rungs.extend(news.rung for news in jobs.poll() if news.rung)
        row = jobs.store.job(run)
        return row is not None and not row.live

    wait_until(ended)
    assert rungs == [Rung.TERMINATED, Rung.KILLED]
    row = jobs.store.job(run)
    assert row is not None
    assert row.status == "stopped"
    assert "was killed" in row.cause


def test_a_dead_run_can_be_resumed_an_ended_one_cannot(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "dies"))
    follow(jobs, run)
    _rename(jobs, run, "lives")
    jobs.resume(run)
    assert follow(jobs, run).status == "finished"
    numbers = [line.n for line in wire.read_events(jobs.folder(run))]
    assert numbers == list(range(1, len(numbers) + 1))
    with pytest.raises(Refusal, match="cannot go on"):
        jobs.resume(run)


SMALLER = {"training.batch_size": 1, "training.gradient_accumulation": 2}


def test_a_run_that_was_out_of_memory_goes_on_with_a_smaller_batch(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "greedy"))
    row = follow(jobs, run)
    assert (row.status, row.fault, row.steps) == ("failed", "out_of_memory", 2)
    assert f"resume {run} --set training.batch_size=1" in row.remedy
    assert jobs.resume(run, SMALLER) == 2
    row = follow(jobs, run)
    assert (row.status, row.cause, row.steps) == ("finished", "", 8)
    lines = wire.read_events(jobs.folder(run))
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert [line.event.step for line in lines if isinstance(line.event, Resumed)] == [2]
    assert jobs.store.series(run, "loss").steps == list(range(1, 9))
    job = wire.read_job(jobs.folder(run))
    assert job.task.recipe.training.batch_size == 1  # type: ignore[union-attr]
    assert job.changes == [
        Change(2, {"training.batch_size": (2, 1), "training.gradient_accumulation": (0, 2)})
    ]
    jobs.rebuild()
    assert jobs.store.job(run) == row


def test_a_run_that_goes_on_by_itself_is_one_process_and_one_curve(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "greedy-thrifty"))
    row = follow(jobs, run)
    assert (row.status, row.cause, row.steps) == ("finished", "", 8)
    said = [line.event for line in wire.read_events(jobs.folder(run))]
    assert len({event.pid for event in said if isinstance(event, Started)}) == 1
    assert [event.step for event in said if isinstance(event, Retried)] == [2]
    assert jobs.store.series(run, "loss").steps == list(range(1, 9))
    (change,) = wire.read_job(jobs.folder(run)).changes
    assert change.settings == dict(zip(SMALLER, ((2, 1), (0, 2)), strict=True))
    shown = [line.event for line in jobs.store.lines(run)]
    assert [event.step for event in shown if isinstance(event, Retried)] == [2]


def test_a_resume_that_fails_again_can_be_resumed_again(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "greedy"))
    follow(jobs, run)
    jobs.resume(run, {"training.max_steps": 5})
    assert follow(jobs, run).fault == "out_of_memory"
    jobs.resume(run, SMALLER)
    row = follow(jobs, run)
    assert (row.status, row.steps) == ("finished", 5)
    changes = wire.read_job(jobs.folder(run)).changes
    assert [list(change.settings) for change in changes] == [["training.max_steps"], [*SMALLER]]


def test_a_run_that_failed_before_its_first_checkpoint_begins_anew(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "fails"))
    assert follow(jobs, run).fault == "refused"
    _rename(jobs, run, "well")
    assert jobs.resume(run) == 0
    assert follow(jobs, run).status == "finished"
    assert jobs.store.series(run, "loss").steps == list(range(1, 9))


def test_settings_that_live_in_the_checkpoint_are_refused_and_start_nothing(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "greedy"))
    follow(jobs, run)
    before = (jobs.folder(run) / wire.JOB).read_bytes()
    with pytest.raises(Refusal, match="learning_rate cannot be changed"):
        jobs.resume(run, {"training.learning_rate": 1e-5})
    assert (jobs.folder(run) / wire.JOB).read_bytes() == before
    assert not (jobs.folder(run) / wire.REQUESTS).exists()
    assert follow(jobs, run).status == "failed"


def test_a_run_that_was_stopped_is_not_resumed(jobs: Jobs, recipe: Recipe, follow: Follow) -> None:
    training = msgspec.structs.replace(recipe.training, max_steps=10_000)
    run = jobs.train(msgspec.structs.replace(recipe, training=training))
    jobs.stop(run)
    follow(jobs, run)
    with pytest.raises(Refusal, match="cannot go on"):
        jobs.resume(run)


def test_a_failed_run_that_was_started_by_hand_is_followed_again(
    jobs: Jobs, recipe: Recipe, follow: Follow, wait_until: Wait
) -> None:
    run = jobs.train(_named(recipe, "fails"))
    follow(jobs, run)
    _rename(jobs, run, "well")
    launch(jobs.folder(run), wire.read_job(jobs.folder(run)).interpreter).wait()
    jobs._scanned = float("-inf")

    def finished() -> bool:
        jobs.poll()
        return [row.status for row in jobs.store.jobs()] == ["finished"]

    wait_until(finished)


def test_a_stop_before_the_failure_does_not_end_the_resumed_run(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(_named(recipe, "greedy"))
    follow(jobs, run)
    jobs.send(run, Stop())  # too late
    jobs.resume(run, SMALLER)
    assert follow(jobs, run).status == "finished"


def _rename(jobs: Jobs, run: str, name: str) -> None:
    """Changes a run's name, which tells the fake worker how to behave, in its job.json."""
    job = wire.read_job(jobs.folder(run))
    task = Train(recipe=_named(job.task.recipe, name))  # type: ignore[union-attr]
    wire.write_job(jobs.folder(run), msgspec.structs.replace(job, task=task))


def test_a_run_of_another_process_appears_by_itself(
    jobs: Jobs, home: Home, fake: Settings, recipe: Recipe, wait_until: Wait
) -> None:
    other = Jobs(home, Store(home.store), fake)
    run = other.train(recipe)
    jobs._scanned = float("-inf")
    heard: list[int] = []

    def ended() -> bool:
        for news in jobs.poll():
            heard.extend(e.event.step for e in news.lines if isinstance(e.event, Metrics))
        row = jobs.store.job(run)
        return row is not None and not row.live

    wait_until(ended)
    assert set(range(1, 9)) <= set(heard)
    other.close()
    other.store.close()


def test_runs_are_found_by_id_name_and_start(jobs: Jobs, recipe: Recipe, follow: Follow) -> None:
    first = jobs.train(recipe)
    follow(jobs, first)
    second = jobs.train(recipe)
    follow(jobs, second)
    assert jobs.find(first).id == first
    assert jobs.find("small").id == second
    assert jobs.find(second[:22]).id in (first, second)
    with pytest.raises(Refusal, match="no run called 'nothing'"):
        jobs.find("nothing")


def test_a_base_that_is_a_run_is_pinned_to_its_id(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    first = jobs.train(recipe)
    follow(jobs, first)
    onward = msgspec.structs.replace(recipe, model=Model(base="run:small"))
    second = jobs.train(onward)
    row = follow(jobs, second)
    assert row.parent == first
    job = wire.read_job(jobs.folder(second))
    assert job.task.recipe.model.base == f"run:{first}"  # type: ignore[union-attr]


def test_a_deleted_folder_is_forgotten_and_a_live_one_is_kept(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    run = jobs.train(recipe)
    with pytest.raises(Refusal, match="still going"):
        jobs.delete(run)
    follow(jobs, run)
    jobs.delete(run)
    assert not jobs.folder(run).exists()
    again = jobs.train(recipe)
    follow(jobs, again)
    delete_folder(jobs.folder(again))  # as by hand, while the worker may still leave
    jobs.recover()
    assert jobs.store.jobs() == []


def test_a_full_disk_is_refused_before_anything_is_written(
    jobs: Jobs, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(jobs.home.root)._replace(free=1000)
    monkeypatch.setattr("studio.paths.shutil.disk_usage", lambda path: usage)
    with pytest.raises(Refusal, match="MB free"):
        jobs.train(recipe)
    assert list(jobs.home.jobs.iterdir()) == []


def test_an_interpreter_that_is_gone_is_refused(home: Home, store: Store, recipe: Recipe) -> None:
    broken = Jobs(home, store, Settings(interpreters={"auto": "/none/python"}))
    with pytest.raises(Refusal, match="/none/python"):
        broken.train(recipe)
    with pytest.raises(Refusal, match="Unsloth is not set up"):
        Jobs(home, store, Settings()).train(
            msgspec.structs.replace(recipe, model=Model(engine="unsloth"))
        )


def test_slugs_are_safe_folder_names() -> None:
    assert slug("My Run / 2: ../etc") == "my-run-2-etc"
    assert slug("日本") == "job"
    assert len(slug("x" * 200)) == 40


def test_a_successor_of_a_child_is_the_worker(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    worker = Worker(tmp_path, child)
    (tmp_path / wire.JOB).touch()
    assert not worker.lives
    me = wire.Alive(os.getpid(), psutil.Process().create_time())
    (tmp_path / wire.ALIVE).write_bytes(msgspec.json.encode(me))
    assert worker.lives


@pytest.mark.parametrize(
    ("ends", "words", "kind"),
    [
        ("sys.exit(1)", "Error out of memory at line 380 in file ops.cu", "out_of_memory"),
        ("os.abort()", "memory allocation of 8589934592 bytes failed", "out_of_memory"),
        ("sys.exit(1)", "No space left on device", "disk_full"),
        ("os.kill(os.getpid(), 9)", "step 7/60", ""),
    ],
)
def test_what_a_library_said_before_it_ended_the_process_is_the_kind_of_fault(
    tmp_path: Path, ends: str, words: str, kind: str
) -> None:
    (tmp_path / wire.LOG).write_text(f"Training\n{words}\n")
    child = subprocess.Popen([sys.executable, "-c", f"import os, sys; {ends}"])
    child.wait()
    outcome = Worker(tmp_path, child).outcome()
    assert outcome.kind == kind
    assert (words in outcome.cause) == bool(kind)
    assert "less memory" in outcome.remedy or kind != "out_of_memory"


@pytest.mark.parametrize(
    ("platform", "set_already", "said"),
    [
        ("linux", {}, "expandable_segments:True"),
        ("linux", {"PYTORCH_ALLOC_CONF": "x:1"}, None),
        ("linux", {"PYTORCH_CUDA_ALLOC_CONF": "x:1"}, "x:1"),
        ("win32", {}, None),
    ],
)
def test_segments_of_gpu_memory_may_grow_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, platform: str, set_already: dict[str, str], said: str | None
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(os, "environ", set_already)
    assert _environment().get("PYTORCH_CUDA_ALLOC_CONF") == said
