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
from typing import NamedTuple, Protocol

from workers.data.reader import Message
from workers.protocol import rewards as asked
from workers.protocol.refusal import Refusal
from workers.rewards.sandbox import Outcome

EQUAL = 1e-6
"""Rewards nearer than this are the same."""


class Sample(NamedTuple):
    """One answer to judge."""

    prompt: list[Message]
    completion: str
    answer: str
    """What a right completion comes to; empty when the row has none."""
    tokens: int
    """Length of the completion."""

    @property
    def question(self) -> str:
        """The user's last turn."""
        return self.prompt[-1]["content"] if self.prompt else ""


class Scorer(Protocol):
    """One reward, ready to judge."""

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        """An outcome for each sample, in order."""
        ...


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


def unusable(kind: str, why: str, remedy: str) -> Refusal:
    """The refusal of a reward whose options make no sense."""
    return Refusal(f"The reward '{kind}' cannot be used.", why, remedy)
