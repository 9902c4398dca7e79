"""A reward model: it gives an answer a number, higher for the answer that people prefer.

Learnt from pairs by the Bradley-Terry likelihood, -log sigmoid(r(better) - r(worse)) (Ouyang et al.
2022), with a term that keeps the mean at zero where one is asked for (Eisenstein et al. 2023).
"""

from __future__ import annotations

from transformers import Trainer
from trl import RewardConfig, RewardTrainer

from workers.train.course import Course, common_arguments, evaluated
from workers.train.preference import pairs

MEASURED = {
    "loss": "loss",
    "accuracy": "pair_accuracy",
    "margin": "margin",
    "mean_reward": "mean_reward",
}
"""TRL's names of what is measured on held-out pairs, to those on the wire."""


def build_trainer(course: Course) -> RewardTrainer:
    """TRL's RewardTrainer on the pairs."""
    options = course.recipe.training
    held_out = pairs(course.held_out)
    return RewardTrainer(
        model=course.loaded.model,
        args=RewardConfig(
            **common_arguments(course),
            per_device_eval_batch_size=options.batch_size,
            max_length=options.max_length,
            center_rewards_coefficient=course.recipe.preference.centring or None,
        ),
        train_dataset=pairs(course.training),
        eval_dataset=held_out if len(held_out) else None,
        processing_class=course.loaded.tokenizer,
    )


def measure(course: Course, trainer: Trainer) -> dict[str, float]:
    """Loss, margin and the share of held-out pairs put in the right order."""
    return evaluated(trainer, MEASURED)
