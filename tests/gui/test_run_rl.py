"""The Run page over runs that learn by reinforcement: curves, answers, health, pause."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import get_args

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QLabel, QPushButton

from studio.pages.run import RunPage
from studio.pages.run.answers import ANSWERS_BYTES
from studio.pages.run.plans import charts_for
from studio.widgets import chart as charts
from studio.widgets.completions import FirstAndNow
from studio.widgets.curve import MOST_SMOOTHING
from studio.widgets.findings import HEALTHY, Finding, FindingList
from tests.gui.conftest import Driver, Recordings
from workers.protocol.events import Finding as Found
from workers.protocol.events import Metrics, Note, Paused, Resumed, Rollout, Sampled
from workers.protocol.recipe import RL, Evaluation, Recipe, Source, Stage, Training
from workers.protocol.rewards import AnyReward, Format, Length, MathAnswer, RewardModel
from workers.protocol.rollouts import Group, Rollouts, Sampling, path_of
from workers.protocol.wire import read_events

Finished = Callable[..., RunPage]

GROUP = 6


def _recipe(name: str = "boxed sums", steps: int = 16) -> Recipe:
    return Recipe(
        name=name,
        stage="grpo",
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=steps, batch_size=GROUP),
        rl=RL(group_size=GROUP),
        rewards=[Format(weight=0.5), MathAnswer(), Length(weight=0.1)],
        evaluation=Evaluation(every_steps=5),
    )


def _start(driver: Driver, recipe: Recipe) -> RunPage:
    run = driver.studio.jobs.train(recipe)
    driver.window.open_run(run)
    return driver.window.run


def _status(driver: Driver, word: str) -> None:
    driver.wait(lambda: driver.window.run.pill.text == word)


@pytest.fixture
def finished(driver: Driver, recordings: Recordings) -> Finished:
    """Opens a finished run, all of it drawn."""

    def opened(name: str = "boxed sums", steps: int = 16) -> RunPage:
        driver.window.open_run(recordings.add(_recipe(name, steps), driver.studio.jobs))
        page = driver.window.run
        _status(driver, "Finished")
        driver.wait(lambda: _settled(page))
        return page

    return opened


def _settled(page: RunPage) -> bool:
    """Whether everything that is to be seen has been read, placed and drawn."""
    return page.settled


def _seen(page: RunPage) -> list[charts.Chart]:
    return [made for made in page.charts.values() if not made.visibleRegion().isEmpty()]


def _order(page: RunPage) -> list[str]:
    """The keys of the charts that are shown, in the order in which they stand."""
    keys = {id(made): key for key, made in page.charts.items()}
    return [keys[id(made)] for made in page.grid.shown]


def _said(page: RunPage, kind: type) -> list:
    return [line.event for line in read_events(page.folder) if isinstance(line.event, kind)]


def _open_tab(driver: Driver, page: RunPage, name: str) -> None:
    bar = page.tabs.tabBar()
    at = next(i for i in range(bar.count()) if bar.tabText(i).startswith(name))
    place = bar.tabRect(at).center()
    driver.qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=place)


# Curves


def test_every_curve_of_reinforcement_learning_is_drawn_exactly(finished: Finished) -> None:
    page = finished()
    told: dict[str, list[tuple[int, float]]] = {}
    for event in _said(page, Metrics):
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
    other = msgspec.structs.replace(_recipe("other", 4), rewards=[MathAnswer()])
    page = _start(driver, other)
    _status(driver, "Finished")
    assert page.charts["reward/"].metrics == ["reward/math_answer"]


def test_the_score_is_accuracy_before_and_after(finished: Finished) -> None:
    page = finished()
    assert page.scores.text() == "Right on held-out rows 12.5% → 62.5%"


def test_learning_from_examples_keeps_its_charts_and_has_no_steps(
    driver: Driver, recipe: Recipe
) -> None:
    page = _start(driver, recipe)
    _status(driver, "Finished")
    driver.wait(lambda: _settled(page))
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
    page = _start(driver, msgspec.structs.replace(_recipe(), stage="rlhf", rl=rl, rewards=rewards))
    _status(driver, "Finished")
    driver.wait(lambda: _settled(page))
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
    page = _start(driver, _recipe("sick", 16))
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
    _status(driver, "Finished")
    page.charts["entropy"].paint()
    region = entropy._regions[0]
    assert tuple(region.getRegion()) == (3.5, 12.5)
    assert not region.movable


def test_nothing_nags_on_a_healthy_run(driver: Driver, finished: Finished) -> None:
    page = finished()
    assert not page.health.isVisible()
    assert not page.banner.isVisible()
    _open_tab(driver, page, "Health")
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


# Steps


def test_the_answers_of_a_step_stand_by_advantage(driver: Driver, finished: Finished) -> None:
    page = finished()
    _open_tab(driver, page, "Steps")
    view = page.steps
    driver.wait(lambda: view.step == 16)
    assert view.numbers == list(range(1, 17))
    advantages = [one.advantage for one in view.model.samples]
    assert advantages == sorted(advantages, reverse=True)
    assert view.model.columns == [
        "Advantage", "Total", "format", "math_answer", "length", "Tokens",
    ]  # fmt: skip
    record = msgspec.json.decode((page.folder / path_of(16)).read_bytes(), type=Rollouts)
    assert sorted(view.model.samples, key=str) == sorted(record.groups[0].samples, key=str)
    cells = [
        [view.model.index(row, column).data() for column in range(view.model.columnCount())]
        for row in range(view.model.rowCount())
    ]
    assert ["0", "none", "none", "none", "none", "22"] in cells
    assert any(row[-1] == "64, cut off" for row in cells)


def test_an_answer_is_read_in_full_with_its_faults(driver: Driver, finished: Finished) -> None:
    page = finished()
    _open_tab(driver, page, "Steps")
    view = page.steps
    driver.wait(lambda: view.model.rowCount() == GROUP)
    assert "\\boxed{17}" in view.text.toPlainText()
    assert "What is 16 + 1?" in view.text.toPlainText()
    faulty = next(row for row, one in enumerate(view.model.samples) if one.faults)
    place = view.table.visualRect(view.model.index(faulty, 0)).center()
    driver.qtbot.mouseClick(view.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert "No score: python: the reward raised ValueError" in view.text.toPlainText()
    view.prompts.setCurrentIndex(1)
    assert "What is 16 + 2?" in view.text.toPlainText()


def test_the_latest_step_is_followed_until_one_is_picked(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    page = _start(driver, _recipe(steps=400))
    _open_tab(driver, page, "Steps")
    view = page.steps
    driver.wait(lambda: (view.step or 0) > 3)
    place = view.steps.visualItemRect(view.steps.item(1)).center()
    driver.qtbot.mouseClick(view.steps.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert view.step == 2
    seen = len(view.numbers)
    driver.wait(lambda: len(view.numbers) > seen + 2)
    assert view.step == 2
    assert view.steps.currentRow() == 1
    driver.click("latest-step")
    driver.wait(lambda: (view.step or 0) > seen + 3)
    driver.click("stop")
    _status(driver, "Stopped")


def test_a_click_on_a_chart_opens_the_answers_of_its_step(
    driver: Driver, finished: Finished
) -> None:
    page = finished()
    reward = page.charts["reward"]
    driver.wait(lambda: not reward.stale)
    _open_tab(driver, page, "Notes")
    at = reward._item.vb.mapViewToScene(QPointF(7.2, reward.main.values[6]))
    place = reward._plot.mapFromScene(at)
    driver.qtbot.mouseClick(reward._plot.viewport(), Qt.MouseButton.LeftButton, pos=place)
    driver.wait(lambda: page.tabs.currentWidget() is page.steps)
    assert page.steps.step == 7
    assert not page.steps.following


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("gone", "are gone"),
        ("torn", "are damaged"),
        ("folder", "cannot be read"),
        ("big", "more than is shown here"),
        ("none", "No answers of step 16 were kept."),
    ],
)
def test_answers_that_cannot_be_read_are_told_in_a_sentence(
    driver: Driver, finished: Finished, broken: str, words: str
) -> None:
    page = finished()
    path = page.folder / path_of(16)
    whole = path.read_bytes()
    path.unlink()
    if broken == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    elif broken == "folder":
        path.mkdir()
    elif broken == "big":
        with path.open("wb") as file:
            file.truncate(ANSWERS_BYTES + 1)
    elif broken == "none":
        path.write_bytes(msgspec.json.encode(Rollouts(16, ["format"], [1.0], [])))
    driver.window.open_run(page.run)
    driver.wait(lambda: words in page.steps.words)
    page.steps.pick(15)
    assert page.steps.words == ""
    assert page.steps.model.rowCount() == GROUP


def test_odd_answers_are_shown_all_the_same(driver: Driver) -> None:
    view = driver.window.run.steps
    one = Sampling("", [1.0], 1.0, -0.5, 0, False)
    long = Sampling("<b>x</b>\r\n" * 2000, [], None, 0.25, 9, True, ["a <fault>"])
    view.show_rollouts(Rollouts(1, ["r"], [1.0], [Group("p " * 500, "", [one, long])]))
    assert view.text.toPlainText().startswith("<b>x</b>\n<b>x</b>")
    assert "No score: a <fault>" in view.text.toPlainText()
    assert [view.model.index(0, column).data() for column in range(4)] == [
        "+0.25", "none", "none", "9, cut off",
    ]  # fmt: skip
    view.table.selectRow(1)
    assert "(an empty answer)" in view.text.toPlainText()
    assert len(view.prompts.itemText(0)) < 120


# Samples


def test_the_first_answer_stands_beside_the_latest(driver: Driver, finished: Finished) -> None:
    page = finished()
    _open_tab(driver, page, "Samples")
    driver.wait(lambda: "Now, step 16" in page.samples.toPlainText())
    text = page.samples.toPlainText()
    assert text.index("What is 1 + 1?") < text.index("First, step 0") < text.index("Now, step 16")
    assert text.count("What is 1 + 1?") == 1
    assert "Step 10   2" in text


def test_a_step_that_is_sampled_again_takes_the_old_answer_back(driver: Driver) -> None:
    view = FirstAndNow(driver.studio.theme)
    driver.qtbot.addWidget(view)
    for step, answer in ((0, "a"), (10, "old"), (20, "older"), (10, "new")):
        view.add(step, "p", answer)
    view.paint()
    assert "old" not in view.toPlainText()
    assert "Now, step 10\nnew" in view.toPlainText()
    for step in range(20, 4000, 10):
        view.add(step, "p", "x")
    assert len(view._answers["p"]) < 40
    assert view._answers["p"][0] == (0, "a")


# Pause


def test_a_pause_rests_and_resume_goes_on_without_a_gap(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    page = _start(driver, _recipe(steps=24))
    driver.wait(lambda: len(page.charts["reward"].main.steps) > 3)
    driver.click("pause")
    assert not page.pause.isEnabled()
    _status(driver, "Paused")
    paused = _said(page, Paused)[0]
    assert page.banner.isVisible()
    assert f"Paused when asked, after step {paused.step}." in page.banner.text
    assert page.banner.property("banner") == "info"
    assert page.phase.text() == f"step {paused.step} of 24"
    assert not page.stop.isVisible()
    assert not page.pause.isVisible()
    driver.wait(lambda: not driver.studio.jobs.has_child(page.run))  # the paused worker has left
    driver.click("resume")
    _status(driver, "Running")
    assert not page.banner.isVisible()
    assert page.pause.isEnabled()
    _status(driver, "Finished")
    assert [event.step for event in _said(page, Resumed)] == [paused.step]
    assert page.charts["reward"].main.steps == list(range(1, 25))
    assert list(page.rollouts) == list(range(1, 25))
    assert f"Resumed after step {paused.step}" in page.notes.toPlainText()


def test_a_pause_by_the_coach_says_why_and_what_to_change_once(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    page = _start(driver, _recipe("sick", 400))
    driver.wait(page.health.isVisible)
    driver.click("pause")
    _status(driver, "Paused")
    assert page.health.isVisible()
    meaning = page.findings.shown[0].meaning  # type: ignore[index]
    driver.studio.store.set_status(
        page.run, "paused", f"Paused by the health coach: {meaning}", "R."
    )
    page.invalidate()
    driver.wait(lambda: meaning in page.banner.text)
    assert "Raise the temperature" in page.banner.text
    assert not page.health.isVisible()


def test_a_sample_is_taken_when_asked(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    quiet = msgspec.structs.replace(_recipe(steps=400), evaluation=Evaluation())
    page = _start(driver, quiet)
    driver.wait(lambda: len(page.charts["reward"].main.steps) > 2)
    assert len(_said(page, Sampled)) == 1
    driver.click("sample-now")
    assert page.tabs.currentWidget() is page.samples
    driver.wait(lambda: "Now, step" in page.samples.toPlainText())
    driver.click("stop")
    _status(driver, "Stopped")


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
        _open_tab(driver, page, name)
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
    while not _settled(page):
        began = time.perf_counter()
        driver.window._on_tick()
        ticks.append(time.perf_counter() - began)
        assert len(ticks) < 500
    assert sorted(ticks)[len(ticks) // 2] < 0.1
    assert page.charts["reward"].main.steps == list(range(1, 3000))
    driver.wait(lambda: "note 4999" in page.notes.toPlainText())
