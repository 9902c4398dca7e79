"""Following jobs: typed handlers, owned workers, temporary folders; over the fake worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from studio.jobs import Jobs, JobUpdate
from studio.process import Rung
from studio.session import Ending, Session, delete_ended
from studio.settings import Settings
from tests.conftest import FAKE, played_by, wait_for
from workers.protocol import wire
from workers.protocol.events import Answered, Event, Finished, Metrics, Ready, Started, Token
from workers.protocol.jobs import Browse, Chat
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say, ShowRows

SAY = Say(messages=[{"role": "user", "content": "hello you"}])


def _poll_until(jobs: Jobs, condition: Any) -> None:
    def look() -> bool:
        jobs.poll()
        return bool(condition())

    wait_for(look)


def test_handlers_get_what_they_asked_for_in_order(jobs: Jobs, recipe: Recipe) -> None:
    session = Session(jobs, jobs.train(recipe))
    events: list[Event] = []
    steps: list[int] = []
    lines: list[wire.Line] = []
    endings: list[Ending] = []
    session.on(Event, events.append).on(Metrics, lambda metrics: steps.append(metrics.step))
    session.on(wire.Line, lines.append).on(Ending, endings.append)
    _poll_until(jobs, lambda: endings)
    assert endings == [Ending("finished", "", "")]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [line.event for line in lines] == events
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert steps == [event.step for event in events if isinstance(event, Metrics)]


def test_the_store_has_what_a_handler_is_called_with(jobs: Jobs, recipe: Recipe) -> None:
    run = jobs.train(recipe)
    behind: list[int] = []

    def look(metrics: Metrics) -> None:
        stored = jobs.store.series(run, "loss").steps
        if "loss" in metrics.values and metrics.step not in stored:
            behind.append(metrics.step)

    endings: list[Ending] = []
    Session(jobs, run).on(Metrics, look).on(Ending, endings.append)
    _poll_until(jobs, lambda: endings)
    assert behind == []


def test_each_session_gets_its_own_job_alone(jobs: Jobs, recipe: Recipe) -> None:
    runs = [jobs.train(msgspec.structs.replace(recipe, name=name)) for name in ("one", "two")]
    heard: dict[str, list[wire.Line]] = {run: [] for run in runs}
    endings: list[Ending] = []
    for run in runs:
        Session(jobs, run).on(wire.Line, heard[run].append).on(Ending, endings.append)
    everything: list[JobUpdate] = []
    leave = jobs.subscribe(None, everything.append)
    _poll_until(jobs, lambda: len(endings) == 2)
    for run in runs:
        assert heard[run] == wire.read_events(jobs.folder(run))
    assert {update.job for update in everything} == set(runs)
    leave()
    everything.clear()
    _poll_until(jobs, lambda: True)
    assert everything == []


def test_a_chat_is_owned_by_this_process_and_ends_with_its_session(jobs: Jobs) -> None:
    session = Session.start(jobs, Chat(model="m"))
    task = wire.read_job(jobs.folder(session.job)).task
    assert isinstance(task, Chat)
    assert task.owner_pid == os.getpid()
    assert task.owner_started == psutil.Process().create_time()
    ready: list[Ready] = []
    words: list[str] = []
    answers: list[Answered] = []
    session.on(Ready, ready.append).on(Token, lambda token: words.append(token.text))
    session.on(Answered, answers.append)
    _poll_until(jobs, lambda: ready)
    session.send(SAY)
    _poll_until(jobs, lambda: answers)
    assert "".join(words) == answers[0].text == "You said: hello you"
    session.send(SAY)
    session.close()
    _poll_until(jobs, lambda: not jobs.store.live())
    assert len(answers) == 1  # a closed session calls nobody


def test_a_run_goes_on_when_its_session_is_closed(jobs: Jobs, recipe: Recipe) -> None:
    session = Session(jobs, jobs.train(recipe))
    events: list[Event] = []
    session.on(Event, events.append)
    session.close()
    _poll_until(jobs, lambda: not jobs.store.live())
    row = jobs.store.job(session.job)
    assert row is not None
    assert row.status == "finished"
    assert events == []


def test_a_failure_is_told_with_its_remedy_and_a_resume_is_followed(
    jobs: Jobs, recipe: Recipe
) -> None:
    session = Session(jobs, jobs.train(msgspec.structs.replace(recipe, name="greedy")))
    endings: list[Ending] = []
    session.on(Ending, endings.append)
    _poll_until(jobs, lambda: endings)
    assert endings[0].status == "failed"
    assert endings[0].cause
    assert endings[0].remedy
    jobs.resume(session.job, {"training.batch_size": 1})
    _poll_until(jobs, lambda: len(endings) == 2)


def test_a_stop_that_is_not_obeyed_says_how_far_it_went(
    jobs: Jobs, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    session = Session(jobs, jobs.train(msgspec.structs.replace(recipe, name="hangs")))
    metrics: list[Metrics] = []
    rungs: list[Rung] = []
    endings: list[Ending] = []
    session.on(Metrics, metrics.append).on(Rung, rungs.append).on(Ending, endings.append)
    _poll_until(jobs, lambda: metrics)
    session.stop(grace_s=0.0)
    _poll_until(jobs, lambda: endings)
    assert rungs[:1] == [Rung.TERMINATED]
    assert endings[0].status == "stopped"


# Folders that nobody needs again


@pytest.fixture
def looks(home: Any, store: Any, tmp_path: Path) -> Jobs:
    return Jobs(home, store, played_by(FAKE.with_name("browse.py"), tmp_path))


@pytest.mark.parametrize("closed", [True, False])
def test_the_folder_of_a_temporary_job_is_deleted_once_it_has_ended(
    looks: Jobs, tmp_path: Path, closed: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Ask", "completion": "Say"}\n' if closed else "no JSON\n")
    session = Session.start(looks, Browse(source=Source(source=str(path))), temporary=True)
    endings: list[Ending] = []
    session.on(Ending, endings.append)
    if closed:
        session.send(ShowRows(first=0))
        session.close()
    _poll_until(looks, lambda: not looks.folder(session.job).exists())
    assert looks.store.jobs("browse") == []
    assert [ending.status for ending in endings] == ([] if closed else ["failed"])
    session.close()  # once more does no harm
    looks.close()


def test_what_an_earlier_studio_left_is_deleted(jobs: Jobs) -> None:
    session = Session.start(jobs, Chat(model="m"))
    delete_ended(jobs, "chat")
    assert jobs.folder(session.job).exists()
    session.close()
    _poll_until(jobs, lambda: not jobs.store.live())
    delete_ended(jobs, "chat")
    assert not jobs.folder(session.job).exists()


def test_an_interpreter_that_is_gone_is_refused(home: Any, store: Any) -> None:
    jobs = Jobs(home, store, Settings(interpreters={"auto": "/nowhere/python"}))
    with pytest.raises(Refusal, match="could not be started"):
        Session.start(jobs, Chat(model="m"))
