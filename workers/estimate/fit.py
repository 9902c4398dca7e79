"""Solves the estimate for what a run is asked to fit with: micro-batch, length, or rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from workers.estimate.geometry import Geometry
from workers.estimate.step import estimate
from workers.protocol.batches import effective_batch, is_one_row
from workers.protocol.recipe import Recipe

LONGEST = 1_048_576
"""Tokens that a recipe may ask for at most."""
HIGHEST_RANK = 1024


def largest_micro(
    recipe: Recipe,
    geometry: Geometry,
    budget: int,
    longest: int,
    *,
    checkpointing: bool = True,
    **beside: Any,
) -> int:
    """Examples at once that surely fit into so many bytes; 0 where not even one does.

    Args:
        beside: `teacher` and `reward`, as `estimate` takes them.
    """

    def fits(micro: int) -> bool:
        return budget >= _most(
            recipe, geometry, micro=micro, longest=longest, checkpointing=checkpointing, **beside
        )

    most = 1 if is_one_row(recipe) else effective_batch(recipe, geometry.parameters)
    return largest(fits, most)


def longest_sequence(
    recipe: Recipe,
    geometry: Geometry,
    budget: int,
    micro: int = 1,
    *,
    checkpointing: bool = True,
    **beside: Any,
) -> int:
    """Tokens of the longest row that surely fits; 0 where none does."""

    def fits(longest: int) -> bool:
        return budget >= _most(
            recipe, geometry, micro=micro, longest=longest, checkpointing=checkpointing, **beside
        )

    return largest(fits, LONGEST)


def largest_rank(
    recipe: Recipe,
    geometry: Geometry,
    budget: int,
    longest: int,
    micro: int = 1,
    *,
    checkpointing: bool = True,
    **beside: Any,
) -> int:
    """The adapter's largest rank that surely fits; 0 where none does, or there is no adapter."""
    if recipe.model.method == "full":
        return 0

    def fits(rank: int) -> bool:
        lora = msgspec.structs.replace(recipe.lora, rank=rank)
        ranked = msgspec.structs.replace(recipe, lora=lora)
        return budget >= _most(
            ranked, geometry, micro=micro, longest=longest, checkpointing=checkpointing, **beside
        )

    return largest(fits, HIGHEST_RANK)


def _most(recipe: Recipe, geometry: Geometry, **how: Any) -> int:
    return estimate(recipe, geometry, **how).high


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that fits, given that all below it do; 0 for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
