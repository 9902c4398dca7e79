"""Distillation: a smaller model learns the probabilities that a larger one gives to every token.

Generalized knowledge distillation (Agarwal et al. 2024): the divergence between teacher and student
is taken on the data's answers, and in a share of the steps on answers that the student gives
itself, so that it learns where it goes wrong. TRL's GKDTrainer does the arithmetic; rows are
rendered and masked as in supervised fine-tuning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl.experimental.gkd import GKDConfig, GKDTrainer

from workers.data.mapping import IGNORED
from workers.engines.transformers import load_tokenizer, load_weights
from workers.evaluate import Measured
from workers.fetch import locate_model
from workers.protocol.events import Phase
from workers.protocol.refusal import Refusal
from workers.train.course import Course, answered, common_arguments, evaluated
from workers.train.sft import dataset_of, examples_of

MEASURED = {"loss": "loss"}


def build_trainer(course: Course) -> Trainer:
    """TRL's GKDTrainer with the teacher beside the student; the teacher is never trained."""
    options, distill = course.recipe.training, course.recipe.distill
    held_out = examples_of(course, course.held_out, held_out=True)
    return GKDTrainer(
        model=course.loaded.model,
        teacher_model=_teacher(course),
        args=GKDConfig(
            **common_arguments(course),
            per_device_eval_batch_size=options.batch_size,
            max_length=options.max_length,
            lmbda=distill.on_policy,
            beta=distill.divergence,
            temperature=distill.temperature,
            max_new_tokens=course.recipe.rl.max_completion_tokens,
        ),
        data_collator=Collator(course.loaded.tokenizer),
        train_dataset=dataset_of(examples_of(course, course.training)),
        eval_dataset=dataset_of(held_out) if held_out else None,
        processing_class=course.loaded.tokenizer,
    )


def measure(course: Course, trainer: Trainer) -> Measured:
    """The divergence from the teacher on held-out rows, and how many are answered right."""
    return evaluated(trainer, MEASURED) | answered(course, trainer)


def _teacher(course: Course) -> Any:
    """The teacher in the computing precision.

    Raises:
        Refusal: its tokens are others than the student's, so that probabilities cannot be compared.
    """
    name = course.recipe.distill.teacher
    home = Path(course.host.job.home)
    course.host.emit(Phase(name="Loading the teacher"))
    located = locate_model(name, home, lambda text: course.host.emit(Phase(name=text)))
    mine: Any = course.loaded.tokenizer
    theirs: Any = load_tokenizer(located)
    if mine.get_vocab() != theirs.get_vocab():
        raise Refusal(
            f"The teacher {name} does not have the same tokens as the model that learns.",
            "Distillation compares what both give to every token, which needs one vocabulary.",
            "Take a teacher of the same family, or fine-tune on the teacher's written answers.",
        )
    teacher: Any = load_weights(located, course.loaded.dtype)
    mine_wide = course.loaded.model.config.vocab_size
    if teacher.config.vocab_size != mine_wide:
        # The same tokens, padded to another width: what stands beyond them is never said.
        teacher.resize_token_embeddings(mine_wide)
    return teacher.to(course.loaded.device).requires_grad_(False).eval()


class Collator:
    """Pads rows for GKD on the left, and their prompts, which the student answers itself.

    A row's prompt ends before its first trained token. Gives `input_ids`, `attention_mask`
    and `labels`, all (rows, longest), and `prompts` and `prompt_attention_mask`, both (rows,
    longest prompt).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._padding: int = tokenizer.pad_token_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        ids = [row["input_ids"] for row in rows]
        prompts = [row["input_ids"][: _first_trained(row["labels"])] for row in rows]
        return {
            "input_ids": _padded(ids, self._padding),
            "attention_mask": _padded([[1] * len(row) for row in ids], 0),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "prompts": _padded(prompts, self._padding),
            "prompt_attention_mask": _padded([[1] * len(prompt) for prompt in prompts], 0),
        }


def _first_trained(labels: list[int]) -> int:
    return next(at for at, label in enumerate(labels) if label != IGNORED)


def _padded(rows: list[list[int]], filling: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[filling] * (width - len(row)) + row for row in rows])
