"""The gate compares held-out measurements; its interval is of rows measured twice."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from studio.gate import decide, gain_interval, newcombe, wilson
from studio.records import Evaluation
from workers.protocol.recipe import Gate

Each = Sequence[float | None]


def measured(metric: str, before: float, after: float) -> list[Evaluation]:
    return [
        Evaluation("before", 0, 100, {metric: before}),
        Evaluation("after", 9, 100, {metric: after}),
    ]


def by_rows(metric: str, before: Each, after: Each) -> list[Evaluation]:
    def one(moment: str, each: Each) -> Evaluation:
        scored = [value for value in each if value is not None]
        mean = sum(scored) / len(scored)
        return Evaluation(moment, 0, len(each), {metric: mean}, {metric: [*each]})

    return [one("before", before), one("after", after)]


def outcomes(both: int, lost: int, won: int, neither: int) -> tuple[list[float], list[float]]:
    """Rows right before and after, right before alone, right after alone, and never."""
    before = [1.0] * (both + lost) + [0.0] * (won + neither)
    return before, [1.0] * both + [0.0] * lost + [1.0] * won + [0.0] * neither


@pytest.mark.parametrize(
    ("before", "after", "gain", "decision"),
    [(2.0, 1.0, 0.5, "passed"), (1.0, 1.0, 0.0, "passed"), (1.0, 2.0, 0.0, "failed")],
)
def test_without_single_rows_the_point_gain_decides(
    before: float, after: float, gain: float, decision: str
) -> None:
    verdict = decide(measured("loss", before, after), Gate(metric="loss", min_gain=gain))
    assert verdict.gate == decision
    assert f"{before:.3f} to {after:.3f}" in verdict.reason
    assert "no interval is known" in verdict.reason
    assert verdict.interval is None


@pytest.mark.parametrize(
    ("rows", "gain", "decision"),
    [
        ((10, 1, 30, 23), 0.0, "passed"),
        ((10, 1, 30, 23), 0.6, "failed"),
        ((3, 2, 1, 58), 0.0, "cannot tell"),
        ((30, 0, 0, 34), 0.0, "cannot tell"),
        ((10, 1, 30, 23), 0.4, "cannot tell"),
    ],
)
def test_the_whole_interval_decides(
    rows: tuple[int, int, int, int], gain: float, decision: str
) -> None:
    before, after = outcomes(*rows)
    verdict = decide(by_rows("accuracy", before, after), Gate(metric="accuracy", min_gain=gain))
    assert verdict.gate == decision
    assert verdict.interval is not None
    low, high = verdict.interval
    assert f"{low:+.3f} to {high:+.3f}" in verdict.reason
    assert verdict.promotes == (decision == "passed")
    assert ("evaluation.max_rows" in verdict.remedy) == (decision == "cannot tell")


def test_more_rows_are_asked_for_by_number() -> None:
    before, after = outcomes(6, 3, 9, 46)
    verdict = decide(by_rows("accuracy", before, after), Gate())
    assert verdict.gate == "cannot tell"
    wanted = int(verdict.remedy.partition("about ")[2].split()[0])
    times = -(-wanted // 64)
    more = [values * times for values in (before, after)]
    assert decide(by_rows("accuracy", *more), Gate()).gate == "passed"


def test_a_measure_that_must_fall_gains_by_falling() -> None:
    long, short = [0.9, 0.8, 0.85, 0.95], [0.1, 0.2, 0.15, 0.25]
    gate = Gate(metric="truncation_rate")
    assert decide(by_rows("truncation_rate", [*long], [*short]), gate).gate == "passed"
    assert decide(by_rows("truncation_rate", [*short], [*long]), gate).gate == "failed"


def test_nothing_measured_never_passes() -> None:
    for evaluations in ([], measured("loss", 2, 1)):
        verdict = decide(evaluations, Gate(metric="accuracy"))
        assert verdict.gate == "not measured"
        assert not verdict.promotes
        assert "accuracy" in verdict.reason
        assert "evaluation." in verdict.remedy


def test_without_a_gate_what_changed_is_told_and_nothing_is_held_up() -> None:
    before, after = outcomes(3, 2, 1, 58)
    verdict = decide(by_rows("accuracy", before, after), None)
    assert (verdict.gate, verdict.promotes) == ("not set", True)
    assert "0.078 to 0.062" in verdict.reason
    assert verdict.interval is not None
    assert decide(measured("loss", 1, 2), None).promotes
    assert decide([], None).gate == "not set"
    assert "Nothing was measured" in decide([], None).reason


def test_other_rows_before_and_after_cannot_be_compared() -> None:
    told = by_rows("accuracy", [0.0] * 8, [1.0] * 16)
    verdict = decide(told, Gate())
    assert (verdict.gate, verdict.interval) == ("cannot tell", None)
    assert "8 rows were measured before and 16 after" in verdict.reason


def test_rows_without_a_score_are_left_out_in_pairs() -> None:
    told = by_rows("reward", [0.1, None, 0.2, 0.3], [0.6, 0.9, None, 0.9])
    low, high = decide(told, Gate(metric="reward")).interval or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("table", "interval"),
    [
        # Altman et al. 2000, "Statistics with confidence", table 6.2.
        ((14, 0, 5, 22), (0.0115, 0.2265)),
        # Bentur et al. 2009, as worked in Fagerland, Lydersen and Laake 2014.
        ((1, 7, 1, 12), (-0.507, -0.026)),
    ],
)
def test_the_interval_of_shares_is_newcombes(
    table: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    before, after = outcomes(*table)
    assert gain_interval(before, after) == pytest.approx(interval, abs=6e-4)


def test_the_interval_of_shares_holds_the_truth_nineteen_times_in_twenty() -> None:
    dice = random.Random(0)
    held = 0
    for _ in range(2000):
        before = [dice.random() < 0.3 for _ in range(64)]
        after = [(one and dice.random() < 0.9) or dice.random() < 0.15 for one in before]
        low, high = newcombe(before, after)
        held += low <= 0.3 * (0.9 + 0.1 * 0.15) + 0.7 * 0.15 - 0.3 <= high
    assert 0.93 <= held / 2000 <= 0.98


def test_the_interval_of_other_values_is_students() -> None:
    # Student 1908, the gain in hours of sleep of ten patients; t is 2.262 with 9 degrees.
    gains = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert gain_interval([0.0] * 10, gains) == pytest.approx((0.70, 2.46), abs=5e-3)
    many = gain_interval([0.0] * 60, [0.0, 2.0] * 30)
    assert many == pytest.approx((1 - 1.96 * 1.00844 / 60**0.5, 1 + 1.96 * 1.00844 / 60**0.5), 1e-4)


def test_a_share_of_nothing_begins_at_nothing() -> None:
    assert wilson(0.0, 10)[0] == 0.0
