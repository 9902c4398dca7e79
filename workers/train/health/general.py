"""Rules for every stage: broken numbers, leaping gradients, a loss that turns up."""

from __future__ import annotations

import statistics
from itertools import pairwise

from workers.protocol.events import Finding
from workers.train.health.history import FIRST_TRENDS, WINDOW, History, Rule, Setting

SPIKE = 10.0
"""Times the median of the gradient norm so far."""
SPIKES = 3
"""Spikes within ten steps; single ones are clipped and do no harm."""
LOSS_RISE = 1.5
"""Times the lowest smoothed loss: fine-tuning has diverged."""
HELD_OUT_RISE = 1.05
"""Times the best held-out loss: the model learns the rows by heart."""


def broken_numbers(history: History, _: Setting) -> Finding | None:
    found = [name for name in ("loss", "gradient_norm") if history.broken.get(name) == history.step]
    if not found:
        return None
    return Finding(
        kind="not_a_number", level="alarm", step=history.step, metric=found[0],
        meaning="The loss or the gradient is no longer a number: the weights are being destroyed.",
        remedy="Go back to the last checkpoint with a learning rate ten times smaller; in fp16, "
        "switch training.precision to bf16.",
    )  # fmt: skip


def gradient_spikes(history: History, _: Setting) -> Finding | None:
    norms = history.values("gradient_norm")
    if len(norms) < FIRST_TRENDS:
        return None
    usual = statistics.median(norms)
    spikes = sum(norm > SPIKE * max(usual, 1e-8) for norm in norms[-10:])
    if spikes < SPIKES:
        return None
    return Finding(
        kind="gradient_spikes", level="warning", step=history.step, metric="gradient_norm",
        meaning=f"{spikes} of the last ten steps had a gradient over {SPIKE:.0f} times the usual "
        f"({usual:.2g}): learning jumps instead of settling.",
        remedy="Halve the learning rate, lengthen the warm-up, or look at the rows of those steps.",
    )  # fmt: skip


def diverging_loss(history: History, setting: Setting) -> Finding | None:
    losses = history.values("loss")
    if setting.stage.policy or len(losses) < FIRST_TRENDS:
        return None
    smooth = [statistics.fmean(losses[at : at + WINDOW]) for at in range(len(losses) - WINDOW + 1)]
    if smooth[-1] < LOSS_RISE * min(smooth) or smooth[-1] < smooth[0]:
        return None
    return Finding(
        kind="diverging_loss", level="alarm", step=history.step, metric="loss",
        meaning=f"The loss has risen from {min(smooth):.3g} to {smooth[-1]:.3g}, above where it "
        "began: the model is unlearning.",
        remedy="Stop, and start again with a third of the learning rate and a longer warm-up.",
    )  # fmt: skip


def overfitting(history: History, _: Setting) -> Finding | None:
    held_out = history.values("eval_loss")
    if len(held_out) < 3 or held_out[-1] < HELD_OUT_RISE * min(held_out):
        return None
    if not all(later > earlier for earlier, later in pairwise(held_out[-3:])):
        return None
    return Finding(
        kind="overfitting", level="warning", step=history.step, metric="eval_loss",
        meaning=f"On held-out rows the loss rises again ({min(held_out):.3g} to "
        f"{held_out[-1]:.3g}) while training goes on: the rows are being learnt by heart.",
        remedy="Stop here or resume an earlier checkpoint; fewer epochs, more data, or a smaller "
        "LoRA rank.",
    )  # fmt: skip


RULES: tuple[Rule, ...] = (broken_numbers, diverging_loss, gradient_spikes, overfitting)
