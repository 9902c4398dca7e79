"""How the examples of an optimizer step are divided: so many at once, so many times.

A user asks for the effective batch; the micro-batch follows from memory and the accumulation from
both. What the recipe fixes stays fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from workers.protocol.stages import defaults_for, spec_of

if TYPE_CHECKING:
    from workers.protocol.recipe import Recipe


USUAL = 16
"""Examples to each step of a stage that declares no default for them."""


class Batches(NamedTuple):
    """One optimizer step, in micro-batches."""

    micro: int
    """Examples at once on the device; completions where they are sampled, pairs of preferences."""
    accumulation: int
    """Micro-batches that are added up before the step."""

    @property
    def effective(self) -> int:
        return self.micro * self.accumulation


def effective_batch(recipe: Recipe, parameters: int | None = None) -> int:
    """Examples to each optimizer step.

    Args:
        parameters: of the base model, by which a stage's default is chosen; None where that is not
            known.
    """
    options = recipe.training
    if options.effective_batch_size:
        return options.effective_batch_size
    if options.batch_size:
        return options.batch_size * (options.gradient_accumulation or 1)
    suited = defaults_for(recipe.stage, recipe.model.method, parameters, recipe.rl.algorithm)
    return suited.get("training.effective_batch_size", USUAL)


def divided(recipe: Recipe, largest: int, parameters: int | None = None) -> Batches:
    """The effective batch in micro-batches as large as they may be.

    Args:
        largest: micro-batch that fits; a stage's least one is taken where it is larger.
    """
    effective, options = effective_batch(recipe, parameters), recipe.training
    if options.batch_size:
        return Batches(options.batch_size, effective // options.batch_size)
    if options.gradient_accumulation:
        return Batches(effective // options.gradient_accumulation, options.gradient_accumulation)
    if is_one_row(recipe):
        largest = 1
    least = spec_of(recipe.stage).smallest_batch
    divisors = [n for n in range(least, effective + 1) if effective % n == 0]
    micro = max((n for n in divisors if n <= largest), default=divisors[0])
    return Batches(micro, effective // micro)


WITHOUT_MASK = ("flash_attention", "flex_attention", "kernels-community/")
"""How attention begins that keeps packed rows apart by where they end."""


def is_one_row(recipe: Recipe) -> bool:
    """Whether the packed rows of a micro-batch pass through the model as one, which other attention
    than WITHOUT_MASK masks: that takes the square of all their tokens, in memory and in time."""
    options = recipe.training
    packed = options.packing and "training.packing" in spec_of(recipe.stage).options
    apart = options.attention.startswith(WITHOUT_MASK) or options.packing_strategy == "wrapped"
    return packed and not apart


def is_divided(recipe: Recipe) -> bool:
    """Whether the recipe itself says how its steps are divided."""
    return bool(recipe.training.batch_size or recipe.training.gradient_accumulation)


def smaller_micro(batches: Batches, least: int = 1) -> int:
    """The next smaller micro-batch of the same step; 0 where there is none of at least `least`."""
    below = range(batches.micro // 2, least - 1, -1)
    return next((n for n in below if n and batches.effective % n == 0), 0)


def checkpointing(recipe: Recipe, device: str) -> bool:
    """Whether activations are computed anew instead of kept; `auto` does so on a GPU."""
    asked = recipe.training.gradient_checkpointing
    return device.startswith("cuda") if asked == "auto" else asked


def with_effective_batch(recipe: Recipe, effective: int) -> Recipe:
    """The recipe with the batch stated that it comes to."""
    training = msgspec.structs.replace(recipe.training, effective_batch_size=effective)
    return msgspec.structs.replace(recipe, training=training)


def with_checkpointing(recipe: Recipe, device: str) -> Recipe:
    """The recipe with true or false in place of `auto`."""
    settled = checkpointing(recipe, device)
    training = msgspec.structs.replace(recipe.training, gradient_checkpointing=settled)
    return msgspec.structs.replace(recipe, training=training)
