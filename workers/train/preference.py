"""Direct preference optimisation: a better answer is made likelier than a worse one.

The implicit reward of an answer is beta times its log-probability against the reference's; the
loss widens the margin between the two answers of a pair (Rafailov et al. 2023, DPO). The reference
is where the run started: with an adapter, the base with the adapter off, so no second copy is held.
"""

from __future__ import annotations

import copy

from datasets import Dataset
from transformers import Trainer
from trl import DPOConfig, DPOTrainer

from workers.data.mix import Rows
from workers.train.course import Course, answered, common_arguments, drop_reference_copy

MEASURED = {
    "loss": "loss",
    "rewards/accuracies": "pair_accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
}
"""TRL's names of what is measured on held-out pairs, to those on the wire."""


def build_trainer(course: Course) -> DPOTrainer:
    """TRL's DPOTrainer on the pairs, with a reference of its own only where all weights train."""
    options = course.recipe.preference
    held_out = [row for row in course.held_out if row.rejected]
    full = course.recipe.model.method == "full"
    trainer = DPOTrainer(
        model=course.loaded.model,
        ref_model=copy.deepcopy(course.loaded.model) if full else None,
        args=DPOConfig(
            **common_arguments(course),
            per_device_eval_batch_size=course.recipe.training.batch_size,
            max_length=course.recipe.training.max_length,
            loss_type=[options.loss],
            beta=options.beta,
            label_smoothing=options.label_smoothing,
        ),
        train_dataset=_dataset(course.training),
        eval_dataset=_dataset(held_out) if held_out else None,
        processing_class=course.loaded.tokenizer,
    )
    drop_reference_copy(course)
    return trainer


def measure(course: Course, trainer: Trainer) -> dict[str, float]:
    """Loss, margin and the share of held-out pairs put in the right order."""
    found = trainer.evaluate() if trainer.eval_dataset is not None else {}
    scores = {
        ours: found[f"eval_{name}"] for name, ours in MEASURED.items() if f"eval_{name}" in found
    }
    return scores | answered(course, trainer)


def _dataset(rows: Rows) -> Dataset:
    columns = {
        "prompt": [row.prompt for row in rows],
        "chosen": [row.completion for row in rows],
        "rejected": [row.rejected for row in rows],
    }
    return Dataset.from_dict(columns)
