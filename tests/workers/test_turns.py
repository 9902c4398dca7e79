"""Jobs take turns on a card: real processes that meet at one, and what each is let see."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import psutil
import pytest

from studio.jobs import Jobs
from studio.records import JobRow
from workers import turns
from workers.card_lock import hold, holders
from workers.device import on_cpu_alone
from workers.host import Host
from workers.protocol import wire
from workers.protocol.cards import WAITING, Card, Holder
from workers.protocol.events import Finished, Note, Paused, Started
from workers.protocol.jobs import Bench, Chat, Export, Inspect, Job, Probe, Score, Task, Train
from workers.protocol.recipe import Recipe, Source
from workers.protocol.requests import Pause, Say, Stop, UseCpu
from workers.protocol.rewards import Format, RewardModel

Follow = Callable[[Jobs, str], JobRow]
Wait = Callable[[Callable[[], object]], None]
CARD = "GPU-test"


@pytest.fixture(autouse=True)
def _one_card(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(turns.NAMED, CARD)
    monkeypatch.delenv(turns.VISIBLE, raising=False)


def phase_of(jobs: Jobs, job: str) -> str:
    jobs.poll()
    row = jobs.store.job(job)
    assert row is not None
    return row.phase


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_training_waits_and_goes_on(
    killed: bool, jobs: Jobs, recipe: Recipe, wait_until: Wait, follow: Follow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_STEP_S", "600" if killed else "0.05")
    long = msgspec.structs.replace(recipe.training, max_steps=5000)
    first = jobs.train(msgspec.structs.replace(recipe, training=long))
    wait_until(lambda: phase_of(jobs, first) == "Training")
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    second = jobs.train(msgspec.structs.replace(recipe, name="later"))
    wait_until(lambda: phase_of(jobs, second) == f"{WAITING}: small is training")
    if killed:
        (holder,) = holders(CARD)
        os.kill(holder.pid, signal.SIGKILL)
    else:
        jobs.stop(first)

    assert follow(jobs, second).status == "finished"
    row = jobs.store.job(first)
    assert row is not None
    assert row.status == ("failed" if killed else "stopped")
    last = wire.read_events(jobs.folder(first))[-1]
    loaded = next(line for line in wire.read_events(jobs.folder(second))
                  if getattr(line.event, "name", "") == "Loading the model")  # fmt: skip
    assert loaded.t >= last.t


def test_a_run_that_goes_on_with_less_memory_keeps_its_turn(
    jobs: Jobs, recipe: Recipe, wait_until: Wait, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    first = jobs.train(msgspec.structs.replace(recipe, name="thrifty greedy"))
    wait_until(lambda: phase_of(jobs, first) == "Training")
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    second = jobs.train(msgspec.structs.replace(recipe, name="later"))
    assert follow(jobs, second).status == "finished"
    said = wire.read_events(jobs.folder(first))
    assert sum(isinstance(line.event, Started) for line in said) == 2
    assert isinstance(said[-1].event, Finished)
    assert not any(getattr(line.event, "name", "").startswith(WAITING) for line in said)
    loaded = next(line for line in wire.read_events(jobs.folder(second))
                  if getattr(line.event, "name", "") == "Loading the model")  # fmt: skip
    assert loaded.t >= said[-1].t


Opened = Callable[..., Host]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A host of a job that was asked something before its start."""

    def make(task: Task, *asked: object) -> Host:
        folder = tmp_path / f"job-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        job = Job(id=folder.name, name="b", created="", home=str(tmp_path), task=task)  # type: ignore[arg-type]
        wire.write_job(folder, job)
        for request in asked:
            wire.append_request(folder, request)  # type: ignore[arg-type]
        return Host(folder)

    return make


@pytest.fixture
def held() -> AbstractContextManager[None]:
    """The card, in the hands of this process as a training of another home."""
    started = psutil.Process().create_time()
    holder = Holder(pid=os.getpid(), started=started, job="/a", name="a", kind="train")
    found = hold(CARD, holder)
    assert found is not None
    return found


def owned(task: type[Chat | Score], **fields: object) -> Chat | Score:
    me = psutil.Process()
    return task(model="m", owner_pid=me.pid, owner_started=me.create_time(), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [Stop(), Pause()])
def test_a_training_that_waits_rests_when_asked_to_end(
    asked: object, opened: Opened, held: AbstractContextManager[None], recipe: Recipe
) -> None:
    with held, opened(Train(recipe), asked) as host:
        with turns.turn(host) as ours:
            assert not ours
        said = [line.event for line in wire.read_events(host.folder)]
    assert isinstance(said[-1], Paused)
    assert said[-1].step == 0
    assert "waited for the GPU" in said[-1].detail


def test_a_chat_takes_the_cpu_when_asked_and_hears_what_was_said_besides(
    opened: Opened, held: AbstractContextManager[None]
) -> None:
    say = Say(messages=[{"role": "user", "content": "hello"}])
    with held, opened(owned(Chat), say, UseCpu()) as host, turns.turn(host) as ours:
        assert ours
        assert os.environ[turns.VISIBLE] == "-1"
        assert on_cpu_alone()
        assert host.requests.take() == [say]
        said = [line.event for line in wire.read_events(host.folder)]
    assert Note(text="The GPU is busy: a is training. This runs on the CPU.") in said
    assert turns.VISIBLE not in os.environ
    assert not on_cpu_alone()


def test_a_score_that_is_to_run_on_the_cpu_does_not_wait(
    opened: Opened, held: AbstractContextManager[None]
) -> None:
    with held, opened(owned(Score, when_busy="cpu")) as host, turns.turn(host) as ours:
        assert ours
        assert on_cpu_alone()


def test_a_probe_leaves_a_card_in_use_alone(
    opened: Opened, held: AbstractContextManager[None]
) -> None:
    with held, opened(Probe()) as host, turns.turn(host) as ours:
        assert ours
        assert on_cpu_alone()


def test_a_chat_whose_owner_is_gone_ends_while_it_waits(
    opened: Opened, held: AbstractContextManager[None]
) -> None:
    with held, opened(Chat(model="m")) as host, turns.turn(host) as ours:
        assert not ours


def test_two_chats_share_a_card(opened: Opened) -> None:
    with (
        opened(owned(Chat)) as one, turns.turn(one) as first,
        opened(owned(Chat)) as two, turns.turn(two) as second,
    ):  # fmt: skip
        assert first
        assert second


def test_a_job_on_the_cpu_leaves_the_card_to_others(
    opened: Opened, held: AbstractContextManager[None], recipe: Recipe
) -> None:
    training = msgspec.structs.replace(recipe.training, device="cpu")
    task = Train(msgspec.structs.replace(recipe, training=training))
    with held, opened(task) as host, turns.turn(host) as ours:
        assert ours
        assert on_cpu_alone()


def test_the_freest_card_is_taken_and_it_alone_is_seen(
    opened: Opened, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [
        Card(key="GPU-full", index=0, memory_bytes=24, used_bytes=20),
        Card(key="GPU-free", index=1, memory_bytes=16, used_bytes=1),
        Card(key="GPU-some", index=3, memory_bytes=12, used_bytes=2),
    ]
    monkeypatch.setattr(turns, "usable_cards", lambda: cards)
    with opened(Train(recipe)) as first, turns.turn(first):
        assert (os.environ[turns.VISIBLE], os.environ[turns.NAMED]) == ("1", "GPU-free")
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        with opened(Train(recipe)) as second, turns.turn(second):
            assert (os.environ[turns.VISIBLE], os.environ[turns.NAMED]) == ("3", "GPU-some")


@pytest.mark.parametrize("fault", [MemoryError(), ValueError()])
def test_a_run_that_is_out_of_memory_finds_its_card_again(
    fault: Exception, opened: Opened, recipe: Recipe
) -> None:
    with (
        opened(Train(recipe)) as first,
        pytest.raises(type(fault)), turns.turn(first),
    ):  # fmt: skip
        raise fault
    kept = isinstance(fault, MemoryError)
    with opened(Train(recipe), Pause()) as other, turns.turn(other) as ours:
        assert ours is not kept
    with turns.turn(first) as again:
        assert again


@pytest.mark.parametrize(("set_by_user", "seen"), [(None, "0"), ("1,0", "1,0"), ("", "")])
def test_without_nvml_one_device_is_seen_unless_the_user_names_some(
    set_by_user: str | None, seen: str, opened: Opened, recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv(turns.NAMED)
    if set_by_user is not None:
        monkeypatch.setenv(turns.VISIBLE, set_by_user)
    with opened(Train(recipe)) as host, turns.turn(host) as ours:
        assert ours
        assert os.environ[turns.VISIBLE] == seen


def test_a_lock_that_cannot_be_made_stops_nobody(
    opened: Opened, recipe: Recipe, runtime_folder: Path
) -> None:
    (runtime_folder / "finetune-studio").write_text("no folder")
    with opened(Train(recipe)) as host, turns.turn(host) as ours:
        assert ours
        said = [line.event for line in wire.read_events(host.folder)]
    assert any(isinstance(event, Note) and event.level == "warning" for event in said)


def test_only_what_computes_takes_turns(recipe: Recipe) -> None:
    assert turns.device_of(Export(run_folder="/a", targets=[])) == "auto"
    assert turns.device_of(Bench(recipe)) == "auto"
    scored = msgspec.structs.replace(recipe, rewards=[Format()])
    assert turns.device_of(Bench(scored, samples=0)) is None
    by_model = msgspec.structs.replace(recipe, rewards=[Format(), RewardModel(model="run:a")])
    assert turns.device_of(Bench(by_model, samples=0)) == "auto"
    assert turns.device_of(Inspect(source=Source(source="builtin:arithmetic"))) is None
