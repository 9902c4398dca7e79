"""What every job says, the real ones and the fake alike: pages and verbs rely on nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from studio.jobs import Jobs
from studio.paths import Home
from studio.process import launch
from studio.records import JobRow
from studio.settings import Settings
from studio.store import Store
from tests.conftest import WorkerHere, end_all, wait_for
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
    Paused,
    Phase,
    Progress,
    Ready,
    Resolved,
    Resumed,
    Rollout,
    Sampled,
    Saved,
    Started,
    Stopped,
    Token,
)
from workers.protocol.jobs import Chat, Export
from workers.protocol.recipe import RL, Evaluation, Model, Recipe, Source, Training
from workers.protocol.requests import SampleNow, SaveNow, Say
from workers.protocol.rewards import Format, MathAnswer
from workers.protocol.rollouts import Rollouts

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
def batch_here(studio: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the real worker within this process where nothing is said to it while it works."""
    if not studio.settings.interpreters:
        monkeypatch.setattr("studio.jobs.launch", _start)


def _start(folder: Path, interpreter: str) -> Any:
    talks = isinstance(wire.read_job(folder).task, Chat)
    return (launch if talks else WorkerHere)(folder, interpreter)


@pytest.fixture
def recipe(studio: Jobs) -> Recipe:
    return Recipe(
        name="contract",
        model=Model(base="starter"),
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


@pytest.mark.usefixtures("batch_here")
def test_training_export_and_chat(studio: Jobs, recipe: Recipe, follow: Follow) -> None:
    run = studio.train(recipe)
    studio.send(run, SaveNow())
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
    studio.send(chat, say)

    def answers() -> int:
        return sum(isinstance(li.event, Answered) for li in wire.read_events(studio.folder(chat)))

    wait_for(lambda: answers() == 1, 240.0)
    studio.send(chat, say)
    wait_for(lambda: answers() == 2, 240.0)
    studio.stop(chat)
    assert follow(studio, chat).status in ("finished", "stopped")
    events = _said(studio, chat)
    assert {Ready, Token, Answered} <= _kinds(events)
    answered = [event for event in events if isinstance(event, Answered)]
    tokens = "".join(event.text for event in events if isinstance(event, Token))
    assert tokens == "".join(event.text for event in answered)
    assert answered[0].text == answered[1].text


@pytest.mark.parametrize("studio", ["fake"], indirect=True)
def test_a_chat_ends_when_its_owner_is_gone(studio: Jobs, follow: Follow, tmp_path: Path) -> None:
    """The real chat needs a model to load; its owner check is the same function."""
    gone = Chat(model=str(tmp_path), owner_pid=os.getpid(), owner_started=1.0)
    row = follow(studio, studio.start(gone, "chat"))
    assert row.status == "finished"


@pytest.mark.parametrize("studio", ["fake"], indirect=True)
def test_a_stop_is_obeyed(studio: Jobs, recipe: Recipe, follow: Follow) -> None:
    """The real worker is stopped at the end of the test of a pause."""
    training = msgspec.structs.replace(recipe.training, max_steps=10_000)
    run = studio.train(msgspec.structs.replace(recipe, training=training))
    wait_for(_trains(studio, run), 600.0)
    studio.stop(run)
    assert follow(studio, run, 600.0).status == "stopped"
    events = _said(studio, run)
    assert isinstance(events[-1], Stopped)
    assert any(isinstance(event, Saved) for event in events)


def _trains(jobs: Jobs, run: str) -> Callable[[], bool]:
    """Whether a first step has been taken."""

    def trains() -> bool:
        jobs.poll()
        events = (line.event for line in wire.read_events(jobs.folder(run)))
        return any(isinstance(e, Metrics) and "loss" in e.values for e in events)

    return trains


def _reaped(jobs: Jobs, run: str) -> bool:
    """Whether the worker that said its last word has left altogether."""
    jobs.poll()
    return not jobs.has_child(run)


def test_a_pause_rests_at_a_checkpoint_and_goes_on_from_it(
    studio: Jobs, recipe: Recipe, follow: Follow
) -> None:
    training = msgspec.structs.replace(recipe.training, max_steps=10_000)
    run = studio.train(msgspec.structs.replace(recipe, training=training))
    wait_for(_trains(studio, run), 600.0)
    studio.pause(run)
    assert follow(studio, run, 600.0).status == "paused"
    events = [line.event for line in wire.read_events(studio.folder(run))]
    paused = events[-1]
    assert isinstance(paused, Paused)
    assert paused.detail
    assert [e.step for e in events if isinstance(e, Saved)][-1] == paused.step
    wait_for(lambda: not (studio.folder(run) / wire.ALIVE).exists() and _reaped(studio, run), 60.0)
    studio.resume(run)
    row = studio.store.job(run)
    assert row is not None
    assert row.live

    def goes_on() -> bool:
        studio.poll()
        said = [line.event for line in wire.read_events(studio.folder(run))]
        later = said[len(events) :]
        return any(isinstance(e, Metrics) and "loss" in e.values for e in later)

    wait_for(goes_on, 600.0)
    studio.stop(run)
    assert follow(studio, run, 600.0).status == "stopped"
    later = _said(studio, run)[len(events) :]
    assert isinstance(later[0], Started)
    assert isinstance(later[-1], Stopped)
    assert any(isinstance(event, Saved) for event in later)
    assert [e.step for e in later if isinstance(e, Resumed)] == [paused.step]
    steps = [e.step for e in later if isinstance(e, Metrics) and "loss" in e.values]
    assert steps[0] == paused.step + 1


@pytest.mark.usefixtures("batch_here")
def test_reinforcement_learning_shows_its_answers(
    studio: Jobs, recipe: Recipe, follow: Follow
) -> None:
    asked = msgspec.structs.replace(
        recipe,
        stage="grpo",
        training=msgspec.structs.replace(recipe.training, batch_size=2),
        rl=RL(group_size=2, max_completion_tokens=8),
        rewards=[Format(weight=0.5), MathAnswer()],
    )
    run = studio.train(asked)
    studio.send(run, SampleNow())
    assert follow(studio, run, 600.0).status == "finished"
    events = _said(studio, run)
    curves = {name for e in events if isinstance(e, Metrics) for name in e.values}
    assert {
        "loss", "reward", "reward_std", "frac_reward_zero_std", "reward/format",
        "reward/math_answer", "kl", "entropy", "clip_low", "clip_high", "clip_fraction",
        "completion_length", "truncation_rate", "unscored_share",
        "gradient_norm", "learning_rate", "rollout_seconds",
        "update_seconds", "eval_reward", "eval_accuracy",
    } <= curves  # fmt: skip
    scores = [event.values for event in events if isinstance(event, Evaluated)]
    assert all({"reward", "accuracy"} <= set(values) for values in scores)
    assert {event.step for event in events if isinstance(event, Sampled)} == {0, 1, 2}
    kept = [event for event in events if isinstance(event, Rollout)]
    assert [event.step for event in kept] == [1, 2]
    for event in kept:
        data = (studio.folder(run) / event.path).read_bytes()
        _check_answers(msgspec.json.decode(data, type=Rollouts), event.step)


def _check_answers(rollouts: Rollouts, step: int) -> None:
    assert rollouts.step == step
    assert rollouts.rewards == ["format", "math_answer"]
    assert rollouts.weights == [0.5, 1.0]
    for group in rollouts.groups:
        assert group.prompt
        assert len(group.samples) == 2
        for one in group.samples:
            assert len(one.rewards) == 2
            assert one.tokens > 0
            if None not in one.rewards:
                total = sum(
                    w * (r or 0) for w, r in zip(rollouts.weights, one.rewards, strict=True)
                )
                assert one.reward == pytest.approx(total)
