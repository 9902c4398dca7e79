"""What share of its rows a run will see, from its options and the number of its rows."""

from __future__ import annotations

import math

import msgspec

from workers.protocol.batches import effective_batch
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of

FEW = 0.2
"""Share of its rows below which a run on a real model is warned of."""


class Coverage(msgspec.Struct, frozen=True):
    """How far a run goes through its rows."""

    rows: int
    """Examples to learn from; questions, where answers are sampled."""
    steps: int
    seen: int
    """Different rows at the most: a run longer than an epoch sees them all."""
    epochs: float

    @property
    def share(self) -> float:
        return self.seen / self.rows if self.rows else 0.0

    @property
    def few(self) -> bool:
        """Whether most rows are never seen."""
        return bool(self.rows) and self.share < FEW

    @property
    def length(self) -> str:
        """How long it trains: 3 epochs: 1,875 steps."""
        epochs = _number(self.epochs)
        return (
            f"{epochs} {'epoch' if epochs == '1' else 'epochs'}: {self.steps:,} "
            f"{'step' if self.steps == 1 else 'steps'}"
        )

    def told(self, noun: str = "rows") -> str:
        """How long it trains and what it sees of its rows, in a sentence or two."""
        words = self.words(noun)
        return f"{self.length}. {words}" if self.seen == self.rows else words

    def words(self, noun: str = "rows") -> str:
        """One sentence, with what to change where rows are left unseen."""
        if self.seen == self.rows:
            times = _number(self.epochs)
            often = "once" if times == "1" else f"{times} times over"
            return f"It sees all {self.rows:,} {noun}, {often}."
        share = f"{self.share:.0%}" if self.share >= 0.01 else f"{self.share:.2%}"
        return (
            f"It sees {self.seen:,} of {self.rows:,} {noun} ({share}, {_number(self.epochs)} "
            f"epochs): {_steps(self.steps)} before the rows do. Set steps to 0 and epochs to 1 "
            "to see each row once."
        )


def coverage(recipe: Recipe, rows: int) -> Coverage:
    """How far the recipe's steps, or its epochs, go through so many rows."""
    each = rows_per_step(recipe)
    steps = recipe.training.max_steps or math.ceil(recipe.training.epochs * rows / each)
    through = steps * each
    epochs = through / rows if rows else 0.0
    return Coverage(rows, steps, min(rows, math.floor(through)), epochs)


def rows_per_step(recipe: Recipe) -> float:
    """Rows that are new in each optimizer step.

    Where answers are sampled in groups a question stands for a whole group, and each batch of
    answers is learnt from `rl.num_iterations` times.
    """
    batch = effective_batch(recipe)
    if spec_of(recipe.stage, recipe.rl.algorithm).grouped:
        return batch / recipe.rl.group_size / recipe.rl.num_iterations
    return batch


def _steps(steps: int) -> str:
    return "one step ends" if steps == 1 else f"{steps:,} steps end"


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
