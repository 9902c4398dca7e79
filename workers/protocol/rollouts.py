"""What one step of reinforcement learning sampled, kept as a file so that it can be looked at."""

from __future__ import annotations

import msgspec


class Sampling(msgspec.Struct, frozen=True):
    """One answer and what it was worth."""

    text: str
    rewards: list[float | None]
    """Unweighted, in the order of `Rollouts.rewards`; None where a reward gave no score."""
    reward: float | None
    """The weighted sum; None when it counts for nothing."""
    advantage: float
    tokens: int
    truncated: bool
    """Cut off before it ended by itself."""
    faults: list[str] = []
    """Why rewards gave no score."""


class Group(msgspec.Struct, frozen=True):
    """The answers to one prompt, compared with each other."""

    prompt: str
    answer: str
    samples: list[Sampling]


class Rollouts(msgspec.Struct, frozen=True):
    step: int
    rewards: list[str]
    weights: list[float]
    groups: list[Group]


def path_of(step: int) -> str:
    """Where a step's rollouts lie within the run's folder."""
    return f"samples/step-{step:06d}.json"
