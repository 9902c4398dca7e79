"""How a step is divided by the memory that is free, in real runs of a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.torch.test_loss_check import opened
from workers.estimate import GIB, estimate, geometry_of
from workers.estimate.step import CONTEXT
from workers.protocol import wire
from workers.protocol.events import Metrics, Note, Resolved
from workers.protocol.jobs import Job, Train
from workers.protocol.jobs import Resolved as Pinned
from workers.protocol.recipe import Distill, Evaluation, Lora, Model, Recipe, Source, Training
from workers.train import fitting

Run = Callable[..., list[Any]]


def learner(tiny: Path, **training: Any) -> Recipe:
    given = {"max_steps": 2, "precision": "fp32", "save_every_steps": 0, "max_length": 128,
             "learning_rate": 1e-3, "effective_batch_size": 8}  # fmt: skip
    return Recipe(
        name="fits",
        model=Model(base=str(tiny), method="lora"),
        lora=Lora(rank=4, alpha=8),
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(**given | training),
        evaluation=Evaluation(holdout=0.0),
    )


def batch_of(events: list[Any]) -> dict[str, int]:
    (found,) = [e for e in events if isinstance(e, Resolved) and "batch" in e.details]
    return found.details["batch"]


def losses(events: list[Any]) -> list[float]:
    found = [event.values for event in events if isinstance(event, Metrics)]
    return [loss for values in found if (loss := values.get("loss")) is not None]


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the tiny model for one whose memory is counted."""
    monkeypatch.setattr(fitting, "TINY", 0)


def leave(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, tiny: Path, micro: int) -> None:
    """Leaves free what so many rows of the longest length surely take, and not one more."""
    longest = 41
    geometry = geometry_of(json.loads((tiny / "config.json").read_text()))
    assert geometry is not None
    found = estimate(recipe, geometry, micro=micro, longest=longest, checkpointing=False)
    loaded = found.parts["weights"] + found.parts["adapter"] + int(CONTEXT[1] * GIB)
    free = (found.high - loaded) / fitting.RAM_SHARE
    monkeypatch.setattr(fitting, "free_memory", lambda device: int(free) + 2)


@pytest.mark.usefixtures("real")
def test_less_memory_means_more_and_smaller_parts_of_the_same_step(
    tiny: Path, train_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = learner(tiny)
    whole = train_here(recipe)
    leave(monkeypatch, recipe, tiny, 2)
    parts = train_here(recipe)

    assert batch_of(whole) == {
        "effective": 8, "micro": 8, "accumulation": 1, "checkpointing": 0,
    }  # fmt: skip
    assert batch_of(parts) == {
        "effective": 8, "micro": 2, "accumulation": 4, "checkpointing": 0,
    }  # fmt: skip
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)
    told = " ".join(event.text for event in parts if isinstance(event, Note))
    assert "Trains 2 examples at once, 4 times, to make 8 a step: the longest has" in told


def test_a_run_goes_on_with_the_parts_that_it_began_with(
    tiny: Path, train_here: Run, tmp_path: Path
) -> None:
    began = {"effective": 8, "micro": 4, "accumulation": 2, "checkpointing": 0}
    folder = tmp_path / "jobs" / "began"
    folder.mkdir(parents=True)
    job = Job(id="began", name="began", created="2026-01-01T00:00:00+00:00", home=str(tmp_path),
              task=Train(recipe=learner(tiny, max_steps=1)),
              resolved=Pinned(batch=began))  # fmt: skip
    wire.write_job(folder, job)
    train_here(learner(tiny), folder)

    again = wire.read_job(folder).resolved
    assert again is not None
    assert again.batch == began
    assert msgspec.structs.asdict(again)["coverage"]["steps"] == 1


@pytest.mark.usefixtures("real")
def test_a_teacher_in_a_folder_is_counted_by_its_own_sizes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((tiny / "config.json").read_text())
    larger = tmp_path / "larger"
    larger.mkdir()
    (larger / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 50}))
    (larger / "model.safetensors").touch()
    recipe = msgspec.structs.replace(
        learner(tiny), stage="distill", distill=Distill(teacher=str(larger))
    )
    seen: list[Any] = []

    def asked(*_: Any, teacher: Any, **__: Any) -> int:
        seen.append(teacher.layers)
        return 1

    monkeypatch.setattr(fitting, "largest_micro", asked)
    with opened(recipe, tmp_path) as here:
        here.longest = 16
        fitting.fitted_batches(here)
    assert seen == [50]
