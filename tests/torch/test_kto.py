"""KTO (Ethayarajh et al. 2024, equation 8), and what preference stages measure besides a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import KTOConfig, KTOTrainer

from tests.torch.starters import STARTER, moved, of, of_stage, starter
from workers.data.reader import read_table
from workers.protocol.events import Evaluated, Failed
from workers.protocol.recipe import (
    Preference,
)
from workers.protocol.rewards import MathAnswer
from workers.train.reward_eval import win_rate
from workers.train.reward_model import calibration_error

Run = Callable[..., list[Any]]


ROWS = read_table("builtin:preferences").rows[:4]


BETA = 0.3


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        chosen = torch.log_softmax(model(input_ids=ids).logits[:, :-1].double(), dim=-1)
    return chosen.gather(2, ids[:, 1:, None])[0, len(prompt) - 1 :, 0].sum().item()


def test_kto_is_that_of_the_paper(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    policy, reference = moved(starter()), starter()
    good_weight, bad_weight = 1.0, 1.3
    labels = [True, False, True, False]
    said = [
        row.completion if label else row.rejected for row, label in zip(ROWS, labels, strict=True)
    ]
    columns = {"prompt": [row.prompt for row in ROWS], "completion": said, "label": labels}
    trainer = KTOTrainer(
        model=policy,
        ref_model=reference,
        args=KTOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=BETA,
            per_device_train_batch_size=4, per_device_eval_batch_size=4, max_length=256,
            gradient_checkpointing=False, desirable_weight=good_weight,
            undesirable_weight=bad_weight,
        ),
        train_dataset=Dataset.from_dict(columns),
        eval_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
    )  # fmt: skip
    prompts, answers = [], []
    for row, answer in zip(ROWS, said, strict=True):
        head = tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*row.prompt, *answer], tokenize=False)
        prompts.append(tokenizer(head, add_special_tokens=False)["input_ids"])
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        answers.append(ids[len(prompts[-1]) :])

    def ratios(pairs: list[tuple[list[int], list[int]]]) -> np.ndarray:
        return np.array(
            [log_probability(policy, *p) - log_probability(reference, *p) for p in pairs]
        )

    ratio = ratios(list(zip(prompts, answers, strict=True)))
    mismatched = list(zip(prompts, [answers[-1], *answers[:-1]], strict=True))
    distance = max(0.0, ratios(mismatched).mean())
    sigmoid = 1 / (1 + np.exp(-BETA * (ratio - distance) * np.where(labels, 1, -1)))
    expected = (np.where(labels, good_weight, bad_weight) * (1 - sigmoid)).mean()
    found = trainer.evaluate()["eval_loss"]
    assert found == pytest.approx(expected, abs=1e-5)


def test_sureness_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    sure = np.log(3)  # says 75 %
    assert calibration_error([sure, sure, sure, -sure]) == pytest.approx(0.0, abs=1e-9)
    assert calibration_error([sure] * 4) == pytest.approx(0.25)
    assert calibration_error([-10.0] * 4) == pytest.approx(1.0, abs=1e-4)


def test_ties_count_half() -> None:
    assert win_rate([0.0, 1.0, 0.5, None], [1.0, 0.0, 0.5, 1.0]) == 0.5
    assert win_rate([None], [1.0]) is None


def test_preference_runs_compare_their_answers_with_those_before(train_here: Run) -> None:
    recipe = of_stage(
        "dpo", "pairs", data="builtin:preferences", training={"max_steps": 1},
        preference=Preference(rpo_alpha=1.0), rewards=[MathAnswer()],
    )  # fmt: skip
    events = train_here(recipe)
    assert of(Failed, events) == []
    before, after = of(Evaluated, events)
    assert {"pair_accuracy", "reward", "accuracy"} <= before.values.keys()
    assert after.values["win_rate"] is not None
