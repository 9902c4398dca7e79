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

from workers.data.tokenize.encode import IGNORED
from workers.engines.transformers import load_tokenizer, load_weights
from workers.evaluate import Measured
from workers.fetch import locate_model
from workers.protocol.events import Phase
from workers.protocol.refusal import Refusal
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    answered,
    common_arguments,
    evaluated,
)
from workers.train.loss_check import Compared, own_logits, trainers_measure
from workers.train.sft import dataset_of, examples_of, first_example


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's GKDTrainer with the teacher beside the student; the teacher is never trained."""
    options, distill = context.recipe.training, context.recipe.distill
    held_out = examples_of(context, context.held_out, held_out=True)
    return OwnCountGKD(
        model=context.loaded.model,
        teacher_model=_teacher(context),
        args=GKDConfig(
            **common_arguments(context),
            **NO_ROUTER_LOSS,
            per_device_eval_batch_size=context.batches.micro,
            max_length=options.max_length,
            lmbda=distill.lmbda,
            beta=distill.beta,
            temperature=distill.temperature,
            max_new_tokens=context.recipe.rl.max_completion_tokens,
        ),
        data_collator=Collator(context.loaded.tokenizer),
        train_dataset=dataset_of(examples_of(context, context.training)),
        eval_dataset=dataset_of(held_out) if held_out else None,
        processing_class=context.loaded.tokenizer,
    )


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The divergence on the first row: Jensen-Shannon's, generalized by beta (Agarwal et al. 2024,
    equation 1), a mean over the trained tokens. TRL takes it at temperature 1."""
    asked: Any = trainer
    row = first_example(trainer)
    trainers = trainers_measure(trainer, row, "loss")
    student, teacher = (
        torch.log_softmax(own_logits(model, row["input_ids"])[:-1], dim=-1)
        for model in (context.loaded.model, asked.teacher_model)
    )
    beta = context.recipe.distill.beta
    mixed = (beta * teacher.exp() + (1 - beta) * student.exp()).log()
    if beta in (0, 1):  # the limits: forward and reverse KL
        one, other = (teacher, student) if beta == 0 else (student, teacher)
        apart = (one.exp() * (one - other)).sum(-1)
    else:
        apart = beta * (teacher.exp() * (teacher - mixed)).sum(-1)
        apart += (1 - beta) * (student.exp() * (student - mixed)).sum(-1)
    trained = torch.tensor(row["labels"][1:]) != IGNORED
    return Compared("divergence", trainers, float(apart.cpu()[trained].mean()))


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """The divergence from the teacher on held-out rows, and how many are answered right."""
    return evaluated(context, trainer) | answered(context, trainer)


def _teacher(context: TrainingContext) -> Any:
    """The teacher in the computing precision.

    Raises:
        Refusal: its tokens are others than the student's, so that probabilities cannot be compared.
    """
    name = context.recipe.distill.teacher
    home = Path(context.host.job.home)
    context.host.emit(Phase(name="Loading the teacher"))
    located = locate_model(name, home, lambda text: context.host.emit(Phase(name=text)))
    mine: Any = context.loaded.tokenizer
    theirs: Any = load_tokenizer(located)
    if mine.get_vocab() != theirs.get_vocab():
        raise Refusal(
            f"The teacher {name} does not have the same tokens as the model that learns.",
            "Distillation compares what both give to every token, which needs one vocabulary.",
            "Take a teacher of the same family, or fine-tune on the teacher's written answers.",
        )
    teacher: Any = load_weights(located, context.loaded.dtype)
    mine_wide = context.loaded.model.config.get_text_config().vocab_size
    if teacher.config.get_text_config().vocab_size != mine_wide:
        # The same tokens, padded to another width: what stands beyond them is never said.
        teacher.resize_token_embeddings(mine_wide)
    return teacher.to(context.loaded.device).requires_grad_(False).eval()


class OwnCountGKD(GKDTrainer):
    """TRL's GKD that divides by the tokens that it sums over.

    TRL divides every batch's sum by the number of the data's tokens, also where the student's own
    answers have taken the data's place.
    """

    _own_tokens = 0
    """In the student's own answers to the batch at hand; 0 where the data's are in the loss."""

    def generate_on_policy_outputs(self, *args: Any) -> Any:  # type: ignore[override]
        made = GKDTrainer.generate_on_policy_outputs(*args)
        self._own_tokens = int((made[2] != IGNORED).sum())
        return made

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False,
                     num_items_in_batch: Any = None) -> Any:  # fmt: skip
        """The mean divergence a token; of batches that are added up each counts alike."""
        if self._own_tokens and num_items_in_batch is not None:
            num_items_in_batch = self._own_tokens * self.current_gradient_accumulation_steps
            self._own_tokens = 0
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


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
