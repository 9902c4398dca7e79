"""Whether a run may be promoted: its gate's measure on held-out rows, after against before.

The same rows are measured twice, so what decides is the interval of the gain on paired rows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from studio.records import Evaluation
from workers.protocol.metrics import SCORES, lower_is_better, present_name
from workers.protocol.recipe import Gate

Z = 1.96
"""Standard deviations of a 95 % interval."""
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045,
)  # fmt: skip
"""The same of Student's t, with 1 to 29 degrees of freedom."""
MOST_ROWS = 100_000
"""A gain that so many rows would not settle is not asked to be measured on more."""

Interval = tuple[float, float]
Decision = Literal["passed", "failed", "cannot tell", "not set", "not measured"]


class Verdict(msgspec.Struct, frozen=True):
    gate: Decision
    reason: str
    remedy: str = ""
    before: float | None = None
    after: float | None = None
    interval: Interval | None = None
    """95 % interval of the gain; None where single rows were not measured."""

    @property
    def promotes(self) -> bool:
        """Whether the next stage of a pipeline may start."""
        return self.gate in ("passed", "not set")


def decide(evaluations: Sequence[Evaluation], gate: Gate | None) -> Verdict:
    """Compares the measurements before and after training; without a gate nothing is decided."""
    moments = {one.moment: one for one in evaluations}
    first, last = moments.get("before"), moments.get("after")
    metric = present_name(gate.metric) if gate else _telling(first, last)
    before, after = _score(first, metric), _score(last, metric)
    if first is None or last is None or before is None or after is None:
        return _not_measured(gate)
    told = f"Held-out {_words(metric)} went from {before:.3f} to {after:.3f}"
    sign = -1.0 if lower_is_better(metric) else 1.0
    gains = _gains(first.each.get(metric, []), last.each.get(metric, []), sign)
    interval = gain_interval(*gains) if gains is not None else None
    if interval is not None:
        told += f" (95 % interval of the gain: {interval[0]:+.3f} to {interval[1]:+.3f})"
    if gate is None:
        return Verdict("not set", f"{told}; no gate is set.", "", before, after, interval)
    decision, reason, remedy = _decide(gate, sign * (after - before), interval, first, last)
    return Verdict(decision, f"{told}; {reason}", remedy, before, after, interval)


def _not_measured(gate: Gate | None) -> Verdict:
    if gate is None:
        return Verdict("not set", "Nothing was measured before and after; no gate is set.")
    return Verdict(
        "not measured",
        f"The gate asks for {_words(gate.metric)}, which was not measured before and after.",
        "Hold out rows that it can be measured on (evaluation.holdout or evaluation.test), or name "
        "another evaluation.gate.metric.",
    )


def _decide(
    gate: Gate, gain: float, interval: Interval | None, first: Evaluation, last: Evaluation
) -> tuple[Decision, str, str]:
    """What a gate that is set decides, why, and what to do where that cannot be told."""
    asked = f"a gain of {gate.min_gain:g} was asked for"
    if first.rows != last.rows:
        reason = f"{asked}, but {first.rows} rows were measured before and {last.rows} after."
        return "cannot tell", reason, "Measure the same rows before and after."
    if interval is None:
        decision, told = _reached(gain >= gate.min_gain)
        return decision, f"{asked} and {told} (no interval is known for this measure).", ""
    low, high = interval
    if low >= gate.min_gain or high < gate.min_gain:
        decision, told = _reached(low >= gate.min_gain)
        return decision, f"{asked} and {told}.", ""
    reason = f"{asked}, and {last.rows} rows are too few to tell whether it was reached."
    return "cannot tell", reason, _more_rows(gain, interval, gate.min_gain, last.rows)


def _reached(reached: bool) -> tuple[Decision, str]:
    return ("passed", "reached") if reached else ("failed", "not reached")


def _more_rows(gain: float, interval: Interval, least: float, rows: int) -> str:
    """About how many rows would settle a gain of that size: a width falls by the root of them."""
    remedy = "Hold out more rows and raise evaluation.max_rows"
    distance = abs(gain - least)
    width = gain - interval[0] if gain >= least else interval[1] - gain
    needed = rows * (width / distance) ** 2 if distance else math.inf
    if needed > MOST_ROWS:
        return f"{remedy}; a gain so close to the one asked for may not be settled by any number."
    step = 10 ** max(0, len(str(int(needed))) - 2)
    return f"{remedy}: about {math.ceil(needed / step) * step} would tell, if the gain stays."


def _score(evaluation: Evaluation | None, metric: str) -> float | None:
    return evaluation.scores.get(metric) if evaluation else None


def _telling(first: Evaluation | None, last: Evaluation | None) -> str:
    measured = (
        name
        for name in SCORES
        if _score(first, name) is not None and _score(last, name) is not None
    )
    return next(measured, SCORES[0])


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _gains(
    before: Sequence[float | None], after: Sequence[float | None], sign: float
) -> tuple[list[float], list[float]] | None:
    """The worse and the better side's values of the rows that were measured both times."""
    if len(before) != len(after):
        return None
    pairs = [
        (one, other)
        for one, other in zip(before, after, strict=True)
        if one is not None and other is not None
    ]
    if len(pairs) < 2:
        return None
    firsts, lasts = [one for one, _ in pairs], [other for _, other in pairs]
    return (firsts, lasts) if sign > 0 else (lasts, firsts)


def gain_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """95 % interval of the mean gain on the same rows, measured twice.

    Of outcomes that are 0 or 1 it is Newcombe's for paired proportions; of other values the mean
    plus and minus Student's t times its standard error.
    """
    if {*before, *after} <= {0.0, 1.0}:
        return newcombe(list(map(bool, before)), list(map(bool, after)))
    gains = [other - one for one, other in zip(before, after, strict=True)]
    quantile = T[len(gains) - 2] if len(gains) - 1 <= len(T) else Z
    mean, half = statistics.fmean(gains), quantile * statistics.stdev(gains) / len(gains) ** 0.5
    return mean - half, mean + half


def newcombe(before: Sequence[bool], after: Sequence[bool]) -> Interval:
    """95 % interval of the difference of two shares of the same rows.

    Method 10 of Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17: the Wilson intervals of both
    shares, squared and added, less what their correlation phi explains, corrected for continuity.
    """
    rows = len(before)
    both = sum(one and other for one, other in zip(before, after, strict=True))
    firsts, lasts = sum(before), sum(after)
    one, other = firsts / rows, lasts / rows
    (low_1, high_1), (low_2, high_2) = wilson(one, rows), wilson(other, rows)
    phi = _phi(both, firsts, lasts, rows)
    down, up = other - low_2, high_2 - other
    up_1, down_1 = high_1 - one, one - low_1
    lower = math.sqrt(down**2 - 2 * phi * down * up_1 + up_1**2)
    upper = math.sqrt(up**2 - 2 * phi * up * down_1 + down_1**2)
    return other - one - lower, other - one + upper


def _phi(both: int, firsts: int, lasts: int, rows: int) -> float:
    """Correlation of two outcomes on the same rows, corrected for continuity where positive."""
    spread = firsts * (rows - firsts) * lasts * (rows - lasts)
    if not spread:
        return 0.0
    cross = both * (rows - firsts - lasts + both) - (firsts - both) * (lasts - both)
    return (max(cross - rows / 2, 0.0) if cross > 0 else cross) / math.sqrt(spread)


def wilson(share: float, rows: int) -> Interval:
    """95 % score interval of a share of so many rows (Wilson 1927)."""
    middle = (share + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    spread = math.sqrt(share * (1 - share) / rows + Z * Z / (4 * rows * rows))
    half = Z * spread / (1 + Z * Z / rows)
    return max(0.0, middle - half), min(1.0, middle + half)
