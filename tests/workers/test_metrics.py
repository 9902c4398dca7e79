"""The declarations of metrics and charts: whole, and held to one another."""

from __future__ import annotations

import pytest

from workers.protocol.metrics import (
    BRIEF,
    CHARTS,
    FORMER,
    GENERAL,
    LOGGED,
    METRICS,
    SCORES,
    TRAINERS,
    ChartSpec,
    lines_of,
    lower_is_better,
    metric_of,
)
from workers.protocol.stages import STAGES, StageSpec


@pytest.mark.parametrize("chart", CHARTS.values(), ids=lambda chart: chart.key)
def test_a_chart_has_lines_of_its_form_and_begins_with_its_name(chart: ChartSpec) -> None:
    curves = [curve for curve, _ in lines_of(chart.key)]

    assert chart.prefix or curves[0] == chart.key
    assert {metric_of(curve).form for curve in curves} <= {chart.form}


def test_metrics_are_drawn_on_charts_that_there_are() -> None:
    drawn = [one for metric in METRICS.values() for one in (metric.drawn, metric.held_out) if one]
    assert {one.chart for one in drawn} <= set(CHARTS)


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.id)
def test_a_stage_names_charts_and_measures_that_there_are(stage: StageSpec) -> None:
    variants = (chart for variant in stage.variants.values() for chart in variant.charts)
    assert {*stage.charts, *variants, *GENERAL} <= set(CHARTS)
    assert all(METRICS[name].trainers for name in stage.measures)


def test_no_name_stands_for_two_metrics() -> None:
    names = [name for metric in METRICS.values() for name in metric.trainers]
    former = [name for metric in METRICS.values() for name in metric.former]

    assert len(names) == len(set(names)) == len(TRAINERS)
    assert len(former) == len(set(former))
    assert not set(FORMER) & set(METRICS)


def test_a_trainers_name_counts_before_our_own() -> None:
    """A reward model's trainer calls accuracy what is the accuracy of pairs."""
    assert LOGGED["accuracy"] == "pair_accuracy"
    assert LOGGED["truncation_rate"] == "truncation_rate"
    assert LOGGED["completions/clipped_ratio"] == "truncation_rate"


def test_what_a_run_is_told_by_has_words() -> None:
    for name in SCORES:
        assert METRICS[name].score
        assert METRICS[name].score_form.format(0.5)
    for curve in BRIEF:
        assert metric_of(curve).brief.format(0.5)


def test_which_way_is_better() -> None:
    fall = {name for name in METRICS if lower_is_better(name)}
    assert {"loss", "truncation_rate", "calibration_error"} <= fall
    assert not fall & {"accuracy", "reward", "pair_accuracy", "win_rate", "margin"}
    assert not lower_is_better("of_another_version")
