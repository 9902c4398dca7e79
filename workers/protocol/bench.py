"""What the reward bench found: how rewards behave on samples and on adversarial answers."""

from __future__ import annotations

import msgspec


class RewardSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One reward on the start model's samples; `total` stands for the weighted sum."""

    name: str
    weight: float
    mean: float | None
    std: float | None
    zero_variance_share: float | None
    """Share of prompts whose answers all earn the same."""
    seconds_per_call: float
    faults: int
    values: list[float] = []
    """Of each sample that was scored."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """An adversarial or a right answer: what kind it is, and what it earns on average."""

    kind: str
    title: str
    good: bool
    """Whether it deserves the full reward."""
    score: float | None
    share: float | None
    """Between the worst adversarial answer (0) and a right one (1)."""
    example: str
    faults: list[str] = []


class BenchFinding(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    level: str
    """advice or suspect."""
    text: str
    remedy: str


class Agreement(msgspec.Struct, frozen=True):
    """Pearson's correlation of two rewards over the samples."""

    first: str
    second: str
    correlation: float


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    verdict: str
    """ok or suspect."""
    rewards: list[RewardSummary]
    probes: list[Probe]
    findings: list[BenchFinding]
    agreement: list[Agreement]
    samples: int
    prompts: int
