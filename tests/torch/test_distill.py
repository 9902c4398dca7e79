"""Distillation: the generalized Jensen-Shannon divergence (Agarwal et al. 2024, equation 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.torch.starters import of, of_stage
from workers.protocol import wire
from workers.protocol.events import Evaluated, Failed, Finished, Metrics
from workers.protocol.recipe import (
    RL,
    Distill,
)
from workers.protocol.requests import Pause
from workers.train.distill import batch_of, divergence, prompt_and_answer

Run = Callable[..., list[Any]]


def test_the_divergence_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    labels = torch.tensor([[-100, 1, 2], [3, -100, -100]])
    mask = (labels != -100).numpy()
    flat = [logits[labels != -100] for logits in (student, teacher)]
    q, p = (torch.softmax(x.double(), -1).numpy()[mask] for x in (student, teacher))

    def kl(one: np.ndarray, other: np.ndarray) -> float:
        return float((one * np.log(one / other)).sum(-1).mean())

    for beta in (0.0, 0.3, 1.0):
        mixed = beta * p + (1 - beta) * q
        expected = {0.0: kl(p, q), 1.0: kl(q, p)}.get(
            beta, beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)
        )
        found, entropy = divergence(flat[0], flat[1], beta)
        assert found.mean().item() == pytest.approx(expected, abs=1e-5)
        assert entropy.mean().item() == pytest.approx(-(q * np.log(q)).sum(-1).mean(), abs=1e-5)


def test_prompts_to_answer_end_before_the_first_trained_token() -> None:
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [5, 9], "labels": [-100, 9]},
    ]
    made = batch_of(rows, 1)
    assert made["prompt_ids"].tolist() == [[5, 6], [1, 5]]
    assert made["prompt_mask"].tolist() == [[1, 1], [0, 1]]
    assert made["completion_ids"].tolist() == [[7, 8], [9, 1]]
    assert made["completion_mask"].tolist() == [[1, 1], [1, 0]]
    assert made["tool_mask"].tolist() == [[1, 1], [1, 0]]


def test_what_stands_between_trained_answers_is_read_and_not_learnt() -> None:
    made = batch_of([{"input_ids": [5, 7, 6, 8], "labels": [-100, 7, -100, 8]}], 1)
    assert made["completion_mask"].tolist() == [[1, 1, 1]]
    assert made["tool_mask"].tolist() == [[1, 0, 1]]


def test_a_row_that_is_trained_from_its_first_token_is_read_from_the_second() -> None:
    assert prompt_and_answer({"input_ids": [5, 7], "labels": [5, 7]}) == ([5], [7])


def test_distillation_comes_nearer_to_its_teacher(train_here: Run, tmp_path: Path) -> None:
    teacher = of_stage("sft", "teacher", data="builtin:arithmetic",
                       training={"max_steps": 10, "learning_rate": 4e-3})  # fmt: skip
    assert of(Finished, train_here(teacher))
    (run,) = (tmp_path / "jobs").glob("teacher-*")
    student = of_stage(
        "distill", "student", data="builtin:arithmetic",
        training={"max_steps": 12, "learning_rate": 2e-3},
        distill=Distill(teacher=f"run:{run.name}", lmbda=0.3), rl=RL(max_completion_tokens=24),
    )  # fmt: skip
    events = train_here(student)
    assert of(Failed, events) == []
    before, after = of(Evaluated, events)
    assert after.values["loss"] < before.values["loss"]


def test_a_teacher_of_other_tokens_is_refused(train_here: Run, tiny: Path) -> None:
    student = of_stage("distill", "student", data="builtin:arithmetic",
                       distill=Distill(teacher=str(tiny)))  # fmt: skip
    (failed,) = of(Failed, train_here(student))
    assert failed.kind == "refused"
    assert "tokens" in failed.what


@pytest.mark.slow
def test_a_pause_changes_nothing_and_the_teacher_may_be_held_in_four_bits(
    train_here: Run, tmp_path: Path
) -> None:
    """Own answers are sampled again as they would have been, and the same steps take them."""
    recipe = of_stage(
        "distill", "whole", data="builtin:arithmetic",
        training={"max_steps": 4, "batch_size": 4, "gradient_accumulation": 2},
        distill=Distill(teacher="starter", lmbda=0.5, teacher_four_bit=True),
        rl=RL(max_completion_tokens=12),
    )  # fmt: skip
    expected = train_here(recipe)
    assert of(Failed, expected) == []
    (folder,) = (tmp_path / "jobs").glob("whole*")
    paused = tmp_path / "jobs" / "paused"
    paused.mkdir()
    job = wire.read_job(folder)
    wire.write_job(paused, msgspec.structs.replace(job, id="paused", resolved=None))
    wire.append_request(paused, Pause())
    train_here(recipe, paused)
    events = train_here(recipe, paused)
    assert of(Failed, events) == []
    losses, own = (
        {
            event.step: event.values["loss"]
            for event in of(Metrics, made) if "loss" in event.values
        }
        for made in (expected, events)
    )  # fmt: skip
    assert losses[1] > 0  # four bits are another model than the student's sixteen
    assert own == pytest.approx(losses, abs=5e-4)
