"""Distillation: the generalized Jensen-Shannon divergence (Agarwal et al. 2024, equation 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from trl.experimental.gkd import GKDTrainer

from tests.torch.starters import STARTER, of, of_stage
from workers.protocol.events import Evaluated, Failed, Finished
from workers.protocol.recipe import (
    RL,
    Distill,
)
from workers.train.distill import Collator

Run = Callable[..., list[Any]]


def test_the_divergence_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    labels = torch.tensor([[-100, 1, 2], [3, -100, -100]])
    mask = (labels != -100).numpy()
    q, p = (torch.softmax(x.double(), -1).numpy()[mask] for x in (student, teacher))

    def kl(one: np.ndarray, other: np.ndarray) -> float:
        return float((one * np.log(one / other)).sum(-1).mean())

    for beta in (0.0, 0.3, 1.0):
        mixed = beta * p + (1 - beta) * q
        expected = {0.0: kl(p, q), 1.0: kl(q, p)}.get(
            beta, beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)
        )
        found = GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta)
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_prompts_to_answer_end_before_the_first_trained_token() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [5, 9], "labels": [-100, 9]},
    ]
    made = Collator(tokenizer)(rows)
    assert made["prompts"].tolist() == [[5, 6], [1, 5]]
    assert made["prompt_attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert made["input_ids"].tolist() == [[5, 6, 7, 8], [1, 1, 5, 9]]
    assert made["labels"].tolist() == [[-100, -100, 7, 8], [-100, -100, -100, 9]]


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
