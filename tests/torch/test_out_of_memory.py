"""Memory that runs out in a real run: it ends finished, with the losses of a run left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from accelerate import Accelerator
from transformers import Trainer

from workers.__main__ import run_folder
from workers.evaluate import Generator
from workers.protocol import wire
from workers.protocol.checkpoints import last_step
from workers.protocol.events import (
    Evaluated,
    Failed,
    Finished,
    Metrics,
    Note,
    Resumed,
    Retried,
    Sampled,
    Started,
)
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import RL, Evaluation, Lora, Model, Recipe, Source, Training
from workers.protocol.resume import changed
from workers.protocol.rewards import Python
from workers.retry import AGAIN
from workers.train import context, dry_run

Fault = Callable[[], BaseException]
STEPS, SAVED, FAILS = 3, 1, 3
"""So many steps, a checkpoint behind each, and the memory runs out in the last."""
LETTERS = "def reward(prompt, completion, answer):\n    return len(set(completion)) / 20"


def out_of_memory() -> BaseException:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def in_cublas() -> BaseException:
    return RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    )


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pairs lie that preferences are learnt from."""
    folder = tmp_path_factory.mktemp("memory")
    sums = [(a, b) for a in range(10, 30) for b in (3, 5)]
    pairs = [
        {"prompt": f"What is {a} + {b}?", "chosen": f"It is {a + b}.", "rejected": f"It is {a}."}
        for a, b in sums
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return folder


def recipe_of(
    stage: Any, tiny: Path, folder: Path, holdout: float = 0.0, steps: int = STEPS
) -> Recipe:
    data = folder / "pairs.jsonl" if stage == "dpo" else tiny / "sums.jsonl"
    return Recipe(
        name=stage,
        stage=stage,
        model=Model(base=str(tiny), method="lora"),
        lora=Lora(rank=4, alpha=8),
        data=[Source(source=str(data))],
        training=Training(
            max_steps=steps, batch_size=4, learning_rate=1e-2, max_length=128, precision="fp32",
            save_every_steps=SAVED,
        ),
        rl=RL(group_size=4, max_completion_tokens=12, kl_coefficient=0.1),
        rewards=[Python(code=LETTERS)] if stage == "grpo" else [],
        evaluation=Evaluation(holdout=holdout, max_rows=4, max_completion_tokens=8),
    )  # fmt: skip


def run(recipe: Recipe, folder: Path) -> list[Any]:
    """The whole of a run that is started as often as it asks for it; what it said."""
    folder.mkdir(parents=True)
    wire.write_job(folder, Job(id=folder.name, name="r", created="2026-01-01T00:00:00+00:00",
                               home=str(folder.parent), task=Train(recipe=recipe)))  # fmt: skip
    while run_folder(folder, may_retry=True) == AGAIN:
        pass
    return [line.event for line in wire.read_events(folder)]


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def curves(events: list[Any]) -> dict[tuple[int, str], float]:
    """The last loss and gradient of each step: the curves that stay."""
    return {
        (event.step, name): event.values[name]
        for event in of(Metrics, events)
        for name in ("loss", "gradient_norm")
        if name in event.values
    }


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a function raise in some of its calls, counted from 1."""

    def install(owner: Any, name: str, calls: set[int], fault: Fault = out_of_memory) -> None:
        real, count = getattr(owner, name), iter(range(1, 10_000))

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(count) in calls:
                raise fault()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    return install


@pytest.fixture(scope="module")
def alone(
    tiny: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Any]]:
    """What a run says in which the memory never runs out."""
    known: dict[str, list[Any]] = {}

    def get(stage: str) -> list[Any]:
        if stage not in known:
            home = tmp_path_factory.mktemp(stage)
            known[stage] = run(recipe_of(stage, tiny, folder), home / "alone")
        return known[stage]

    return get


@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        ("sft", in_cublas),
        pytest.param("dpo", out_of_memory, marks=pytest.mark.slow),
        ("grpo", out_of_memory),
    ],
)
def test_a_run_goes_on_with_the_losses_of_one_left_alone(
    tiny: Path, folder: Path, tmp_path: Path, fail_at: Any, alone: Any, stage: str, fault: Fault
) -> None:
    undisturbed = curves(alone(stage))
    fail_at(Accelerator, "backward", {FAILS}, fault)
    events = run(recipe_of(stage, tiny, folder), tmp_path / "j" / "run")
    assert isinstance(events[-1], Finished), events[-1]
    (retried,) = of(Retried, events)
    assert retried.step == FAILS - 1
    assert [event.step for event in of(Resumed, events)] == [FAILS - 1]
    task = wire.read_job(tmp_path / "j" / "run").task
    assert isinstance(task, Train)
    training = task.recipe.training
    assert (training.batch_size, training.gradient_accumulation) == (2, 2)
    assert all(value > 1e-3 for (_, name), value in undisturbed.items() if name != "loss")
    assert curves(events) == pytest.approx(undisturbed, abs=1e-4)


def test_measuring_and_sampling_halve_what_is_done_at_once(
    tiny: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many prompts at once as fit, in the run's own process; the answers are the same."""
    recipe = recipe_of("sft", tiny, folder, holdout=0.1, steps=1)
    monkeypatch.setattr(context, "SAMPLE_TOKENS", 8)
    undisturbed = run(recipe, tmp_path / "j" / "alone")
    generated, evaluated = Generator._generate, Trainer.evaluation_loop

    def generate(self: Any, texts: list[str], *args: Any) -> Any:
        if len(texts) > 1:
            raise out_of_memory()
        return generated(self, texts, *args)

    def evaluate(self: Any, batches: Any, *args: Any, **kwargs: Any) -> Any:
        for batch in batches:
            if len(batch["input_ids"]) > 1:
                raise in_cublas()
        return evaluated(self, batches, *args, **kwargs)

    monkeypatch.setattr(Generator, "_generate", generate)
    monkeypatch.setattr(Trainer, "evaluation_loop", evaluate)
    events = run(recipe, tmp_path / "j" / "run")
    assert isinstance(events[-1], Finished), events[-1]
    assert not of(Retried, events)
    assert of(Sampled, events) == of(Sampled, undisturbed)
    assert len(of(Sampled, events)) == 4
    for one, other in zip(of(Evaluated, events), of(Evaluated, undisturbed), strict=True):
        # The held-out loss is the mean of the batches' means, so that it knows their size.
        assert one.values == pytest.approx(other.values, abs=2e-3)


@pytest.mark.parametrize(
    ("calls", "starts"), [({1}, 1), pytest.param({1, 2}, 2, marks=pytest.mark.slow)]
)
def test_saving_lets_go_of_what_training_needed_and_else_begins_anew(
    tiny: Path, folder: Path, tmp_path: Path, fail_at: Any, alone: Any, calls: set[int], starts: int
) -> None:
    fail_at(context, "write_folder", calls)
    place = tmp_path / "j" / "run"
    events = run(recipe_of("sft", tiny, folder), place)
    assert isinstance(events[-1], Finished), events[-1]
    assert len(of(Started, events)) == starts
    assert (place / "adapter" / "adapter_model.safetensors").is_file()
    assert last_step(place) == STEPS
    assert curves(events) == pytest.approx(curves(alone("sft")), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_the_dry_run_comes_first_until_it_fits_and_leaves_no_trace(
    tiny: Path,
    folder: Path,
    tmp_path: Path,
    fail_at: Any,
    alone: Any,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """It fails twice, with 4 rows and with 2; with 1 it fits."""
    monkeypatch.setattr(dry_run, "is_worth_it", lambda context: True)
    fail_at(Accelerator, "backward", {1, 2})
    events = run(recipe_of(stage, tiny, folder), tmp_path / "j" / "run")
    assert isinstance(events[-1], Finished), events[-1]
    assert [event.settings["training.batch_size"] for event in of(Retried, events)] == [
        (4, 2), (2, 1)
    ]  # fmt: skip
    assert all(event.dry and not event.step for event in of(Retried, events))
    (note,) = [one.text for one in of(Note, events) if one.text.startswith("The longest micro")]
    assert ("rows are learnt from in an hour" in note) == (stage != "grpo")
    assert curves(events) == pytest.approx(curves(alone(stage)), abs=1e-4)


def test_the_longest_rows_are_tried_first_and_the_start_is_measured_once(
    tiny: Path, folder: Path, tmp_path: Path, fail_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [json.loads(line) for line in (tiny / "sums.jsonl").read_text().splitlines()]
    longest = {"prompt": "What is 1 + 2 + 3 + 4 + 5 + 6?", "completion": "It is 21. " * 4}
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [*data[:8], longest])))
    recipe = recipe_of("sft", tiny, folder, holdout=0.2, steps=1)
    recipe = msgspec.structs.replace(recipe, data=[Source(source=str(tmp_path / "rows.jsonl"))])
    seen: list[int] = []
    passed = dry_run._pass

    def note(trainer: Any, batch: Any) -> Any:
        seen.append(batch["input_ids"].shape[1])
        return passed(trainer, batch)

    monkeypatch.setattr(dry_run, "is_worth_it", lambda context: True)
    monkeypatch.setattr(dry_run, "_pass", note)
    monkeypatch.setattr(context, "SAMPLE_TOKENS", 8)
    fail_at(Accelerator, "backward", {1})
    events = run(recipe, tmp_path / "j" / "run")
    assert isinstance(events[-1], Finished), events[-1]
    assert seen[0] == seen[1] == max(seen) > seen[2]
    assert [event.when for event in of(Evaluated, events)] == ["before", "after"]


@pytest.mark.slow
def test_a_run_goes_on_with_an_optimizer_of_eight_bits(
    tiny: Path, folder: Path, tmp_path: Path, fail_at: Any
) -> None:
    fail_at(Accelerator, "backward", {FAILS, FAILS + 1})
    place = tmp_path / "j" / "run"
    failed = run(recipe_of("sft", tiny, folder), place)
    assert isinstance(failed[-1], Failed)
    wire.write_job(place, changed(wire.read_job(place), {"training.optimizer": "adamw_8bit"}, 2))
    assert run_folder(place) == 0
    events = [line.event for line in wire.read_events(place)]
    assert any("gathered anew" in note.text for note in of(Note, events))
    assert {step for step, _ in curves(events)} == set(range(1, STEPS + 1))
