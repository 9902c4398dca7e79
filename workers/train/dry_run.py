"""Before the first step: does the longest micro-batch fit, and how long will the run take?

Long rows come late, so that a run which is too large for the memory fails after hours. Here they
come first: one forward and backward pass of the longest, with room held for what the optimizer will
keep, then one of usual length, by which the time is told. No step is taken, and nothing that the
run goes by is changed: RNG state, metrics, gradients.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute
import torch
from transformers import Trainer

from workers.device import total_memory
from workers.memory import DryRunFailed, give_back
from workers.protocol import wire
from workers.protocol.events import Evaluated, Note, Phase, Progress, Retried, Started
from workers.protocol.faults import kind_of
from workers.protocol.stages import spec_of
from workers.train.context import TrainingContext

TRIED_FROM = 1_000_000_000
"""Weights from which on it is done on the CPU too, where a pass of a smaller model is not worth the
time: RAM is seldom short and swap gives way before it fails."""
TRIED = ("sft", "preference", "reward_model")
"""The modules of stages whose rows are token ids of both prompt and completion."""
COUNTED = ("_metrics", "_stored_metrics", "_total_train_tokens")
"""Where TRL's trainers add up what they log."""
MOMENTS = {"8bit": 2, "paged": 0}
"""Bytes that an optimizer keeps of each weight on the device, by a word in its name; others 8."""


class Passed(NamedTuple):
    """One forward and backward pass."""

    tokens: int
    """Of the longest row."""
    seconds: float


def dry_run(context: TrainingContext, trainer: Trainer) -> None:
    """Tries the longest micro-batch and one of usual length, and says what is to be expected.

    Raises:
        DryRunFailed: the longest does not fit into the memory.
    """
    if not (is_worth_it(context) and _is_possible(context, trainer)):
        return
    context.host.emit(Phase(name="Trying the longest batch"))
    try:
        with _untouched(trainer):
            passed = [_pass(trainer, batch) for batch in _batches(context, trainer)]
    except Exception as fault:
        if kind_of(fault) != "out_of_memory":
            raise
        raise DryRunFailed(str(fault)) from fault
    _tell(context, trainer, passed)


def is_worth_it(context: TrainingContext) -> bool:
    large = context.loaded.model.num_parameters() >= TRIED_FROM
    return large or context.loaded.device != "cpu"


def measured_already(context: TrainingContext) -> bool:
    """Whether the start was measured before a dry run that failed, after which this one begins."""
    said = [line.event for line in wire.read_events(context.host.folder)]
    starts = [at for at, event in enumerate(said) if isinstance(event, Started)]
    if len(starts) < 2:
        return False
    before, ended = said[starts[-2] : starts[-1]], said[starts[-1] - 1]
    measured = any(isinstance(event, Evaluated) for event in before)
    return isinstance(ended, Retried) and ended.dry and measured


def _is_possible(context: TrainingContext, trainer: Trainer) -> bool:
    known = spec_of(context.recipe.stage, context.recipe.rl.algorithm).trainer in TRIED
    return known or hasattr(trainer, "longest_inputs")


def _batches(context: TrainingContext, trainer: Trainer) -> Iterator[dict[str, Any]]:
    """The longest micro-batch and one of usual length; of sampled completions the longest alone."""
    this: Any = trainer
    micro = context.batches.micro
    if hasattr(this, "longest_inputs"):
        yield this.longest_inputs(micro)
        return
    dataset: Any = this.train_dataset
    order = np.argsort(_lengths(dataset), kind="stable")
    middle = max((len(order) - micro) // 2, 0)
    for places in (order[-micro:], order[middle : middle + micro]):
        yield this.data_collator([dataset[int(at)] for at in places])


def _lengths(dataset: Any) -> np.ndarray:
    """Token ids of every row, those of all its columns together."""
    rows = dataset.with_format("arrow")[:]
    columns = [name for name in rows.column_names if name.endswith("_ids")]
    length: Any = vars(pyarrow.compute)["list_value_length"]  # made when it is imported
    return np.sum([length(rows[name]).to_numpy() for name in columns], axis=0)


def _pass(trainer: Trainer, batch: dict[str, Any]) -> Passed:
    this: Any = trainer
    model = this.model_wrapped
    model.train()
    inputs = Trainer._prepare_inputs(this, batch)
    _wait_for_device(this)
    began = time.perf_counter()
    with this.compute_loss_context_manager():
        loss = this.compute_loss(model, inputs)
    this.accelerator.backward(loss)
    _wait_for_device(this)
    seconds = time.perf_counter() - began
    model.zero_grad(set_to_none=True)
    ids = [value for name, value in inputs.items() if name.endswith("_ids")]
    return Passed(sum(_width(value) for value in ids), seconds)


def _width(ids: Any) -> int:
    return ids.shape[-1] if isinstance(ids, torch.Tensor) else 0


def _wait_for_device(trainer: Trainer) -> None:
    if trainer.args.device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def _untouched(trainer: Trainer) -> Iterator[None]:
    """Within, the trainer counts and draws as it likes; it goes on from where it was."""
    values, model = vars(trainer), trainer.model_wrapped
    assert model is not None
    kept = {name: copy.deepcopy(values[name]) for name in COUNTED if name in values}
    held = _room_for_optimizer(trainer)
    values["current_gradient_accumulation_steps"] = trainer.args.gradient_accumulation_steps
    try:
        with torch.random.fork_rng():
            yield
    finally:
        values.update(kept)
        model.zero_grad(set_to_none=True)
        del held
        give_back()


def _room_for_optimizer(trainer: Trainer) -> torch.Tensor | None:
    """As much memory as the optimizer will take with the first step; none where it has it."""
    optimizer: Any = trainer.optimizer
    model: Any = trainer.model_wrapped
    if trainer.args.device.type != "cuda" or (optimizer is not None and optimizer.state):
        return None
    name = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    each = min([kept for word, kept in MOMENTS.items() if word in name], default=8)
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return torch.empty(weights * each, dtype=torch.uint8, device=trainer.args.device)


def _tell(context: TrainingContext, trainer: Trainer, passed: list[Passed]) -> None:
    micro, accumulation = context.batches
    longest, usual = passed[0], passed[-1]
    words = [f"The longest micro-batch, {micro} × {longest.tokens:,} tokens, fits."]
    if context.loaded.device == "cuda":
        peak, card = torch.cuda.max_memory_reserved(), total_memory("cuda")
        words.append(f"The card held up to {peak / 2**30:.1f} of its {card / 2**30:.1f} GB.")
    if len(passed) > 1:
        words.append(f"About {micro / usual.seconds * 3600:,.0f} rows are learnt from in an hour.")
        steps = trainer.state.max_steps - trainer.state.global_step
        left = usual.seconds * accumulation * steps
        done, total = trainer.state.global_step, trainer.state.max_steps
        context.host.emit(Progress(done=done, total=total, seconds_left=left))
    context.host.emit(Note(text=" ".join(words)))
