"""A reward model: it gives a completion a number, higher for the one that people prefer.

Trained on pairs by the Bradley-Terry likelihood, -log sigmoid(r(better) - r(worse)) (Ouyang et al.
2022), with a term that keeps the mean at zero where one is asked for (Eisenstein et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from datasets import Dataset
from transformers import Trainer
from trl import RewardConfig, RewardTrainer

from workers.data.mix import Rows
from workers.data.schema.row import Row
from workers.data.tokenize.encode import Encoding
from workers.evaluate import Measured
from workers.protocol.refusal import Refusal
from workers.rewards.models import as_trained, scores
from workers.train.context import TrainingContext, common_arguments, evaluated
from workers.train.loss_check import Compared, own_logits, trainers_measure
from workers.train.preference import pairs

BINS = 10


def build_trainer(context: TrainingContext) -> RewardTrainer:
    """TRL's RewardTrainer on the pairs."""
    options = context.recipe.training
    held_out = _conversations(context, context.held_out, held_out=True)
    rows = _conversations(context, context.training)  # by whose lengths the steps are divided
    return RewardTrainer(
        model=context.loaded.model,
        args=RewardConfig(
            **common_arguments(context),
            per_device_eval_batch_size=context.batches.micro,
            max_length=options.max_length,
            center_rewards_coefficient=context.recipe.preference.center_rewards_coefficient or None,
        ),
        train_dataset=rows,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=context.loaded.tokenizer,
    )


def _conversations(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Dataset:
    """Both conversations of every pair as token ids; those that do not fit are left out whole,
    since half an answer cannot be compared."""
    sides = ("chosen_ids", "rejected_ids")
    made = pairs(context, rows, held_out=held_out)
    return made.map(
        lambda pair: {side: pair["prompt_ids"] + pair[side] for side in sides},
        remove_columns=["prompt_ids"],
    )


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The loss of the first pair."""
    dataset: Any = trainer.train_dataset
    row = dataset[0]
    trainers = trainers_measure(trainer, row, "loss")
    model = context.loaded.model
    better, worse = (
        float(own_logits(model, row[side])[0]) for side in ("chosen_ids", "rejected_ids")
    )
    centered = context.recipe.preference.center_rewards_coefficient * (better + worse) ** 2
    return Compared("loss", trainers, float(np.logaddexp(0, worse - better)) + centered)


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """On held-out pairs: loss, margin, the share put in the right order, how well the probabilities
    are calibrated, and how often the longer answer wins against how often it is the better one."""
    rows = [row for row in context.held_out if row.rejected]
    if not rows:
        return Measured()
    return evaluated(context, trainer) | Measured(_looked_at(context, trainer, rows))


def _looked_at(context: TrainingContext, trainer: Trainer, rows: Rows) -> dict[str, float]:
    tokenizer: Any = context.loaded.tokenizer
    model: Any = trainer.model
    both = [pair for row in rows if (pair := _sides(context, row))]
    if not both:
        return {}
    was_training = model.training
    model.eval()
    with context.loaded.autocast():  # the output is trained in 32 bits
        better, worse = (
            np.array(scores(model, tokenizer, [one.input_ids for one in side]))
            for side in zip(*both, strict=True)
        )
    model.train(was_training)
    longer = np.array([len(one.text) - len(other.text) for one, other in both])
    gaps = better - worse
    differ = longer != 0
    found = {"calibration_error": calibration_error(gaps)}
    if differ.any():
        found["length_bias"] = float(((gaps > 0) == (longer > 0))[differ].mean())
        found["longer_chosen"] = float((longer > 0)[differ].mean())
    return found


def _sides(context: TrainingContext, row: Row) -> list[Encoding] | None:
    """Both conversations of a pair, whatever their length; None where the template refuses it,
    which was told when the rows were made ready."""
    reasoning = context.recipe.training.reasoning
    turned = msgspec.structs.replace(row, completion=row.rejected)
    alone = [msgspec.structs.replace(side, rejected=[]) for side in (row, turned)]
    try:
        return [as_trained(side, context.loaded.tokenizer, reasoning) for side in alone]
    except Refusal:
        return None


def calibration_error(gaps: Sequence[float] | np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017) of sigmoid(r(better) - r(worse)).

    Of each pair the model is as sure as the greater of the two probabilities, and right where the
    better answer has it; the error is the mean distance of the two over ten bins of sureness.
    """
    gaps = np.asarray(gaps, dtype=float)
    sure = 1 / (1 + np.exp(-np.abs(gaps)))
    right = gaps > 0
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(right[bins == at].mean() - sure[bins == at].mean()) * (bins == at).mean()
            for at in np.unique(bins)
        )
    )
