"""Rewards that can be checked: one family a file, added up by weight.

A reward scores samples and says for each either a number or why there is none. A sample that one
reward could not score counts for nothing in the step: it neither wins nor loses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from workers.protocol import rewards as asked
from workers.rewards.sample import Sample, Scorer
from workers.rewards.sandbox import Outcome

EQUAL = 1e-6
"""Rewards nearer than this are the same."""


class Scored(NamedTuple):
    """What all rewards said of a batch."""

    parts: list[list[Outcome]]
    """By reward, then by sample."""
    totals: list[float | None]
    """The weighted sum of each sample; None where a reward gave no score."""
    seconds: list[float]
    """What each reward took."""


class Rewards:
    """The rewards of a recipe together; close it to end what they started."""

    def __init__(self, recipe: Sequence[asked.AnyReward], home: Path) -> None:
        self.names = asked.names_of(list(recipe))
        self.weights = [reward.weight for reward in recipe]
        self.modules = [reward.module for reward in recipe]
        """Of workers.rewards: the family of each."""
        self._stack = ExitStack()
        self.scorers: Sequence[Scorer] = [build(reward, home, self._stack) for reward in recipe]

    def close(self) -> None:
        self._stack.close()

    def score(self, samples: Sequence[Sample]) -> Scored:
        parts: list[list[Outcome]] = []
        seconds: list[float] = []
        for scorer in self.scorers:
            began = time.perf_counter()
            parts.append(scorer.score(samples))
            seconds.append(time.perf_counter() - began)
        totals = [self._total([part[at] for part in parts]) for at in range(len(samples))]
        return Scored(parts, totals, seconds)

    def _total(self, outcomes: list[Outcome]) -> float | None:
        total = 0.0
        for outcome, weight in zip(outcomes, self.weights, strict=True):
            if outcome.value is None:
                return None
            total += weight * outcome.value
        return total


def equal_share(totals: Sequence[float | None], group_size: int) -> float:
    """The share of groups whose scored answers all earn the same; groups stand together."""
    groups = [totals[at : at + group_size] for at in range(0, len(totals), group_size)]
    spreads = [[total for total in group if total is not None] for group in groups]
    equal = [not group or max(group) - min(group) < EQUAL for group in spreads]
    return sum(equal) / len(equal)


def build(reward: asked.AnyReward, home: Path, stack: ExitStack) -> Scorer:
    """The scorer of one `[[rewards]]` table; raises `Refusal` when it cannot work here."""
    family = import_module(f"workers.rewards.{reward.module}")
    return family.build(reward, home, stack)
