"""Supervised fine-tuning: the model learns to answer as the answers in the data do.

Continued pretraining (`cpt`) is the same on plain text, every token of which is in the loss.

The loss is the mean negative log-likelihood of the unmasked tokens, -(1/sum m) sum m log p, with
m = 1 on the assistant's tokens (and 0 on all others unless training.assistant_only_loss is off).
"""

from __future__ import annotations

from functools import wraps
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer import sft_trainer

from workers.data.mix import Rows
from workers.data.tokenize.encode import IGNORED, Example
from workers.evaluate import Measured
from workers.protocol.events import Note
from workers.protocol.stages import spec_of
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    answered,
    common_arguments,
    evaluated,
)
from workers.train.deferring import Chunked, predicting
from workers.train.encoding import Fitted, fitted, report_long
from workers.train.loss_check import (
    ROWS,
    TOKENS,
    Compared,
    own_log_probabilities,
    trainers_measure,
)


class ChunkedSFT(Chunked, SFTTrainer):
    """TRL's SFTTrainer with the model's own loss, by chunks."""

    def masks(self, inputs: Any) -> list[torch.Tensor]:
        return [predicting(inputs["labels"] != IGNORED)]


class Unwidened(NamedTuple):
    """A tensor whose copy in 32 bits is itself."""

    tensor: torch.Tensor

    def float(self) -> torch.Tensor:
        return self.tensor


_widening = sft_trainer._chunk


@wraps(_widening)
def chunk_loss(hidden: torch.Tensor, head: torch.Tensor, *others: Any) -> Any:
    """TRL's loss of a chunk, without a copy of the output layer in 32 bits.

    TRL widens both factors of the logits; automatic precision narrows them again before it
    multiplies. What comes out is the same to the bit, and for 8B parameters 3 GiB less are taken.

    Args:
        hidden: (chunk, H).
        head: (V, H).
        others: bias, labels, and what is done with the logits.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        return _widening(Unwidened(hidden), Unwidened(head), *others)
    return _widening(hidden, head, *others)


sft_trainer._chunk = chunk_loss


def build_trainer(context: TrainingContext) -> SFTTrainer:
    """Tokenizes and masks the rows; TRL's SFTTrainer trains on them."""
    options = context.recipe.training
    held_out = examples_of(context, context.held_out, held_out=True)
    examples = examples_of(context, context.training)  # by whose lengths the steps are divided
    kind = ChunkedSFT if context.loss == "chunked" else SFTTrainer
    return kind(
        model=context.loaded.model,
        args=SFTConfig(
            **common_arguments(context),
            **NO_ROUTER_LOSS,
            per_device_eval_batch_size=context.batches.micro,
            max_length=options.max_length,
            packing=options.packing,
            packing_strategy=options.packing_strategy,
            loss_type="chunked_nll" if context.loss == "trl" else "nll",
        ),
        train_dataset=dataset_of(examples),
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
    """Tokenized rows with something in the loss; what was truncated or left out is said."""
    found = fitted(context, rows, held_out=held_out)
    if spec_of(context.recipe.stage).supervision == "text":
        _report_windows(context, found)
    else:
        report_long(context, "examples" if found.split else "rows", found)
    return [example for examples in found.kept for example in examples]


def _report_windows(context: TrainingContext, found: Fitted) -> None:
    """Says how many texts are split, without loss, because they are too long."""
    long = sum(len(windows) > 1 for windows in found.rows)
    if long and not found.held_out:
        longest, made = context.recipe.training.max_length, sum(map(len, found.rows))
        context.host.emit(
            Note(
                text=f"{long} of {len(found.rows)} texts are longer than {longest} tokens and are "
                f"split, without loss, into windows of that length: {made} examples in all."
            )
        )


def dataset_of(examples: list[Example]) -> Dataset:
    """Token ids and labels of every example."""
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return Dataset.from_dict(columns)
