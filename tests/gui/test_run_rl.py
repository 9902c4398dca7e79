"""The Run page over runs that learn by reinforcement: curves, health, looks and cost."""

from __future__ import annotations

import math
import time
from typing import get_args

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QLabel, QPushButton

from studio.pages.run import RunPage
from studio.pages.run.plans import charts_for
from studio.widgets import chart as charts
from studio.widgets.curve import MOST_SMOOTHING
from studio.widgets.findings import HEALTHY, Finding, FindingList
from tests.gui.conftest import Driver, Finished
from tests.gui.runs import GROUP, boxed_sums, events_of, open_tab, start_run, wait_for_status
from workers.protocol.events import Finding as Found
from workers.protocol.events import Metrics, Note, Rollout
from workers.protocol.recipe import RL, Recipe, Stage
from workers.protocol.rewards import AnyReward, MathAnswer, RewardModel
from workers.protocol.rollouts import path_of
from workers.protocol.wire import read_events


def _order(page: RunPage) -> list[str]:
    """The keys of the charts that are shown, in the order in which they stand."""
    keys = {id(made): key for key, made in page.charts.items()}
    return [keys[id(made)] for made in page.grid.shown]


# Curves


def test_every_curve_of_reinforcement_learning_is_drawn_exactly(finished: Finished) -> None:
    page = finished()
    told: dict[str, list[tuple[int, float]]] = {}
    for event in events_of(page, Metrics):
        for name, value in event.values.items():
            told.setdefault(name, []).append((event.step, value))
    for metric in (
        "reward", "eval_reward", "eval_accuracy", "reward/format", "reward/math_answer",
        "reward/length", "kl", "entropy", "completion_length", "truncation_rate", "reward_std",
        "frac_reward_zero_std", "clip_low", "clip_high", "clip_fraction", "gradient_norm",
        "learning_rate", "tokens_per_second", "memory_bytes", "rollout_seconds", "update_seconds",
    ):  # fmt: skip
        made = page.grid.chart_of(metric)
        assert made is not None, metric
        curve = made.curve(metric)
        assert list(zip(curve.steps, curve.values, strict=True)) == told[metric], metric
        assert not made.isHidden(), metric
    assert page.charts["eval_accuracy"].main.steps == [0, 5, 10, 15, 16]


def test_what_tells_most_stands_first_and_what_says_nothing_is_hidden(finished: Finished) -> None:
    page = finished()
    shown = _order(page)
    assert shown[:4] == ["reward", "eval_accuracy", "reward/", "kl"]
    assert page.charts["unscored_share"].isHidden()
    assert page.charts["token_accuracy"].isHidden()


def test_the_parts_of_the_reward_have_a_legend_with_their_values(
    driver: Driver, finished: Finished
) -> None:
    page = finished()
    parts = page.charts["reward/"]
    driver.wait(lambda: not parts.stale)
    for name in ("format", "math_answer", "length"):
        value = charts.plain(parts.curve(f"reward/{name}").values[-1])
        assert f"{name}&nbsp;{value}" in parts._legend.text()


def test_another_run_brings_its_own_parts(driver: Driver, finished: Finished) -> None:
    page = finished()
    other = msgspec.structs.replace(boxed_sums("other", 4), rewards=[MathAnswer()])
    page = start_run(driver, other)
    wait_for_status(driver, "Finished")
    assert page.charts["reward/"].metrics == ["reward/math_answer"]


def test_the_score_is_accuracy_before_and_after(finished: Finished) -> None:
    page = finished()
    assert page.scores.text() == "Right on held-out rows 12.5% → 62.5%"


def test_learning_from_examples_keeps_its_charts_and_has_no_steps(
    driver: Driver, recipe: Recipe
) -> None:
    page = start_run(driver, recipe)
    wait_for_status(driver, "Finished")
    driver.wait(lambda: page.settled)
    assert _order(page)[:3] == ["loss", "token_accuracy", "entropy"]
    assert not page.tabs.isTabVisible(0)


def test_every_stage_shows_what_tells_most_of_it_first() -> None:
    first = {stage: charts_for(stage)[0].key for stage in get_args(Stage)}
    assert first["grpo"] == "reward"
    assert first["sft"] == first["cpt"] == "loss"
    assert {first[stage] for stage in ("dpo", "ipo", "simpo", "orpo", "kto")} == {"pair_accuracy"}
    keys = [plan.key for plan in charts_for("grpo")]
    assert len(keys) == len(set(keys))
    assert set(keys) == {plan.key for plan in charts_for("dpo")}
    ppo = [plan.key for plan in charts_for("rlhf", "ppo")]
    assert set(ppo) == set(keys)
    assert ppo[0] == "reward"
    assert max(map(ppo.index, ("kl", "policy_loss", "value_loss", "explained_variance"))) < 8
    assert ppo.index("frac_reward_zero_std") > ppo.index("gradient_norm")
    by_groups = [plan.key for plan in charts_for("rlhf", "rloo")]
    assert by_groups.index("frac_reward_zero_std") < by_groups.index("gradient_norm")


def test_ppo_is_charted_with_its_value_model(driver: Driver) -> None:
    rewards: list[AnyReward] = [RewardModel(model="/models/judge")]
    rl = RL(group_size=GROUP, algorithm="ppo")
    page = start_run(
        driver, msgspec.structs.replace(boxed_sums(), stage="rlhf", rl=rl, rewards=rewards)
    )
    wait_for_status(driver, "Finished")
    driver.wait(lambda: page.settled)
    for name in ("reward", "kl", "policy_loss", "value_loss", "explained_variance"):
        assert page.charts[name].main.steps == list(range(1, 17))
        assert page.charts[name].isVisible()
    assert page.tabs.isTabVisible(0)


def test_smoothing_equals_its_definition() -> None:
    values = np.sin(np.arange(900.0))
    values[5] = values[700] = math.nan
    past, mean, weight, expected = 900 / 960, 0.0, 0.0, []
    past = min(MOST_SMOOTHING, past)
    for value in values:
        if not math.isnan(value):
            mean = past * mean + (1 - past) * value
            weight = past * weight + (1 - past)
        expected.append(math.nan if math.isnan(value) else mean / weight)
    assert np.allclose(charts.smooth(values), expected, atol=1e-9, equal_nan=True)
    assert np.ptp(charts.smooth(np.full(2000, 0.1))) < 1e-12


# Health


def test_a_finding_is_told_marked_and_passes(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    page = start_run(driver, boxed_sums("sick", 16))
    driver.wait(page.health.isVisible)
    assert "nearly certain of every word" in page.health.text
    assert "Since step 4" in page.health.text
    assert "Raise the temperature" in page.health.text
    entropy = page.charts["entropy"]
    assert entropy.bands == [charts.Band(4, None)]
    assert page.charts["kl"].bands == []
    driver.click("show-health")
    assert page.tabs.currentWidget() is page.findings
    assert page.tabs.tabText(page.tabs.currentIndex()) == "Health (1)"
    driver.wait(lambda: not page.health.isVisible())
    assert entropy.bands == [charts.Band(4, 12)]
    assert "Steps 4 to 12, passed" in page.findings.text
    assert page.tabs.tabText(page.tabs.currentIndex()) == "Health"
    wait_for_status(driver, "Finished")
    page.charts["entropy"].paint()
    region = entropy._regions[0]
    assert tuple(region.getRegion()) == (3.5, 12.5)
    assert not region.movable


def test_nothing_nags_on_a_healthy_run(driver: Driver, finished: Finished) -> None:
    page = finished()
    assert not page.health.isVisible()
    assert not page.banner.isVisible()
    open_tab(driver, page, "Health")
    assert HEALTHY in page.findings.text


def _finding(**changes: object) -> Finding:
    base = Finding("kl_drift", "warning", "kl", 3, None, "It drifts.", "Hold it.")
    return base._replace(**changes)  # type: ignore[arg-type]


def test_the_gravest_finding_is_told_first(driver: Driver) -> None:
    strip = driver.window.run.health
    alarm = _finding(kind="not_a_number", level="alarm", meaning="No number.")
    strip.show_findings([_finding(), alarm])
    assert strip.text.startswith("No number.")
    assert strip.property("banner") == "bad"
    assert strip.more.text() == "1 more"
    strip.show_findings([_finding(until=9)])
    assert strip.isHidden()


def test_findings_of_an_unknown_level_are_shown_all_the_same(driver: Driver) -> None:
    listed = FindingList(driver.studio.theme)
    driver.qtbot.addWidget(listed)
    listed.show_findings([_finding(level="later"), _finding(kind="b", until=5, meaning="Gone.")])
    assert listed.text.index("It drifts.") < listed.text.index("Gone.")


def test_a_finding_that_is_told_anew_after_a_pause_holds_once(
    driver: Driver, finished: Finished
) -> None:
    page = finished(steps=4)
    told = Found(kind="kl_drift", level="warning", step=1, metric="kl", meaning="A.", remedy="B.")
    again = msgspec.structs.replace(told, step=3)
    line = read_events(page.folder)[0]
    store = driver.studio.store
    cursor = store.job(page.run).cursor  # type: ignore[union-attr]
    heard = [msgspec.structs.replace(line, event=event) for event in (told, again)]
    store.apply(page.run, heard, cursor)
    assert [(one.since, one.until) for one in page.found()] == [(1, 3), (3, None)]


# Looks and cost


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", [(1000, 640), (1280, 800)])
def test_no_word_is_cut_on_a_run(
    driver: Driver, finished: Finished, look: str, size: tuple[int, int]
) -> None:
    driver.studio.theme.choose(look)  # type: ignore[arg-type]
    driver.window.resize(*size)
    page = finished("sick", 8)
    assert page.health.isVisible()
    for name in ("Steps", "Samples", "Health", "Notes"):
        open_tab(driver, page, name)
        driver.window._on_tick()
        for made in page.findChildren(QPushButton):
            if made.isVisible():
                assert made.width() >= made.minimumSizeHint().width(), made.text()
        for words in page.findChildren(QLabel):
            if words.isVisible() and words.text() and not words.wordWrap():
                plain = words.textFormat() == Qt.TextFormat.PlainText
                wanted = words.fontMetrics().horizontalAdvance(words.text()) if plain else 0
                assert words.width() >= wanted - 1, words.text()
    ground = QColor(driver.studio.theme.palette.window).getRgb()
    assert page.grab().toImage().pixelColor(2, 2).getRgb() == ground


def test_a_run_is_shown_from_the_index_alone(driver: Driver, finished: Finished) -> None:
    page = finished(steps=4)
    notes, steps = page.notes.toPlainText(), page.charts["reward"].main.steps
    assert "Checkpoint of step 4 saved" in notes
    (page.folder / "events.jsonl").unlink()
    driver.window.open_run(page.run)
    driver.wait(lambda: page.settled and page.notes.toPlainText() == notes)
    assert page.charts["reward"].main.steps == steps == [1, 2, 3, 4]
    assert page.rollouts


def test_a_long_run_opens_and_ticks_without_a_halt(driver: Driver, finished: Finished) -> None:
    """Bounds are loose; what is meant is that no tick reads or draws everything at once."""
    page = finished(steps=4)
    store = driver.studio.store
    row = store.job(page.run)
    assert row is not None
    first = read_events(page.folder)[0]
    names = ("reward", "kl", "entropy", "loss", "reward/format")
    values: dict[str, float | None] = dict.fromkeys(names, 0.5)
    events = [Metrics(step=step, values=values) for step in range(5, 3000)]
    notes = [
        msgspec.structs.replace(first, n=1000 + n, event=Note(text=f"note {n}"))
        for n in range(5000)
    ]
    kept = [Rollout(step=step, path=path_of(step)) for step in range(5, 3000)]
    heard = [msgspec.structs.replace(first, event=event) for event in [*events, *kept]]
    store.apply(page.run, [*heard, *notes], row.cursor)
    driver.window.open_run(page.run)
    ticks = []
    while not page.settled:
        began = time.perf_counter()
        driver.window._on_tick()
        ticks.append(time.perf_counter() - began)
        assert len(ticks) < 500
    assert sorted(ticks)[len(ticks) // 2] < 0.1
    assert page.charts["reward"].main.steps == list(range(1, 3000))
    driver.wait(lambda: "note 4999" in page.notes.toPlainText())
