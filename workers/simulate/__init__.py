"""The memory of a training step, by running it on fake tensors: the trainers' own code on models
with real shapes and no contents, every storage counted while it lives.

No GPU and no weights are needed. What CUDA takes for itself, and what its allocator loses between
blocks, is not in it. Fake tensors stand on the CPU, for a PyTorch built without CUDA cannot take
gradients on another device: attention is the fused kernel that keeps what flash attention keeps,
the output and a sum for each row, and automatic precision has the processor's list of operations.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from workers.protocol.recipe import Recipe


class Simulated(msgspec.Struct, frozen=True):
    """What one step takes at its peak, in bytes."""

    peak: int
    parts: dict[str, int]
    """Under the names of `workers.estimate`."""
    seconds: float


Phase = tuple[int, dict[str, int]]
"""A peak and its parts, in bytes."""


def simulate(
    config: Mapping[str, Any],
    recipe: Recipe,
    *,
    micro: int,
    longest: int,
    checkpointing: bool,
    teacher: Mapping[str, Any] | None = None,
    reward: Mapping[str, Any] | None = None,
) -> Simulated:
    """The peak of a step once the optimizer has its states.

    Args:
        config: fields of the model's config.json.
        micro: examples at once.
        longest: tokens of the longest row, prompt and completion.
        teacher: the same fields of the model that stage `distill` learns from.
        reward: the same of the reward model that scores completions in stage `rlhf`.

    Raises:
        Refusal: Transformers cannot make such a model.
    """
    from workers.simulate.fake_run import take_step

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        phases = take_step(
            config, recipe, Path(folder), micro, longest, checkpointing=checkpointing,
            teacher=teacher, reward=reward,
        )  # fmt: skip
    peak, parts = max(phases, key=lambda phase: phase[0])
    return Simulated(peak, parts, time.perf_counter() - began)
