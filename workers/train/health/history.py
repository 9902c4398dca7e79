"""What the rules of health look at: a run's values so far, and what is known of its recipe."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from workers.protocol.events import Finding
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import names_of
from workers.protocol.stages import StageSpec, spec_of

WINDOW = 5
"""Steps averaged, so that one odd step says nothing."""
FIRST_TRENDS = 10
"""Steps before trends are read; fewer are noise."""


class Setting(NamedTuple):
    """What the rules need to know of a recipe."""

    stage: StageSpec
    beta: float
    """Of preference.beta: implicit rewards are beta times nats."""
    top: float | None
    """The highest reachable reward, if it is known."""
    form: tuple[str, ...]
    right: tuple[str, ...]
    """Names of the parts' curves."""


class History:
    """Values by metric and step; steps without a value are left out."""

    def __init__(self) -> None:
        self._series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.broken: dict[str, int] = {}
        """Metrics that came without a number (NaN), with the step."""
        self.step = 0

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        self.step = step
        for name, value in values.items():
            if value is None:
                self.broken[name] = step
            else:
                self._series[name].append((step, value))

    def values(self, name: str) -> list[float]:
        return [value for _, value in self._series.get(name, [])]

    def start(self, name: str) -> float | None:
        """The mean of the first steps."""
        return mean_of(self.values(name)[:WINDOW])

    def now(self, name: str) -> float | None:
        """The mean of the last steps; None before there are enough to tell."""
        found = self.values(name)
        return mean_of(found[-WINDOW:]) if len(found) >= FIRST_TRENDS else None


def mean_of(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


Rule = Callable[[History, Setting], "Finding | None"]


def setting_of(recipe: Recipe) -> Setting:
    named = list(zip(names_of(recipe.rewards), recipe.rewards, strict=True))
    tops = [reward.top * reward.weight for reward in recipe.rewards if reward.top is not None]
    return Setting(
        stage=spec_of(recipe.stage),
        beta=recipe.preference.beta,
        top=sum(tops) if tops and len(tops) == len(named) else None,
        form=tuple(f"reward/{name}" for name, reward in named if reward.measures == "form"),
        right=tuple(f"reward/{name}" for name, reward in named if reward.measures == "right"),
    )
