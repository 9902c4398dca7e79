"""Supervised fine-tuning: the model learns to answer as the answers in the data do.

Continued pretraining (`cpt`) is the same on plain text, every token of which is learnt.

The loss is the mean negative log-likelihood of the trained tokens, -(1/sum m) sum m log p, with
m = 1 on the assistant's tokens (and 0 on all others unless training.assistant_only is off).
"""

from __future__ import annotations

from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from workers.data.mapping import Example, read, tokenize
from workers.data.mix import Rows
from workers.evaluate import Measured
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.train.course import Course, answered, common_arguments, evaluated

MEASURED = {"loss": "loss", "entropy": "entropy", "mean_token_accuracy": "token_accuracy"}
"""TRL's names of what is measured on held-out rows, to those on the wire."""


def build_trainer(course: Course) -> SFTTrainer:
    """Tokenizes and masks the rows; TRL's SFTTrainer learns them."""
    options = course.recipe.training
    held_out = examples_of(course, course.held_out, held_out=True)
    return SFTTrainer(
        model=course.loaded.model,
        args=SFTConfig(
            **common_arguments(course),
            per_device_eval_batch_size=options.batch_size,
            max_length=options.max_length,
            packing=options.packing,
        ),
        train_dataset=dataset_of(examples_of(course, course.training)),
        eval_dataset=dataset_of(held_out) if held_out else None,
        processing_class=course.loaded.tokenizer,
    )


def measure(course: Course, trainer: Trainer) -> Measured:
    """Loss, entropy and token accuracy on the held-out rows, and how many are answered right."""
    return evaluated(trainer, MEASURED) | answered(course, trainer)


def examples_of(course: Course, rows: Rows, *, held_out: bool = False) -> list[Example]:
    """Tokenized rows that have something to learn; what was cut or dropped is said."""
    options = course.recipe.training
    tokenizer = course.loaded.tokenizer
    if course.recipe.stage == "cpt":
        made = [read(row.text, tokenizer, options.max_length) for row in rows if row.text]
    else:
        made = [
            tokenize(row.messages, tokenizer, options.max_length, options.assistant_only, row.tools)
            for row in rows
            if row.completion
        ]
    kept = [example for example in made if example.trained_tokens]
    if made and not kept:
        raise Refusal(
            "No row has a token left to train.",
            f"Every answer begins after the first {options.max_length} tokens.",
            "Raise training.max_length.",
        )
    cut = sum(example.truncated for example in kept)
    dropped = len(made) - len(kept)
    if (cut or dropped) and not held_out:
        course.host.emit(
            Note(
                text=f"Of {len(made)} rows, {cut} are cut at {options.max_length} tokens and "
                f"{dropped} are left out because their answer begins after that.",
                level="warning",
            )
        )
    return kept


def dataset_of(examples: list[Example]) -> Dataset:
    """Token ids and labels of every example."""
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return Dataset.from_dict(columns)
