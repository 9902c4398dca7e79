"""Real runs of the tiny model: the loss on a fixed seed, every method, stop, resume, chains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.jobs import Jobs
from studio.records import JobRow
from workers.protocol import wire
from workers.protocol.checkpoints import last_step
from workers.protocol.events import Artifact, Evaluated, Finished, Metrics, Note, Resumed, Saved
from workers.protocol.jobs import Train
from workers.protocol.recipe import Evaluation, Lora, Model, Recipe, Source, Training
from workers.protocol.resume import for_less_memory, with_settings
from workers.protocol.templates import fingerprint

Follow = Callable[..., JobRow]

PINNED_LOSSES = [5.7229, 5.7484, 5.4495, 5.4075]
"""Of `learner(...)` with method full in fp32 on the CPU, seed 0."""


def learner(tiny: Path, **changes: Any) -> Recipe:
    training: dict[str, Any] = {
        "max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "max_length": 128,
        "precision": "fp32", "save_every_steps": 0,
    }  # fmt: skip
    training.update(changes.pop("training", {}))
    method = changes.pop("method", "full")
    return Recipe(
        name=changes.pop("name", "tiny"),
        model=Model(base=changes.pop("base", str(tiny)), method=method),
        lora=Lora(rank=4, alpha=8),
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(**training),
        evaluation=Evaluation(max_rows=8, **changes.pop("evaluation", {})),
    )


def said(jobs: Jobs, run: str, kind: type) -> list[Any]:
    events = (line.event for line in wire.read_events(jobs.folder(run)))
    return [event for event in events if isinstance(event, kind)]


def losses(jobs: Jobs, run: str) -> dict[int, float]:
    return {
        event.step: event.values["loss"]
        for event in said(jobs, run, Metrics)
        if "loss" in event.values
    }


def test_the_loss_on_a_fixed_seed_is_pinned(real: Jobs, tiny: Path, follow: Follow) -> None:
    run = real.train(learner(tiny))
    assert follow(real, run).status == "finished"
    assert list(losses(real, run).values()) == pytest.approx(PINNED_LOSSES, abs=2e-3)
    metrics = said(real, run, Metrics)[1]
    for name in ("entropy", "token_accuracy", "gradient_norm", "learning_rate",
                 "tokens_per_second", "memory_bytes"):  # fmt: skip
        assert metrics.values[name] is not None, name


def test_a_run_pins_versions_data_model_and_seed(real: Jobs, tiny: Path, follow: Follow) -> None:
    run = real.train(learner(tiny, training={"max_steps": 1}))
    follow(real, run)
    resolved = json.loads((real.folder(run) / "job.json").read_text())["resolved"]
    assert resolved["versions"]["trl"] == "1.12.0"
    assert len(resolved["datasets"][0]["sha256"]) == 64
    assert len(resolved["model"]["sha256"]) == 64
    assert resolved["seeds"] == {"training": 0}
    assert resolved["precision"] == "float32"


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "full"])
def test_every_method_trains_and_leaves_its_weights(
    real: Jobs, tiny: Path, follow: Follow, method: str
) -> None:
    steps = {"max_steps": 8, "learning_rate": 2e-2, "precision": "auto"}
    run = real.train(learner(tiny, method=method, training=steps))
    row = follow(real, run)
    assert row.status == "finished", f"{row.cause} {row.remedy}"
    curve = losses(real, run)
    assert curve[8] < curve[1]
    kept = real.folder(run) / ("model" if method == "full" else "adapter")
    assert list(kept.glob("*.safetensors"))
    assert (kept / "tokenizer.json").exists()
    assert said(real, run, Artifact)[0].path == str(kept)


def test_accumulation_of_small_batches_equals_one_large_one(
    real: Jobs, tiny: Path, follow: Follow
) -> None:
    whole = real.train(learner(tiny, training={"max_steps": 2, "batch_size": 8}))
    follow(real, whole)
    parts = real.train(
        learner(tiny, training={"max_steps": 2, "batch_size": 2, "gradient_accumulation": 4})
    )
    follow(real, parts)
    assert list(losses(real, parts).values()) == pytest.approx(
        list(losses(real, whole).values()), abs=2e-3
    )


@pytest.mark.slow
def test_a_template_of_ones_own_is_copied_pinned_and_saved(
    real: Jobs, tiny: Path, tmp_path: Path, follow: Follow
) -> None:
    path = tmp_path / "mine.jinja"
    text = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>\n{% endfor %}"
    ask = "{% if add_generation_prompt %}[assistant] {% endif %}"
    path.write_text(text + ask)
    recipe = learner(tiny, training={"max_steps": 1})
    model = msgspec.structs.replace(recipe.model, template=str(path))
    run = real.train(msgspec.structs.replace(recipe, model=model))
    path.unlink()  # what the run learns with is its own copy
    row = follow(real, run)
    assert row.status == "finished", f"{row.cause} {row.remedy}"
    folder = real.folder(run)
    assert (folder / "chat_template.jinja").read_text() == text + ask
    resolved = wire.read_job(folder).resolved
    assert resolved is not None
    assert resolved.model["template"] == str(path)
    saved = (folder / "model" / "chat_template.jinja").read_text()
    assert saved.endswith(text + ask)
    assert resolved.model["template_sha256"] == fingerprint(saved)


def test_checkpointing_and_packing_train(real: Jobs, tiny: Path, follow: Follow) -> None:
    options = {"gradient_checkpointing": True, "packing": True, "max_steps": 2}
    run = real.train(learner(tiny, training=options))
    row = follow(real, run)
    assert row.status == "finished", row.cause


def test_held_out_rows_are_measured_before_during_and_after(
    real: Jobs, tiny: Path, follow: Follow
) -> None:
    options = {"learning_rate": 1e-2, "max_steps": 6}
    run = real.train(learner(tiny, training=options, evaluation={"every_steps": 3}))
    follow(real, run)
    moments = [(event.when, event.step) for event in said(real, run, Evaluated)]
    assert moments[0] == ("before", 0)
    assert ("during", 3) in moments
    assert moments[-1] == ("after", 6)
    scores = [event.values["loss"] for event in said(real, run, Evaluated)]
    assert scores[-1] < scores[0]


def test_a_stop_ends_within_one_step_and_keeps_the_work(
    detached: Jobs, tiny: Path, wait_until: Callable[..., None], follow: Follow
) -> None:
    run = detached.train(learner(tiny, training={"max_steps": 100_000}))
    wait_until(lambda: detached.poll() is not None and len(losses(detached, run)) > 3, 240.0)
    detached.stop(run)
    at = max(losses(detached, run))
    row = follow(detached, run)
    assert row.status == "stopped"
    assert row.steps - at < 40  # tiny steps take milliseconds: some pass while the request travels
    assert said(detached, run, Saved)[-1].step == row.steps
    assert (detached.folder(run) / "model" / "config.json").exists()


def test_a_killed_run_resumes_to_the_same_end(
    detached: Jobs,
    tiny: Path,
    train_here: Callable[..., list[Any]],
    wait_until: Callable[..., None],
    follow: Follow,
) -> None:
    """Killed after a checkpoint and resumed, the losses are those of a run left alone."""
    steps = 40
    recipe = learner(
        tiny, name="killed", training={"max_steps": steps, "save_every_steps": 5, "batch_size": 2}
    )
    run = detached.train(recipe)
    wait_until(lambda: detached.poll() is not None and len(said(detached, run, Saved)) >= 2, 240.0)
    alive = msgspec.json.decode((detached.folder(run) / wire.ALIVE).read_bytes(), type=wire.Alive)
    os.kill(alive.pid, signal.SIGKILL)
    row = follow(detached, run)
    assert row.status == "failed"
    assert "signal 9" in row.cause
    detached.resume(run)
    assert follow(detached, run, 400.0).status == "finished"
    resumed = said(detached, run, Resumed)[0].step
    assert 10 <= resumed < steps
    ours, alone = losses(detached, run), _losses(train_here(recipe))
    assert list(ours) == list(range(1, steps + 1))
    for step in range(resumed + 1, steps + 1):
        assert ours[step] == pytest.approx(alone[step], abs=5e-3), step


def test_a_run_can_start_from_an_earlier_one(real: Jobs, tiny: Path, follow: Follow) -> None:
    options = {"max_steps": 8, "learning_rate": 2e-2}
    first = real.train(learner(tiny, name="first", method="lora", training=options))
    follow(real, first)
    again = learner(tiny, name="second", method="lora", base="run:first", training=options)
    second = real.train(again)
    row = follow(real, second)
    assert row.status == "finished", row.cause
    assert row.parent == first
    before = said(real, second, Evaluated)[0].values["loss"]
    after_first = said(real, first, Evaluated)[-1].values["loss"]
    assert before == pytest.approx(after_first, abs=0.02)


def test_rows_that_are_cut_are_said(real: Jobs, tiny: Path, follow: Follow) -> None:
    longest = 24
    cut = {"max_steps": 1, "too_long": "cut"}
    run = real.train(learner(tiny, training={**cut, "max_length": longest}))
    row = follow(real, run)
    assert row.status == "finished", row.cause
    assert any(f"are truncated at {longest} tokens" in note.text for note in said(real, run, Note))
    none = follow(real, real.train(learner(tiny, training={**cut, "max_length": 8})))
    assert none.status == "failed"
    assert "No row has a token left to train" in none.cause


def test_a_job_repeats_by_hand(real: Jobs, tiny: Path, follow: Follow, tmp_path: Path) -> None:
    run = real.train(learner(tiny, training={"max_steps": 2}))
    follow(real, run)
    again = tmp_path / "again"
    again.mkdir()
    (again / "job.json").write_bytes((real.folder(run) / "job.json").read_bytes())
    subprocess.run([sys.executable, "-m", "workers", str(again)], check=True)
    first = [e.values["loss"] for e in said(real, run, Metrics) if "loss" in e.values]
    lines = wire.read_events(again)
    second = [
        line.event.values["loss"]
        for line in lines
        if isinstance(line.event, Metrics) and "loss" in line.event.values
    ]
    assert second == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": "/none/model"}, "There is no base model at '/none/model'"),
        ({"base": "run:nothing"}, "no run called 'nothing'"),
    ],
)
def test_a_missing_model_is_told(
    real: Jobs, tiny: Path, follow: Follow, change: dict[str, str], words: str
) -> None:
    from workers.protocol.refusal import Refusal

    try:
        row = follow(real, real.train(learner(tiny, **change)))
        told = f"{row.cause} {row.remedy}"
        assert row.status == "failed"
        assert row.remedy
        assert not (real.folder(row.id) / "model").exists()
    except Refusal as refusal:
        told = str(refusal)
    assert words in told


def test_out_of_memory_goes_on_from_the_checkpoint_with_a_smaller_batch(
    tiny: Path,
    train_here: Callable[..., list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same examples a step in smaller batches: the losses are those of a run left alone."""
    import torch

    from workers.train.report import Report

    options = {"max_steps": 6, "save_every_steps": 3}
    recipe = learner(tiny, training=options)
    alone = train_here(recipe)
    began = Report.on_step_end

    def fail_once(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        began(self, args, state, control, **more)
        if state.global_step == 4 and recipe.training.batch_size == args.train_batch_size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Report, "on_step_end", fail_once)
    told = train_here(recipe)
    assert (told[-1].kind, told[-1].what) == ("out_of_memory", "The memory ran out.")
    folder = max((tmp_path / "jobs").iterdir())
    assert last_step(folder) == 3
    job = wire.read_job(folder)
    settings = for_less_memory(recipe) | {"training.save_every_steps": 2}
    changed = with_settings(recipe, settings, job.id)
    assert (changed.training.batch_size, changed.training.gradient_accumulation) == (2, 2)
    wire.write_job(folder, msgspec.structs.replace(job, task=Train(recipe=changed)))
    told = train_here(changed, folder)
    assert isinstance(told[-1], Finished)
    assert [event.step for event in told if isinstance(event, Resumed)] == [3]
    assert [event.step for event in told if isinstance(event, Saved)] == [3, 4, 6]
    assert _losses(told) == pytest.approx(_losses(alone), abs=2e-3)


def _losses(events: list[Any]) -> dict[int, float | None]:
    measured = [event for event in events if isinstance(event, Metrics)]
    return {event.step: event.values["loss"] for event in measured if "loss" in event.values}
