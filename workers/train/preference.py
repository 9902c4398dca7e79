"""Learning from preferences: a better answer is made likelier than a worse one.

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
from workers.protocol.refusal import Refusal
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    answered,
    common_arguments,
    drop_reference_copy,
    evaluated,
)
from workers.train.encoding import answer_of, encoded, pair_of, tell_long
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

ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
"""The columns of answers in a dataset."""
WITH_REFERENCE = ("dpo", "ipo", "kto")


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's trainer for the stage, with a reference of its own only where all weights train."""
    stage = context.recipe.stage
    kind, config, options = _kind(stage, context.recipe.preference, context.training)
    make = _labelled_dataset if stage == "kto" else pairs
    held_out = make(context, context.held_out, held_out=True)
    if stage in WITH_REFERENCE and context.recipe.model.method == "full":
        options_of_model = {"ref_model": copy.deepcopy(context.loaded.model)}
    else:
        options_of_model = {}
    trainer = kind(
        model=context.loaded.model,
        args=config(
            **common_arguments(context),
            per_device_eval_batch_size=context.recipe.training.batch_size,
            max_length=context.recipe.training.max_length,
            **options,
        ),
        train_dataset=make(context, context.training),
        eval_dataset=held_out if len(held_out) else None,
        processing_class=context.loaded.tokenizer,
        **options_of_model,
    )
    drop_reference_copy(context)
    return trainer


def _kind(stage: str, preference: Preference, rows: Rows) -> tuple[Any, Any, dict[str, Any]]:
    """The trainer, its configuration, and what the recipe asks of it."""
    beta = {"beta": preference.beta}
    match stage:
        case "simpo":
            pure = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": preference.simpo_gamma}
            return TokenizedCPO, CPOConfig, beta | pure
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
    """Weights that make good and bad answers count alike in all, the rarer ones more (KTO, 4.1)."""
    made = _labelled(rows)
    good = sum(label for _, _, label in made)
    bad = len(made) - good
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
    row |= {name: row[name][:TOKENS] for name in ANSWERS if name in row}
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


def pairs(
    context: TrainingContext, rows: Rows, *, held_out: bool = False, whole: bool = False
) -> Dataset:
    """Prompt, better and worse answer of every row that has both, as token ids.

    Pairs longer than training.max_length lose the ends of their answers, or are left out where
    they have to be `whole`; those whose prompt leaves no room for an answer are left out. How many
    is said.
    """
    longest = context.recipe.training.max_length
    tokenizer = context.loaded.tokenizer
    paired = [row for row in rows if row.rejected]
    made = encoded(context, paired, lambda row: pair_of(row, tokenizer))
    fitting = [
        pair for pair in made if (pair.longest <= longest if whole else len(pair.prompt) < longest)
    ]
    kept = [pair.cut(longest) for pair in fitting]
    if not held_out:
        cut = sum(one != other for one, other in zip(kept, fitting, strict=True))
        _tell_long(context, "pairs", len(made), cut, len(made) - len(kept), whole=whole)
    columns = {
        "prompt_ids": [pair.prompt for pair in kept],
        "chosen_ids": [pair.chosen for pair in kept],
        "rejected_ids": [pair.rejected for pair in kept],
    }
    return Dataset.from_dict(columns)


def _labelled_dataset(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Dataset:
    """Prompt, answer and thumb as token ids; too long ones as in `pairs`."""
    longest = context.recipe.training.max_length
    tokenizer = context.loaded.tokenizer
    labelled_rows = [row for row in rows if row.rejected or row.label is not None]
    answers = encoded(context, labelled_rows, lambda row: [
        (answer_of(prompt, answer, tokenizer), label) for prompt, answer, label in _labelled([row])
    ])  # fmt: skip
    made = [one for both in answers for one in both]
    fitting = [(one, label) for one, label in made if len(one.prompt) < longest]
    kept = [(one.cut(longest), label) for one, label in fitting]
    if not held_out:
        cut = sum(one != other for one, other in zip(kept, fitting, strict=True))
        _tell_long(context, "answers", len(made), cut, len(made) - len(kept))
    columns = {
        "prompt_ids": [one.prompt for one, _ in kept],
        "completion_ids": [one.answer for one, _ in kept],
        "label": [label for _, label in kept],
    }
    return Dataset.from_dict(columns)


def _tell_long(
    context: TrainingContext, what: str, total: int, cut: int, dropped: int, *, whole: bool = False
) -> None:
    tell_long(context, what, total, cut, dropped, whole=whole)
    if total and dropped == total:
        raise Refusal(
            f"None of the {what} is short enough to train on.",
            f"All are longer than training.max_length = {context.recipe.training.max_length}.",
            "Raise training.max_length.",
        )


def _labelled(rows: Rows) -> list[tuple[Any, Any, bool]]:
    """Prompt, answer and thumb; a pair gives two."""
    made: list[tuple[Any, Any, bool]] = []
    for row in rows:
        if row.rejected:
            made += [(row.prompt, row.completion, True), (row.prompt, row.rejected, False)]
        elif row.label is not None:
            made.append((row.prompt, row.completion, row.label))
    return made
