"""Supervised fine-tuning: the model learns to answer as the answers in the data do.

Continued pretraining (`cpt`) is the same on plain text, every token of which is learnt.

The loss is the mean negative log-likelihood of the trained tokens, -(1/sum m) sum m log p, with
m = 1 on the assistant's tokens (and 0 on all others unless training.assistant_only_loss is off).
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from workers.data.mix import Rows
from workers.data.reader import Row
from workers.data.tokenize.encode import IGNORED, Example, tokenize, windows
from workers.evaluate import Measured
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    answered,
    common_arguments,
    evaluated,
)
from workers.train.encoding import encoded, tell_long
from workers.train.loss_check import (
    ROWS,
    TOKENS,
    Compared,
    own_log_probabilities,
    trainers_measure,
)


def build_trainer(context: TrainingContext) -> SFTTrainer:
    """Tokenizes and masks the rows; TRL's SFTTrainer learns them."""
    options = context.recipe.training
    held_out = examples_of(context, context.held_out, held_out=True)
    return SFTTrainer(
        model=context.loaded.model,
        args=SFTConfig(
            **common_arguments(context),
            **NO_ROUTER_LOSS,
            per_device_eval_batch_size=options.batch_size,
            max_length=options.max_length,
            packing=options.packing,
            loss_type="nll" if context.plain_loss else "chunked_nll",
        ),
        train_dataset=dataset_of(examples_of(context, context.training)),
        eval_dataset=dataset_of(held_out) if held_out else None,
        processing_class=context.loaded.tokenizer,
    )


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The loss of one row."""
    row = first_example(trainer)
    trainers = trainers_measure(trainer, row, "loss")
    trained = torch.tensor(row["labels"][1:]) != IGNORED
    own = own_log_probabilities(context.loaded.model, row["input_ids"]).cpu()
    return Compared("loss", trainers, float(-own[trained].mean()))


def first_example(trainer: Trainer) -> dict[str, list[int]]:
    """Ids and labels of one of the first examples, to the first trained tokens: of the one that is
    shortest so. Where several are packed together the first of them counts."""
    dataset: Any = trainer.train_dataset
    shortest: list[dict[str, list[int]]] = []
    for row in dataset.select(range(min(ROWS, len(dataset)))):
        length = row.get("seq_lengths", [len(row["input_ids"])])[0]
        begin = next(at for at, label in enumerate(row["labels"]) if label != IGNORED)
        end = min(length, begin + TOKENS)
        if end > begin and (not shortest or end < len(shortest[0]["labels"])):
            shortest = [{name: row[name][:end] for name in ("input_ids", "labels")}]
    return shortest[0]


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """Loss, entropy and token accuracy on the held-out rows, and how many are answered right."""
    return evaluated(context, trainer) | answered(context, trainer)


def examples_of(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> list[Example]:
    """Tokenized rows that have something to learn; what was cut or dropped is said."""
    if context.recipe.stage == "cpt":
        return _windows_of(context, rows, held_out=held_out)
    options = context.recipe.training

    def encode(row: Row) -> Example:
        tokenizer, longest = context.loaded.tokenizer, options.max_length
        return tokenize(row.messages, tokenizer, longest, options.assistant_only_loss, row.tools)

    made = encoded(context, [row for row in rows if row.completion], encode)
    kept = [example for example in made if example.trained_tokens]
    if made and not kept:
        raise Refusal(
            "No row has a token left to train.",
            f"Every answer begins after the first {options.max_length} tokens.",
            "Raise training.max_length.",
        )
    if not held_out:
        cut = sum(example.truncated for example in kept)
        tell_long(context, "rows", len(made), cut, len(made) - len(kept))
    return kept


def _windows_of(context: TrainingContext, rows: Rows, *, held_out: bool) -> list[Example]:
    """Every token of every text; longer ones are split, which is said."""
    longest = context.recipe.training.max_length
    texts = [row.text for row in rows if row.text]
    split = [windows(text, context.loaded.tokenizer, longest) for text in texts]
    long = sum(len(pieces) > 1 for pieces in split)
    made = [piece for pieces in split for piece in pieces]
    if long and not held_out:
        context.host.emit(
            Note(
                text=f"{long} of {len(texts)} texts are longer than {longest} tokens and are "
                f"split, without loss, into windows of that length: {len(made)} examples in all."
            )
        )
    return made


def dataset_of(examples: list[Example]) -> Dataset:
    """Token ids and labels of every example."""
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return Dataset.from_dict(columns)
