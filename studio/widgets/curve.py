"""The points of one metric, and the line that is drawn through them. Knows no painting."""

from __future__ import annotations

import math

import numpy as np

MOST_SMOOTHING = 0.9
"""Weight of the past in the moving average of a long run; a short one is smoothed less."""
FORGOTTEN = 1e-12
"""A weight in the moving average below which the past counts for nothing."""


class Curve:
    """Points of one metric by rising step; a point at or before the last step replaces it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []

    def add(self, step: int, value: float | None) -> None:
        self.cut_after(step - 1)
        self.steps.append(step)
        self.values.append(math.nan if value is None else value)

    def cut_after(self, step: int) -> None:
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.values.pop()

    def set(self, steps: list[int], values: list[float]) -> None:
        self.steps, self.values = list(steps), list(values)

    @property
    def last(self) -> float | None:
        return next((v for v in reversed(self.values) if not math.isnan(v)), None)

    def near(self, step: float) -> tuple[int, float] | None:
        """The point nearest to a step."""
        if not self.steps:
            return None
        index = int(np.abs(np.array(self.steps) - step).argmin())
        return self.steps[index], self.values[index]


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential moving average with bias correction (Kingma & Ba 2015, section 3); NaN is
    passed over and stays a gap. Its span grows with the number of points."""
    out = np.full(values.shape, np.nan)
    there = ~np.isnan(values)
    known = values[there]
    if not len(known):
        return out
    past = min(MOST_SMOOTHING, len(values) / (len(values) + 60))
    reach = min(len(known), math.ceil(math.log(FORGOTTEN) / math.log(past)))
    kernel = (1 - past) * past ** np.arange(reach)
    weight = np.cumsum(kernel)[np.minimum(np.arange(len(known)), reach - 1)]
    out[there] = np.convolve(known, kernel)[: len(known)] / weight
    return out
