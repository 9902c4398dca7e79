"""Whether a run may be promoted: its gate's measure on held-out rows, after against before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from studio.store import Evaluation
from workers.protocol.recipe import Gate

LOWER_IS_BETTER = ("loss", "cut_off_share", "calibration_error")
Z = 1.96
"""Standard deviations of a 95 % interval."""


class Verdict(msgspec.Struct, frozen=True):
    passed: bool
    reason: str
    before: float | None = None
    after: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of the gain; None for a measure that is no share of rows."""


def judge(evaluations: Sequence[Evaluation], gate: Gate) -> Verdict:
    """Compares the measurements before and after; a measure that is not there holds nothing up."""
    moments = {one.moment: one for one in evaluations}
    first, last = moments.get("before"), moments.get("after")
    before = first.scores.get(gate.metric) if first else None
    after = last.scores.get(gate.metric) if last else None
    if first is None or last is None or before is None or after is None:
        return Verdict(True, f"{gate.metric} was not measured, so the gate stays open.")
    sign = -1.0 if gate.metric in LOWER_IS_BETTER else 1.0
    gain = sign * (after - before)
    passed = gain >= gate.min_gain
    told = "reached" if passed else "not reached"
    reason = (
        f"Held-out {gate.metric.replace('_', ' ')} went from {before:.3f} to {after:.3f}; "
        f"a gain of {gate.min_gain:g} was asked for and {told}."
    )
    interval = None
    if gate.metric == "accuracy":
        interval = gain_interval(before, first.rows, after, last.rows)
    return Verdict(passed, reason, before, after, interval)


def gain_interval(before: float, rows: int, after: float, rows_after: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares (Newcombe 1998, method 10)."""
    low_b, high_b = wilson(before, rows)
    low_a, high_a = wilson(after, rows_after)
    gain = after - before
    down = math.sqrt((after - low_a) ** 2 + (high_b - before) ** 2)
    up = math.sqrt((high_a - after) ** 2 + (before - low_b) ** 2)
    return gain - down, gain + up


def wilson(share: float, rows: int) -> tuple[float, float]:
    """95 % score interval of a share of so many rows (Wilson 1927)."""
    middle = (share + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    spread = math.sqrt(share * (1 - share) / rows + Z * Z / (4 * rows * rows))
    half = Z * spread / (1 + Z * Z / rows)
    return max(0.0, middle - half), min(1.0, middle + half)
