"""Distillation: a smaller model learns the probabilities that a larger one gives to every token.

Generalized knowledge distillation (Agarwal et al. 2024): the divergence between teacher and student
is taken on the data's answers, and in a share of the steps on answers that the student gives
itself, so that it learns where it goes wrong. TRL's DistillationTrainer samples those answers, and
knows no others; the data's, and the divergence of both models' own logits, are added here. Rows are
rendered and masked as in supervised fine-tuning.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer
from trl import DistillationConfig, DistillationTrainer

from workers.data.tokenize.encode import IGNORED
from workers.engines.merged import merged_base
from workers.engines.transformers import load_tokenizer, load_weights
from workers.evaluate import OWN_DISTRIBUTION, Measured, turn_ends
from workers.fetch import locate_model
from workers.protocol.events import Phase
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.train.chunked import over_chunks
from workers.train.context import (
    TrainingContext,
    answered,
    common_arguments,
    evaluated,
)
from workers.train.deferring import deferred_logits
from workers.train.grpo import ended
from workers.train.loss_check import Compared, own_logits, trainers_measure
from workers.train.sft import dataset_of, examples_of, first_example

Example = dict[str, list[int]]
"""A row's `input_ids` and `labels`."""


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's DistillationTrainer with the teacher beside the student; the teacher is never trained.

    Raises:
        Refusal: there are fewer examples than a step takes, or the teacher has other tokens.
    """
    distill = context.recipe.distill
    examples = examples_of(context, context.training)
    held_out = examples_of(context, context.held_out, held_out=True)
    ends = sorted(turn_ends(context.loaded.model, context.loaded.tokenizer))
    arguments = common_arguments(context)
    _require_a_batch(len(examples), arguments)
    return Distiller(
        context,
        model=context.loaded.model,
        teacher_model=_teacher(context),
        args=DistillationConfig(
            **arguments,
            per_device_eval_batch_size=arguments["per_device_train_batch_size"],
            beta=distill.beta,
            temperature=distill.temperature,
            max_completion_length=context.recipe.rl.max_completion_tokens,
            generation_kwargs={"eos_token_id": ends, "use_cache": True, **OWN_DISTRIBUTION},
        ),
        train_dataset=dataset_of(examples),
        eval_dataset=dataset_of(held_out) if held_out else None,
        processing_class=context.loaded.tokenizer,
    )


def _require_a_batch(examples: int, arguments: dict[str, Any]) -> None:
    batch = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    if examples < batch:
        raise Refusal(
            f"There are {examples} examples for batches of {batch}.",
            "Distillation takes a whole batch of different examples in each step.",
            "Lower the batch size, or bring more examples.",
        )


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The divergence on the first row: Jensen-Shannon's, generalized by beta (Agarwal et al. 2024,
    equation 1), a mean over the trained tokens, at temperature 1."""
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
    """The teacher in the computing precision, or in four bits.

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
    device, four_bit = context.loaded.device, in_four_bits(context.recipe)
    if four_bit:
        located = merged_base(located, home, lambda text: context.host.emit(Phase(name=text)))
    teacher: Any = load_weights(located, context.loaded.dtype, four_bit=four_bit, device=device)
    mine_wide = context.loaded.model.config.get_text_config().vocab_size
    if teacher.config.get_text_config().vocab_size != mine_wide:
        # The same tokens, padded to another width: what stands beyond them is never said.
        teacher.resize_token_embeddings(mine_wide)
    return teacher.to(device).requires_grad_(False).eval()


def in_four_bits(recipe: Recipe) -> bool:
    """Whether the teacher is held in four bits: as asked, and beside a student that is."""
    return recipe.distill.teacher_four_bit or recipe.model.method == "qlora"


class Distiller(DistillationTrainer):
    """TRL's DistillationTrainer that learns on the data's answers too, and from their masks.

    In every optimizer step either all answers are the data's or all are the student's own.
    """

    def __init__(self, context: TrainingContext, **options: Any) -> None:
        super().__init__(**options)
        self._own_share = context.recipe.distill.lmbda
        self._by_chunks = context.loss != "plain"
        tokenizer: Any = context.loaded.tokenizer
        self._padding: int = tokenizer.pad_token_id
        self._named_end: int = tokenizer.eos_token_id
        self._ends = turn_ends(context.loaded.model, tokenizer)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The answers of a step, and how many of their tokens are learnt from."""
        training = self.model is not None and self.model.training
        if training and random.random() < self._own_share:
            prompts: Any = [{"prompt": prompt_and_answer(row)[0]} for row in inputs]
            return super()._generate_and_score_completions(prompts)
        batch = batch_of(inputs, self._padding)
        made = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        if training:
            self._count(int(made["prompt_mask"].sum() + made["completion_mask"].sum()))
        return made | {"num_items_in_batch": made["tool_mask"].sum()}

    def _count(self, tokens: int) -> None:
        self.state.num_input_tokens_seen += tokens
        self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Prompts are token ids already."""
        return prompts, None, {}

    def _generate_single_turn(self, *args: Any, **named: Any) -> list[list[int]]:
        """Completions up to the first token that ends them."""
        with self.accelerator.autocast():
            made = super()._generate_single_turn(*args, **named)
        return [ended(ids, self._ends, self._named_end) for ids in made]

    def longest_inputs(self, micro: int) -> dict[str, torch.Tensor]:
        """What the loss is computed from, of the longest examples; where the student answers, of
        the longest prompts with as much as it may say."""
        dataset: Any = self.train_dataset
        said = [self._named_end] * (self.max_completion_length or 0)
        order = sorted(range(len(dataset)), key=lambda at: len(dataset[at]["input_ids"]))
        longest: list[Example] = [dataset[at] for at in order[-micro:]]
        if self._own_share:
            prompts = sorted((prompt_and_answer(row)[0] for row in dataset), key=len)[-micro:]
            longest += [
                {"input_ids": prompt + said, "labels": [IGNORED] * len(prompt) + said}
                for prompt in prompts
            ]
        longest.sort(key=lambda row: len(row["input_ids"]))
        batch = batch_of(longest[-micro:], self._padding)
        return batch | {"num_items_in_batch": batch["tool_mask"].sum()}

    def _compute_loss(
        self, unwrapped_student: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The divergence as a mean over the tokens of the whole step, the sum of the student's
        entropies, and the number of tokens in this part of it."""
        longest = int(inputs["prompt_mask"].sum(1).max())
        width = int(inputs["completion_mask"].sum(1).max())
        given: dict[str, Any] = {
            name: torch.cat([inputs[prompt][:, -longest:], inputs[answer][:, :width]], dim=1)
            for name, prompt, answer in (
                ("input_ids", "prompt_ids", "completion_ids"),
                ("attention_mask", "prompt_mask", "completion_mask"),
            )
        }
        learnt = inputs["completion_mask"] * inputs.get("tool_mask", 1)  # (B, T)
        picked = learnt[:, :width].reshape(-1).nonzero()[:, 0]
        reader: Any = self.teacher_model
        models = (unwrapped_student, reader)
        autocast = self.accelerator.autocast()  # there is none around a measurement
        with autocast, deferred_logits(models if self._by_chunks else []):
            student = unwrapped_student(**given, use_cache=False).logits[:, -width - 1 : -1]
            with torch.no_grad():
                teacher = reader(**given, use_cache=False).logits[:, -width - 1 : -1]
            apart, entropies = over_chunks(
                partial(divergence, beta=self.beta), [student, teacher], picked
            )
        among = max(len(picked), 1) if num_items_in_batch is None else num_items_in_batch
        count = torch.tensor(len(picked), device=apart.device)
        return apart.sum() / among, entropies.detach().sum(), count


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Jensen-Shannon's divergence of two models, generalized by beta (Agarwal et al. 2024, equation
    1), whose limits are forward KL at 0 and reverse KL at 1, and the student's entropy; each (n,),
    in nats.

    Args:
        student, teacher: logits, (n, vocabulary).
    """
    one, other = student.log_softmax(-1), teacher.log_softmax(-1)
    with torch.no_grad():
        entropy = -(one.exp() * one).sum(-1)
    if beta == 0:
        return _kl(other, one), entropy
    if beta == 1:
        return _kl(one, other), entropy
    mixed = torch.logaddexp(one + math.log1p(-beta), other + math.log(beta))
    return beta * _kl(other, mixed) + (1 - beta) * _kl(one, mixed), entropy


def _kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Of log-probabilities, (n, vocabulary) to (n,)."""
    return (one.exp() * (one - other)).sum(-1)


def prompt_and_answer(row: Example) -> tuple[list[int], list[int]]:
    """A row's ids before and from its first trained token; a prompt has one token at least."""
    first = next(at for at, label in enumerate(row["labels"]) if label != IGNORED)
    begin = max(first, 1)
    return row["input_ids"][:begin], row["input_ids"][begin:]


def batch_of(rows: list[Example], padding: int) -> dict[str, torch.Tensor]:
    """Rows as TRL has them: `prompt_ids` and `prompt_mask`, (rows, longest prompt), padded on the
    left; `completion_ids`, `completion_mask` and `tool_mask`, (rows, longest answer), padded on the
    right. The last is 1 at the tokens that are trained."""
    prompts, answers = zip(*map(prompt_and_answer, rows), strict=True)
    trained = [
        [int(label != IGNORED) for label in row["labels"][len(prompt) :]]
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    return {
        "prompt_ids": _padded(prompts, padding, "left"),
        "prompt_mask": _padded([[1] * len(one) for one in prompts], 0, "left"),
        "completion_ids": _padded(answers, padding, "right"),
        "completion_mask": _padded([[1] * len(one) for one in answers], 0, "right"),
        "tool_mask": _padded(trained, 0, "right"),
    }


def _padded(rows: Sequence[list[int]], filling: int, side: str) -> torch.Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=filling, padding_side=side)
