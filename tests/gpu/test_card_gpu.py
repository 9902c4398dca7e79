"""One card and who has it: NVIDIA's library beside PyTorch, turns between processes, heat."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from studio.jobs import Jobs
from studio.paths import Home
from studio.records import JobRow
from studio.settings import Settings
from studio.store import Store
from workers.cards import VISIBLE, find_cards, usable_cards
from workers.cuda_check import fault_of_cuda, unused_card
from workers.device import free_memory, total_memory
from workers.host import Host
from workers.protocol import wire
from workers.protocol.cards import WAITING
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training
from workers.turns import NAMED, turn

Wait = Callable[..., None]


@pytest.fixture
def real(home: Home, runtime_folder: Path) -> Iterator[Jobs]:
    store = Store(home.store)
    jobs = Jobs(home, store, Settings())
    yield jobs
    jobs.close()
    store.close()


def learner(tiny: Path, name: str, steps: int = 8, device: str = "auto") -> Recipe:
    return Recipe(
        name=name,
        model=Model(base=str(tiny)),
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(max_steps=steps, batch_size=4, max_length=128, device=device),  # type: ignore[arg-type]
        evaluation=Evaluation(max_rows=8),
    )


def test_nvml_and_pytorch_tell_of_the_same_card() -> None:
    cards, why = find_cards()
    assert cards, why
    names = {torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())}
    assert names <= {card.name for card in cards}
    card = next(card for card in cards if card.name == torch.cuda.get_device_name())
    assert card.capability == ".".join(map(str, torch.cuda.get_device_capability()))
    assert card.memory_bytes is not None
    assert card.memory_bytes == pytest.approx(total_memory("cuda"), rel=0.05)
    assert card.driver
    assert card.cuda
    assert fault_of_cuda() == ""
    assert unused_card(usable_cards()) is None


def test_free_memory_falls_by_what_is_taken_and_rises_again() -> None:
    before = free_memory("cuda")
    held = torch.empty(256 * 1024**2, dtype=torch.uint8, device="cuda")
    assert before - free_memory("cuda") == pytest.approx(held.numel(), rel=0.1)
    del held
    assert free_memory("cuda") == pytest.approx(before, rel=0.02)
    assert before <= total_memory("cuda")


def test_a_turn_names_one_card(
    tmp_path: Path, runtime_folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    wire.write_job(tmp_path, Job(id="a", name="a", created="", home="", task=Train(recipe)))
    with Host(tmp_path) as host, turn(host) as ours:
        assert ours
        card = next(card for card in find_cards()[0] if card.key == os.environ[NAMED])
        assert os.environ[VISIBLE] == str(card.index)


def test_trainings_take_turns_and_one_on_the_cpu_does_not_wait(
    real: Jobs, tiny: Path, follow: Callable[..., JobRow], wait_until: Wait
) -> None:
    first = real.train(learner(tiny, "first", steps=100_000))

    def phase(run: str) -> str:
        real.poll()
        row = real.store.job(run)
        assert row is not None
        return row.phase

    wait_until(lambda: phase(first) == "Training", 120.0)
    second = real.train(learner(tiny, "second"))
    wait_until(lambda: phase(second) == f"{WAITING}: first is training", 120.0)
    beside = real.train(learner(tiny, "beside", device="cpu"))
    assert follow(real, beside, 300.0).status == "finished"
    resolved = wire.read_job(real.folder(beside)).resolved
    assert resolved is not None
    assert resolved.device == "cpu"
    real.stop(first)
    assert follow(real, second, 300.0).status == "finished"
    resolved = wire.read_job(real.folder(second)).resolved
    assert resolved is not None
    assert resolved.device == "cuda"


def test_a_card_that_is_warmer_than_allowed_pauses_its_run(
    real: Jobs, tiny: Path, follow: Callable[..., JobRow]
) -> None:
    real.settings = msgspec.structs.replace(real.settings, pause_above_celsius=5)
    row = follow(real, real.train(learner(tiny, "hot", steps=100_000)), 300.0)
    assert row.status == "paused"
    assert "settings pause training at 5 °C" in row.cause
