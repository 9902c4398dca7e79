"""The gate compares held-out measurements; its interval is Newcombe's."""

from __future__ import annotations

import pytest

from studio.gate import gain_interval, judge, wilson
from studio.store import Evaluation
from workers.protocol.recipe import Gate


def measured(metric: str, before: float, after: float) -> list[Evaluation]:
    return [
        Evaluation("before", 0, 100, {metric: before}),
        Evaluation("after", 9, 100, {metric: after}),
    ]


@pytest.mark.parametrize(
    ("metric", "before", "after", "gain", "passed"),
    [
        ("accuracy", 0.4, 0.7, 0.0, True),
        ("accuracy", 0.4, 0.4, 0.0, True),
        ("accuracy", 0.4, 0.39, 0.0, False),
        ("accuracy", 0.4, 0.7, 0.5, False),
        ("loss", 2.0, 1.0, 0.5, True),
        ("loss", 1.0, 2.0, 0.0, False),
    ],
)
def test_the_gate_opens_for_a_gain(
    metric: str, before: float, after: float, gain: float, passed: bool
) -> None:
    verdict = judge(measured(metric, before, after), Gate(metric=metric, min_gain=gain))
    assert verdict.passed is passed
    assert f"{before:.3f} to {after:.3f}" in verdict.reason
    assert (verdict.interval is not None) == (metric == "accuracy")


def test_what_was_not_measured_holds_nothing_up() -> None:
    assert judge([], Gate()).passed
    assert "not measured" in judge(measured("loss", 2, 1), Gate(metric="accuracy")).reason


def test_the_interval_is_newcombes() -> None:
    # Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10.
    low, high = gain_interval(48 / 80, 80, 56 / 70, 70)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert wilson(0.0, 10)[0] == 0.0
