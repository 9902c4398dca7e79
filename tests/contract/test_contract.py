"""What every job says, the real ones and the fake alike: pages and verbs rely on nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from studio.jobs import Jobs
from studio.paths import Home
from studio.settings import Settings
from studio.store import JobRow, Store
from tests.conftest import end_all, wait_for
from workers.protocol import wire
from workers.protocol.events import (
    ENDINGS,
    Answered,
    Artifact,
    Checked,
    Evaluated,
    Event,
    Finished,
    Metrics,
    Phase,
    Progress,
    Ready,
    Resolved,
    Saved,
    Started,
    Stopped,
    Token,
)
from workers.protocol.jobs import Chat, Export
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training
from workers.protocol.requests import SaveNow, Say

Follow = Callable[..., JobRow]

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.torch)])
def studio(request: pytest.FixtureRequest, home: Home, fake: Settings) -> Iterator[Jobs]:
    """Jobs whose workers are the fake, or the real ones."""
    store = Store(home.store)
    jobs = Jobs(home, store, fake if request.param == "fake" else Settings())
    yield jobs
    jobs.close()
    store.close()
    end_all(home)


@pytest.fixture
def recipe(studio: Jobs) -> Recipe:
    return Recipe(
        name="contract",
        model=Model(base="smollm2"),
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=2, batch_size=1, save_every_steps=1),
        evaluation=Evaluation(max_rows=2),
    )


def _said(jobs: Jobs, job: str) -> list[Event]:
    lines = wire.read_events(jobs.folder(job))
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    events = [line.event for line in lines]
    assert isinstance(events[0], Started)
    assert [isinstance(event, ENDINGS) for event in events].index(True) == len(events) - 1
    return events


def _kinds(events: list[Event]) -> set[type[Event]]:
    return {type(event) for event in events}


def test_training_export_and_chat(studio: Jobs, recipe: Recipe, follow: Follow) -> None:
    run = studio.train(recipe)
    studio.tell(run, SaveNow())
    assert follow(studio, run, 600.0).status == "finished"
    _check_training(studio, run)
    folder = studio.folder(run)
    task = Export(run_folder=str(folder), targets=["gguf:Q8_0"])
    export = studio.start(task, "export", run)
    assert follow(studio, export, 600.0).status == "finished"
    _check_export(studio, export)
    _check_chat(studio, str(folder), follow)


def _check_training(studio: Jobs, run: str) -> None:
    events = _said(studio, run)
    assert {Phase, Resolved, Progress, Metrics, Evaluated, Saved, Artifact} <= _kinds(events)
    steps = [e.step for e in events if isinstance(e, Metrics) and "loss" in e.values]
    assert steps == list(range(1, len(steps) + 1))
    assert [e.when for e in events if isinstance(e, Evaluated)] == ["before", "after"]
    for saved in (event for event in events if isinstance(event, Saved)):
        assert (Path(saved.path) / "manifest.json").is_file()
    assert isinstance(events[-1], Finished)
    job = wire.read_job(studio.folder(run))
    assert job.resolved is not None
    assert job.resolved.versions
    assert job.resolved.datasets[0]["sha256"]
    assert list((studio.folder(run) / "adapter").glob("*.safetensors"))


def _check_export(studio: Jobs, export: str) -> None:
    events = _said(studio, export)
    made = [event for event in events if isinstance(event, Artifact)]
    assert [event.kind for event in made] == ["gguf:Q8_0"]
    path = Path(made[0].path)
    assert path.read_bytes()[:4] == b"GGUF"
    assert path.stat().st_size == made[0].bytes
    checks = [event for event in events if isinstance(event, Checked)]
    assert checks
    assert all(check.passed for check in checks), checks
    assert not list(path.parent.glob(".*"))


def _check_chat(studio: Jobs, model: str, follow: Follow) -> None:
    me = psutil.Process(os.getpid())
    task = Chat(model=model, owner_pid=me.pid, owner_started=me.create_time())
    chat = studio.start(task, "chat")
    say = Say(messages=[{"role": "user", "content": "hello you"}], max_tokens=8, temperature=0.0)
    studio.tell(chat, say)

    def answers() -> int:
        return sum(isinstance(li.event, Answered) for li in wire.read_events(studio.folder(chat)))

    wait_for(lambda: answers() == 1, 240.0)
    studio.tell(chat, say)
    wait_for(lambda: answers() == 2, 240.0)
    studio.stop(chat)
    assert follow(studio, chat).status in ("finished", "stopped")
    events = _said(studio, chat)
    assert {Ready, Token, Answered} <= _kinds(events)
    answered = [event for event in events if isinstance(event, Answered)]
    tokens = "".join(event.text for event in events if isinstance(event, Token))
    assert tokens == "".join(event.text for event in answered)
    assert answered[0].text == answered[1].text


def test_a_chat_ends_when_its_owner_is_gone(studio: Jobs, follow: Follow, tmp_path: Path) -> None:
    gone = Chat(model=str(tmp_path), owner_pid=os.getpid(), owner_started=1.0)
    if "fake" not in str(studio.settings.interpreters):
        pytest.skip("the real chat needs a model to load; its owner check is the same function")
    row = follow(studio, studio.start(gone, "chat"))
    assert row.status == "finished"


def test_a_stop_is_obeyed(studio: Jobs, recipe: Recipe, follow: Follow) -> None:
    training = msgspec.structs.replace(recipe.training, max_steps=10_000)
    run = studio.train(msgspec.structs.replace(recipe, training=training))

    def trains() -> bool:
        studio.poll()
        events = (line.event for line in wire.read_events(studio.folder(run)))
        return any(isinstance(e, Metrics) and "loss" in e.values for e in events)

    wait_for(trains, 600.0)
    studio.stop(run)
    assert follow(studio, run, 600.0).status == "stopped"
    events = _said(studio, run)
    assert isinstance(events[-1], Stopped)
    assert any(isinstance(event, Saved) for event in events)
