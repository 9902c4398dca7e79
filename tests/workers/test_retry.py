"""A run that is out of memory goes on by itself, in a fresh process, with a smaller micro-batch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.__main__ import run_folder
from workers.host import Host, holder_of
from workers.memory import DryRunFailed
from workers.protocol import wire
from workers.protocol.events import (
    Event,
    Failed,
    Finished,
    Metrics,
    Phase,
    Resolved,
    Resumed,
    Retried,
    Started,
)
from workers.protocol.jobs import Bench, Change, Job, Train
from workers.protocol.recipe import Recipe, Source, Training
from workers.retry import AGAIN, hand_over

BATCH = ("training.batch_size", "training.gradient_accumulation")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    training = Training(batch_size=8, gradient_accumulation=2)
    recipe = Recipe(data=[Source(source="builtin:arithmetic")], training=training)
    job = Job(id="j", name="j", created="", home="", task=Train(recipe=recipe))
    wire.write_job(tmp_path, job)
    return tmp_path


def _recipe(host: Host) -> Recipe:
    task = host.job.task
    assert isinstance(task, Train)
    return task.recipe


def _train(host: Host, fits: int, fault: BaseException, *, loaded: bool = True) -> None:
    """Needs the memory of `fits` examples at once, after a checkpoint of step 3."""
    host.emit(Phase(name="Loading the model"))
    if loaded:
        host.emit(Resolved(versions={}))
    if host.started_before:
        host.emit(Resumed(step=3))
    host.emit(Metrics(step=4, values={"loss": 1.0}))
    checkpoint = host.folder / "checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "manifest.json").write_text('{"step": 3, "files": {}}')
    if _recipe(host).training.batch_size > fits:
        raise fault
    host.emit(Finished())


def _run(folder: Path, fits: int, fault: BaseException | None = None, **options: Any) -> list[int]:
    """The exit codes of a run that is started as often as it asks for it."""
    codes = [AGAIN]
    while codes[-1] == AGAIN:
        codes.append(run_folder(
            folder, lambda task: lambda host: _train(host, fits, fault or MemoryError(), **options),
            may_retry=True,
        ))  # fmt: skip
    return codes[1:]


def _said(folder: Path, kind: type[Event]) -> list[Any]:
    return [line.event for line in wire.read_events(folder) if isinstance(line.event, kind)]


def test_it_goes_on_once_from_its_checkpoint_with_half_the_micro_batch(folder: Path) -> None:
    assert _run(folder, fits=4) == [AGAIN, 0]
    (retried,) = _said(folder, Retried)
    assert retried.step == 3
    assert retried.settings == {BATCH[0]: (8, 4), BATCH[1]: (2, 4)}
    assert "Micro-batches of 4 instead of 8" in retried.detail
    lines = wire.read_events(folder)
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert wire.ending(lines) == Finished()
    assert wire.read_job(folder).changes == [Change(3, retried.settings)]


def test_the_second_time_it_ends_and_says_what_the_next_rung_is(folder: Path) -> None:
    assert _run(folder, fits=2) == [AGAIN, 1]
    (end,) = _said(folder, Failed)
    assert end.kind == "out_of_memory"
    assert "--set training.batch_size=2 --set training.gradient_accumulation=8" in end.remedy


def test_somebodys_start_lets_it_go_on_once_more(folder: Path) -> None:
    assert _run(folder, fits=2) == [AGAIN, 1]
    assert _run(folder, fits=2) == [AGAIN, 0]
    assert [event.settings[BATCH[0]] for event in _said(folder, Retried)] == [(8, 4), (4, 2)]


@pytest.mark.parametrize("loaded", [True, False])
def test_the_dry_run_is_tried_until_it_fits_if_the_model_was_loaded(
    folder: Path, loaded: bool
) -> None:
    codes = _run(folder, fits=1, fault=DryRunFailed(), loaded=loaded)
    assert codes == ([AGAIN, AGAIN, AGAIN, 0] if loaded else [1])
    assert all(event.dry for event in _said(folder, Retried))


def test_checkpointing_comes_next_and_shorter_examples_are_never_taken_unasked(
    folder: Path,
) -> None:
    job = wire.read_job(folder)
    recipe = msgspec.structs.replace(_recipe_of(job), training=Training(batch_size=1))
    wire.write_job(folder, msgspec.structs.replace(job, task=Train(recipe=recipe)))
    assert _run(folder, fits=0, fault=DryRunFailed()) == [AGAIN, 1]
    (retried,) = _said(folder, Retried)
    assert list(retried.settings) == ["training.gradient_checkpointing"]
    (end,) = _said(folder, Failed)
    assert "--set training.max_length=" in end.remedy


def _recipe_of(job: Job) -> Recipe:
    assert isinstance(job.task, Train)
    return job.task.recipe


@pytest.mark.parametrize("fault", [ValueError("odd"), OSError(28, "full")])
def test_no_other_fault_is_tried_again(folder: Path, fault: Exception) -> None:
    assert _run(folder, fits=1, fault=fault) == [1]
    assert not _said(folder, Retried)


def test_no_other_job_is_tried_again(folder: Path) -> None:
    job = wire.read_job(folder)
    wire.write_job(folder, msgspec.structs.replace(job, task=Bench(recipe=_recipe_of(job))))

    def room(host: Host) -> None:
        host.emit(Resolved(versions={}))
        raise MemoryError

    assert run_folder(folder, lambda task: room, may_retry=True) == 1


CLAIMS = """
import sys, time
from pathlib import Path
from workers.host import Host
with Host(Path(sys.argv[1])):
    time.sleep(600)
"""


def test_where_a_process_cannot_become_another_it_waits_for_its_successor(folder: Path) -> None:
    command = [sys.executable, "-c", CLAIMS, str(folder)]
    assert hand_over(folder, command, os.environ) == 0
    holder = holder_of(folder)
    assert holder is not None
    assert holder.pid != os.getpid()
    os.kill(holder.pid, 9)
    assert len(_said(folder, Started)) == 1
