"""Learning from judged answers: a better answer is made likelier than a worse one.

DPO and its losses (Rafailov et al. 2023; IPO, Azar et al. 2023) widen the margin of the implicit
reward, beta times an answer's log-probability against the reference's; the better answer's own
likelihood can be added (Pang et al. 2024). The reference is where the run started: with an adapter,
the base with the adapter off, so no second copy is held. SimPO (Meng et al. 2024) and ORPO (Hong et
al. 2024) need no reference at all. KTO (Ethayarajh et al. 2024) learns from single answers with a
thumb up or down.
"""

from __future__ import annotations

import copy
from typing import Any

from datasets import Dataset
from transformers import Trainer

from workers.data.mix import Rows
from workers.evaluate import Measured
from workers.protocol.recipe import Preference
from workers.train.course import Course, answered, common_arguments, drop_reference_copy, evaluated
from workers.train.judged import judged

MEASURED = {
    "loss": "loss",
    "rewards/accuracies": "pair_accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
}
"""TRL's names of what is measured on held-out rows, to those on the wire."""
WITH_REFERENCE = ("dpo", "ipo", "kto")


def build_trainer(course: Course) -> Trainer:
    """TRL's trainer for the stage, with a reference of its own only where all weights train."""
    stage = course.recipe.stage
    kind, config, options = _kind(stage, course.recipe.preference, course.training)
    make = _thumbs if stage == "kto" else pairs
    held_out = make(course.held_out)
    if stage in WITH_REFERENCE and course.recipe.model.method == "full":
        options_of_model = {"ref_model": copy.deepcopy(course.loaded.model)}
    else:
        options_of_model = {}
    trainer = kind(
        model=course.loaded.model,
        args=config(
            **common_arguments(course),
            per_device_eval_batch_size=course.recipe.training.batch_size,
            max_length=course.recipe.training.max_length,
            **options,
        ),
        train_dataset=make(course.training),
        eval_dataset=held_out if len(held_out) else None,
        processing_class=course.loaded.tokenizer,
        **options_of_model,
    )
    drop_reference_copy(course)
    return trainer


def _kind(stage: str, preference: Preference, rows: Rows) -> tuple[Any, Any, dict[str, Any]]:
    """The trainer, its configuration, and what the recipe asks of it."""
    beta = {"beta": preference.beta}
    match stage:
        case "simpo":
            from trl.experimental.cpo import CPOConfig, CPOTrainer

            pure = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": preference.simpo_gamma}
            return CPOTrainer, CPOConfig, beta | pure
        case "orpo":
            from trl.experimental.orpo import ORPOConfig, ORPOTrainer

            return ORPOTrainer, ORPOConfig, beta
        case "kto":
            from trl import KTOConfig, KTOTrainer

            return KTOTrainer, KTOConfig, beta | balance(rows)
        case _:
            from trl import DPOConfig, DPOTrainer

            loss = "ipo" if stage == "ipo" else preference.loss
            options = beta | {"label_smoothing": preference.label_smoothing}
            if not preference.sft_weight:
                return DPOTrainer, DPOConfig, options | {"loss_type": [loss]}
            both = {"loss_type": [loss, "sft"], "loss_weights": [1.0, preference.sft_weight]}
            return DPOTrainer, DPOConfig, options | both


def balance(rows: Rows) -> dict[str, float]:
    """Weights that make good and bad answers count alike in all, the rarer ones more (KTO, 4.1)."""
    made = _judged(rows)
    good = sum(label for _, _, label in made)
    bad = len(made) - good
    if not good or not bad:
        return {}
    return {
        "desirable_weight": max(1.0, bad / good),
        "undesirable_weight": max(1.0, good / bad),
    }


def measure(course: Course, trainer: Trainer) -> Measured:
    """Loss, margin and, of pairs, the share put in the right order, on the held-out rows.

    Where the recipe names rewards, the model's own answers are scored by them, and compared with
    those that it gave before training.
    """
    found = evaluated(trainer, MEASURED)
    if not course.recipe.rewards:
        return found | answered(course, trainer)
    longest = course.recipe.evaluation.max_answer_tokens
    return found | judged(course, trainer, course.open_rewards(), longest)


def pairs(rows: Rows) -> Dataset:
    """Prompt, better and worse answer of every row that has both."""
    found = [row for row in rows if row.rejected]
    columns = {
        "prompt": [row.prompt for row in found],
        "chosen": [row.completion for row in found],
        "rejected": [row.rejected for row in found],
    }
    return Dataset.from_dict(columns)


def _thumbs(rows: Rows) -> Dataset:
    made = _judged(rows)
    columns = {
        "prompt": [prompt for prompt, _, _ in made],
        "completion": [completion for _, completion, _ in made],
        "label": [label for _, _, label in made],
    }
    return Dataset.from_dict(columns)


def _judged(rows: Rows) -> list[tuple[Any, Any, bool]]:
    """Prompt, answer and thumb; a pair gives two."""
    made: list[tuple[Any, Any, bool]] = []
    for row in rows:
        if row.rejected:
            made += [(row.prompt, row.completion, True), (row.prompt, row.rejected, False)]
        elif row.good is not None:
            made.append((row.prompt, row.completion, row.good))
    return made
