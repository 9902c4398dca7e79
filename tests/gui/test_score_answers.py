"""A reward model scores what is typed; over a fake one in a real process."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from studio.app import Studio
from studio.pages.rewards.score import ScoreView, in_words, preferred
from studio.settings import Settings
from tests.conftest import played_by
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.jobs import Score
from workers.protocol.recipe import Recipe

FAKE = Path(__file__).parents[1] / "fakes" / "score.py"


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """Settings under which every job is played by the fake reward model."""
    return played_by(FAKE, tmp_path)


@pytest.fixture
def run(driver: Driver, studio: Studio, recipe: Recipe) -> str:
    """A finished reward model."""
    made = studio.jobs.train(msgspec.structs.replace(recipe, name="judge", stage="reward"))

    def finished() -> bool:
        row = studio.store.job(made)
        return row is not None and row.status == "finished"

    driver.wait(finished)
    return made


def _open(driver: Driver) -> ScoreView:
    driver.go("Rewards")
    driver.window.rewards.tabs.setCurrentIndex(1)
    return driver.window.rewards.score


def test_answers_are_scored_as_they_are_typed(driver: Driver, studio: Studio, run: str) -> None:
    view = _open(driver)
    assert studio.store.jobs("score") == []
    driver.type("score-prompt", "What is 1 + 1?")
    driver.type("score-answer:1", "It is two, surely.")
    driver.type("score-answer:2", "Two.")
    driver.wait(lambda: "preferred" in view.verdict.text())
    assert [line.score.text() for line in view.lines] == ["+1.80", "+0.40"]
    share = 1 / (1 + math.exp(-1.4))
    assert f"probability of {share:.0%}" in view.verdict.text()
    driver.type("score-answer:2", "Two, and that is well known to everybody.")
    driver.wait(lambda: view.verdict.text().startswith("Answer 2 is preferred"))
    driver.click("add-answer")
    driver.type("score-answer:3", "unscored")
    driver.wait(lambda: view.lines[2].score.text() == "none")
    jobs = studio.store.jobs("score")
    assert len(jobs) == 1
    task = wire.read_job(studio.jobs.folder(jobs[0].id)).task
    assert isinstance(task, Score)
    assert task.model == f"run:{run}"


def test_leaving_the_tab_ends_the_worker(driver: Driver, studio: Studio, run: str) -> None:
    view = _open(driver)
    driver.type("score-prompt", "Well?")
    driver.type("score-answer:1", "Yes.")
    driver.wait(lambda: view.lines[0].score.text() != "")
    assert "add a second answer" in view.verdict.text()
    driver.window.rewards.tabs.setCurrentIndex(0)
    driver.wait(lambda: not studio.store.jobs("score")[0].live)
    assert studio.store.jobs("score")[0].status in ("finished", "stopped")


def test_a_worker_that_dies_is_told_and_started_anew(
    driver: Driver, studio: Studio, run: str
) -> None:
    view = _open(driver)
    driver.type("score-answer:1", "Yes.")
    driver.type("score-prompt", "who dies")
    driver.wait(lambda: view.banner.isVisible())
    assert "signal 9" in view.banner.text
    driver.type("score-prompt", "who lives")
    driver.wait(lambda: view.lines[0].score.text() == "+0.40")
    assert not view.banner.isVisible()


def test_without_a_reward_model_one_is_begun(driver: Driver) -> None:
    _open(driver)
    driver.qtbot.wait(10)
    driver.window.rewards.score._empty.action.click()
    assert driver.window.page is driver.window.train
    assert driver.window.train.recipe().stage == "reward"


def test_the_probability_is_bradley_terrys() -> None:
    assert preferred(1.0, 1.0) == 0.5
    assert preferred(2.0, 1.0) == pytest.approx(0.7310586)
    assert preferred(1.0, 2.0) == pytest.approx(1 - 0.7310586)
    assert preferred(1e9, -1e9) == pytest.approx(1.0)


def test_scores_are_told_in_words() -> None:
    assert in_words({}) == ""
    assert "second answer" in in_words({1: 0.3})
    assert in_words({1: 0.5, 2: 0.52}).startswith("Answers 2 and 1 are as good as equal")
    assert in_words({1: 0.0, 2: 3.0, 3: 0.0}).endswith("From best to worst: 2 > 1 = 3.")
