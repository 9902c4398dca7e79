"""Whether a loss is left to Liger's fused kernels (Hsu et al. 2024), which need Triton and CUDA.

They multiply hidden states by the head's weight and know of nothing else: no adapter on the head,
and none of the scaling that some classes do behind it. What TRL 1.12 leaves out on the way to them
is not given to them either: label smoothing and added likelihoods in DPO; in KTO the weights of
good and bad answers, and beside an adapter the reference. GRPO's would go without the entropy that
a run's health is read from, and the loss check, which asks for log-probabilities, would not see it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.train.chunked import DeferredLogits
from workers.train.deferring import deferred_logits

PAIR_LOSSES = frozenset({
    "sigmoid", "hinge", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop",
})  # fmt: skip
"""Of `preference.loss`, those that Liger 0.8 computes from what TRL gives it."""


def use_liger(recipe: Recipe, model: Any, device: str) -> bool:
    """Whether the loss check is to try Liger's loss first, by `training.liger_kernel`.

    Raises:
        Refusal: it is asked for and cannot be.
    """
    wish = recipe.training.liger_kernel
    why_not = _hindrance(recipe, model, device) if wish != "off" else "off"
    if wish == "on" and why_not:
        raise Refusal(
            "Liger's kernels cannot compute this run's loss.",
            why_not,
            "Set training.liger_kernel = 'auto': the loss is then taken by chunks of tokens.",
        )
    return not why_not


def _hindrance(recipe: Recipe, model: Any, device: str) -> str:
    """Why not, in a sentence; nothing where they can."""
    if device != "cuda" or importlib.util.find_spec("liger_kernel") is None:
        return "They need an NVIDIA GPU and the package liger-kernel."
    if recipe.model.engine == "unsloth":
        return "Unsloth has kernels of its own."
    if not _has_loss(recipe):
        return f"There are none for stage {recipe.stage!r} with these options."
    if not plain_head(model):
        return "This model does more to its logits than its head, which they would leave out."
    return ""


def _has_loss(recipe: Recipe) -> bool:
    preference = recipe.preference
    if spec_of(recipe.stage).trainer == "sft":
        return True
    plain = not preference.label_smoothing and not preference.rpo_alpha
    return recipe.stage == "dpo" and plain and preference.loss in PAIR_LOSSES


def plain_head(model: Any) -> bool:
    """Whether the logits are the last hidden states times the head's weight and nothing else, as
    the class's own forward pass has it."""
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with torch.random.fork_rng(), torch.no_grad(), deferred_logits([model]):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return isinstance(logits, DeferredLogits) and logits.is_plain
