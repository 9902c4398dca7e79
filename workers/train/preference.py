"""Learning from preferences: a better completion is made likelier than a worse one.

DPO and its losses (Rafailov et al. 2023; IPO, Azar et al. 2023) widen the margin of the implicit
reward, beta times a completion's log-probability against the reference's; the better answer's own
likelihood can be added (Pang et al. 2024). The reference is where the run started: with an adapter,
the base with the adapter off, so no second copy is held. SimPO (Meng et al. 2024), CPO (Xu et al.
2024) and ORPO (Hong et al. 2024) need no reference at all. KTO (Ethayarajh et al. 2024) learns from
single completions labelled desirable or undesirable.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from datasets import Dataset
from transformers import Trainer

from workers.data.mix import Rows
from workers.evaluate import Measured
from workers.protocol.recipe import Preference
from workers.protocol.stages import spec_of
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    answered,
    common_arguments,
    drop_reference_copy,
    evaluated,
)
from workers.train.encoding import fitted, report_long
from workers.train.loss_check import (
    ROWS,
    TOKENS,
    Compared,
    own_log_probabilities,
    trainers_measure,
)
from workers.train.reward_eval import evaluate_rewards
from workers.train.tokenized import (
    CPOConfig,
    DPOConfig,
    KTOConfig,
    ORPOConfig,
    TokenizedCPO,
    TokenizedDPO,
    TokenizedKTO,
    TokenizedORPO,
    labelled,
)

COMPLETIONS = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
"""The columns of completions in a dataset."""


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's trainer for the stage, with a reference of its own only where all weights train."""
    stage = context.recipe.stage
    kind, config, options = _kind(stage, context.recipe.preference, context.training)
    spec = spec_of(stage)
    make = _labelled_dataset if spec.supervision == "labels" else pairs
    held_out = make(context, context.held_out, held_out=True)
    rows = make(context, context.training)  # by whose lengths the steps are divided
    if spec.reference and context.recipe.model.method == "full":
        options_of_model = {"ref_model": copy.deepcopy(context.loaded.model)}
    else:
        options_of_model = {}
    trainer = kind(
        model=context.loaded.model,
        args=config(
            **common_arguments(context),
            per_device_eval_batch_size=context.batches.micro,
            max_length=context.recipe.training.max_length,
            **options,
        ),
        train_dataset=rows,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=context.loaded.tokenizer,
        **options_of_model,
    )
    trainer.chunked = context.loss not in ("liger", "plain")
    drop_reference_copy(context)
    return trainer


def _kind(stage: str, preference: Preference, rows: Rows) -> tuple[Any, Any, dict[str, Any]]:
    """The trainer, its configuration, and what the recipe asks of it."""
    beta = {"beta": preference.beta}
    match stage:
        case "simpo":
            pure = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": preference.simpo_gamma}
            return TokenizedCPO, CPOConfig, beta | pure
        case "cpo":  # Xu et al. 2024, equation 3, and its likelihood of the better completion
            smoothed = {"loss_type": "sigmoid", "label_smoothing": preference.label_smoothing}
            return TokenizedCPO, CPOConfig, beta | smoothed | {"cpo_alpha": preference.rpo_alpha}
        case "orpo":
            return TokenizedORPO, ORPOConfig, beta
        case "kto":
            return TokenizedKTO, KTOConfig, beta | balance(rows) | NO_ROUTER_LOSS
        case _:
            loss = "ipo" if stage == "ipo" else preference.loss
            options = beta | NO_ROUTER_LOSS | {"label_smoothing": preference.label_smoothing}
            if not preference.rpo_alpha:
                return TokenizedDPO, DPOConfig, options | {"loss_type": [loss]}
            both = {"loss_type": [loss, "sft"], "loss_weights": [1.0, preference.rpo_alpha]}
            return TokenizedDPO, DPOConfig, options | both


def balance(rows: Rows) -> dict[str, float]:
    """Weights that make desirable and undesirable completions count alike in all, the rarer ones
    more (KTO, 4.1)."""
    labels = _labels(rows)
    good = sum(labels)
    bad = len(labels) - good
    if not good or not bad:
        return {}
    return {
        "desirable_weight": max(1.0, bad / good),
        "undesirable_weight": max(1.0, good / bad),
    }


def compare(context: TrainingContext, trainer: Trainer) -> Compared | None:
    """The log-probability of one better answer: a sum over its tokens, or their mean where the
    stage divides by length. The answer to the shortest of the first prompts is taken."""
    dataset: Any = trainer.train_dataset
    first = dataset.select(range(min(ROWS, len(dataset))))
    good = [row for row in first if row.get("label", True)]
    if not good:
        return None
    row = min(good, key=lambda one: len(one["prompt_ids"]))
    row |= {name: row[name][:TOKENS] for name in COMPLETIONS if name in row}
    if "chosen_labels" in row:
        row |= labelled(row)
    prompt, answer = row["prompt_ids"], row.get("chosen_ids") or row["completion_ids"]
    trainers = trainers_measure(trainer, row, "logps/chosen")
    own = own_log_probabilities(context.loaded.model, prompt + answer)[-len(answer) :]
    mean = context.recipe.stage in ("simpo", "orpo")
    return Compared("log-probability", trainers, float(own.mean() if mean else own.sum()))


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """Loss, margin and, of pairs, the share put in the right order, on the held-out rows.

    Where the recipe names rewards, the model's own answers are scored by them, and compared with
    those that it gave before training.
    """
    found = evaluated(context, trainer)
    if not context.recipe.rewards:
        return found | answered(context, trainer)
    longest = context.recipe.evaluation.max_completion_tokens
    return found | evaluate_rewards(context, trainer, context.open_rewards(), longest)


def pairs(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Dataset:
    """Prompt, chosen and rejected completion of every row that has both, as token ids.

    Pairs longer than training.max_length are left out, or lose the ends of their completions where
    training.too_long is "cut"; those whose prompt leaves no room for a completion are left out. How
    many is said.
    """
    found = fitted(context, rows, held_out=held_out)
    report_long(context, "pairs", found)
    columns: dict[str, Any] = {
        "prompt_ids": [chosen.prompt_ids for chosen, _ in found.kept],
        "chosen_ids": [chosen.completion_ids for chosen, _ in found.kept],
        "rejected_ids": [rejected.completion_ids for _, rejected in found.kept],
    }
    if context.recipe.training.group_by_length:
        columns["length"] = [max(map(len, sides)) for sides in _whole(columns)]
    return Dataset.from_dict(columns)


def _whole(columns: dict[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
    """Both conversations of every pair."""
    for prompt, chosen, rejected in zip(*columns.values(), strict=True):
        yield prompt + chosen, prompt + rejected


def _labelled_dataset(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Dataset:
    """Prompt, completion and label, of a pair both, as token ids; too long ones as in `pairs`."""
    found = fitted(context, rows, held_out=held_out)
    report_long(context, "answers", found)
    kept = [example for (example,) in found.kept]
    columns = {
        "prompt_ids": [one.prompt_ids for one in kept],
        "completion_ids": [one.completion_ids for one in kept],
        "label": [one.desirable for one in kept],
    }
    return Dataset.from_dict(columns)


def _labels(rows: Rows) -> list[bool]:
    """Of every completion, whether it is desirable; a pair gives one of each."""
    return [
        label
        for row in rows
        for label in ([True, False] if row.rejected else [row.label])
        if label is not None
    ]
