"""The Run page over runs that learn by reinforcement: completions of a step, samples, pause."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtCore import QPointF, Qt

from studio.pages.run.answers import ANSWERS_BYTES
from studio.widgets.completions import FirstAndNow
from tests.gui.conftest import Driver, Finished
from tests.gui.runs import GROUP, boxed_sums, events_of, open_tab, start_run, wait_for_status
from workers.protocol.events import Paused, Resumed, Sampled
from workers.protocol.recipe import Evaluation
from workers.protocol.rollouts import Group, Rollouts, Sampling, path_of

# Steps


def test_the_answers_of_a_step_stand_by_advantage(driver: Driver, finished: Finished) -> None:
    page = finished()
    open_tab(driver, page, "Steps")
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
    open_tab(driver, page, "Steps")
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
    page = start_run(driver, boxed_sums(steps=400))
    open_tab(driver, page, "Steps")
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
    wait_for_status(driver, "Stopped")


def test_a_click_on_a_chart_opens_the_answers_of_its_step(
    driver: Driver, finished: Finished
) -> None:
    page = finished()
    reward = page.charts["reward"]
    driver.wait(lambda: not reward.stale)
    open_tab(driver, page, "Notes")
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
    open_tab(driver, page, "Samples")
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
    page = start_run(driver, boxed_sums(steps=24))
    driver.wait(lambda: len(page.charts["reward"].main.steps) > 3)
    driver.click("pause")
    assert not page.pause.isEnabled()
    wait_for_status(driver, "Paused")
    paused = events_of(page, Paused)[0]
    assert page.banner.isVisible()
    assert f"Paused when asked, after step {paused.step}." in page.banner.text
    assert page.banner.property("banner") == "info"
    assert page.phase.text() == f"step {paused.step} of 24"
    assert not page.stop.isVisible()
    assert not page.pause.isVisible()
    driver.wait(lambda: not driver.studio.jobs.has_child(page.run))  # the paused worker has left
    driver.click("resume")
    wait_for_status(driver, "Running")
    assert not page.banner.isVisible()
    assert page.pause.isEnabled()
    wait_for_status(driver, "Finished")
    assert [event.step for event in events_of(page, Resumed)] == [paused.step]
    assert page.charts["reward"].main.steps == list(range(1, 25))
    assert list(page.rollouts) == list(range(1, 25))
    assert f"Resumed after step {paused.step}" in page.notes.toPlainText()


def test_a_pause_by_the_coach_says_why_and_what_to_change_once(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    page = start_run(driver, boxed_sums("sick", 400))
    driver.wait(page.health.isVisible)
    driver.click("pause")
    wait_for_status(driver, "Paused")
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
    quiet = msgspec.structs.replace(boxed_sums(steps=400), evaluation=Evaluation())
    page = start_run(driver, quiet)
    driver.wait(lambda: len(page.charts["reward"].main.steps) > 2)
    assert len(events_of(page, Sampled)) == 1
    driver.click("sample-now")
    assert page.tabs.currentWidget() is page.samples
    driver.wait(lambda: "Now, step" in page.samples.toPlainText())
    driver.click("stop")
    wait_for_status(driver, "Stopped")
