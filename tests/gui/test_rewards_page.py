"""The Rewards page over a fake bench in a real child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QApplication, QWidget

from studio.app import Studio
from studio.pages.rewards import RewardsPage
from studio.paths import Home
from studio.settings import Settings
from studio.widgets.bench import Histogram, ShareBar, counted, in_words
from tests.conftest import played_by
from tests.fakes.bench import result
from tests.gui.conftest import Driver, close
from workers.protocol import wire
from workers.protocol.bench import Agreement
from workers.protocol.jobs import Bench
from workers.protocol.recipe import Recipe, Training, format_recipe
from workers.protocol.rewards import Format, MathAnswer

FAKE = Path(__file__).parents[1] / "fakes" / "bench.py"


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """Settings under which every job is played by the fake bench."""
    return played_by(FAKE, tmp_path)


@pytest.fixture
def checked(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        stage="grpo",
        training=Training(batch_size=8),
        rewards=[MathAnswer(), Format(weight=0.2)],
    )


def _try(driver: Driver, recipe: Recipe, name: str = "") -> None:
    """Fills the wizard, opens the page from its step and presses Try."""
    named = msgspec.structs.replace(recipe, name=name or recipe.name)
    driver.go("Train")
    driver.window.train.show_recipe(named)
    driver.click("step:Rewards")
    driver.click("try-rewards")
    assert driver.window.page is driver.window.rewards
    driver.click("start-bench")


def _over(driver: Driver) -> None:
    page = driver.window.rewards
    driver.wait(lambda: page.start.isEnabled() and not page.cancel.isVisible())


def test_a_result_is_shown_and_stays(driver: Driver, studio: Studio, checked: Recipe) -> None:
    _try(driver, checked)
    _over(driver)
    view = driver.window.rewards.view
    assert view.result == result(["math_answer", "format"], 64)
    assert view.verdict.text() == "These rewards hold up"
    assert [sum(drawn.counts) for drawn in view.findChildren(Histogram)] == [64]
    assert len(view.findChildren(ShareBar)) == 6
    tips = [widget.toolTip() for widget in view.findChildren(QWidget)]
    assert any("\\boxed{5}" in tip for tip in tips)
    assert not driver.window.rewards.banner.isVisible()
    driver.go("Runs")
    driver.go("Rewards")
    assert view.isVisible()
    later = RewardsPage(studio.jobs, studio.theme)
    later.showEvent(QShowEvent())
    assert later.view.result == view.result
    later.deleteLater()
    task = wire.read_job(studio.jobs.folder(studio.store.jobs("bench")[0].id)).task
    assert isinstance(task, Bench)
    assert (task.samples, task.recipe.rewards) == (64, checked.rewards)


def test_a_later_window_shows_the_last_try(
    qtbot: Any, qapp: QApplication, driver: Driver, home: Home, checked: Recipe
) -> None:
    _try(driver, checked)
    _over(driver)
    _try(driver, checked, "hangs")
    driver.wait(lambda: driver.window.rewards.phase.text() == "Sampling 64 answers")
    driver.window.clock.stop()
    second = Studio(qapp, home)
    second.window.show()
    try:
        other = Driver(qtbot, second)
        other.go("Rewards")
        assert second.window.rewards.phase.text() == "Sampling 64 answers"
        other.click("cancel-bench")
        other.wait(lambda: not second.window.rewards.cancel.isVisible())
    finally:
        close(second)


def test_rewards_that_can_be_gamed_are_told_with_remedies(driver: Driver, checked: Recipe) -> None:
    _try(driver, checked, "gamed")
    _over(driver)
    page = driver.window.rewards
    assert page.view.verdict.text() == "These rewards can be gamed"
    words = [label.text() for label in page.view.findChildren(type(page.view.verdict))]
    assert any("can be exploited" in text for text in words)
    assert any("repetition reward" in text for text in words)
    assert "83%" in words


def test_adversarial_answers_alone_need_no_model(driver: Driver, checked: Recipe) -> None:
    driver.go("Rewards")
    driver.window.rewards.samples.setCurrentIndex(2)
    _try(driver, checked)
    _over(driver)
    view = driver.window.rewards.view
    assert view.result is not None
    assert view.result.samples == 0
    assert not view.findChildren(Histogram)


@pytest.mark.parametrize(("name", "told"), [("fails", "It failed."), ("dies", "signal 9")])
def test_a_failure_is_told(driver: Driver, checked: Recipe, name: str, told: str) -> None:
    _try(driver, checked, name)
    _over(driver)
    assert told in driver.find("banner").text
    assert driver.window.rewards.view.result is None
    _try(driver, checked, "well")
    _over(driver)
    assert not driver.window.rewards.banner.isVisible()
    assert driver.window.rewards.view.isVisible()


def test_a_try_can_be_called_off(driver: Driver, studio: Studio, checked: Recipe) -> None:
    _try(driver, checked, "hangs")
    page = driver.window.rewards
    driver.wait(lambda: page.phase.text() == "Sampling 64 answers")
    assert page.progress.isVisible()
    assert not page.source.isEnabled()
    driver.click("cancel-bench")
    _over(driver)
    assert studio.store.jobs("bench")[0].status == "stopped"
    assert not page.progress.isVisible()
    assert not page.banner.isVisible()


def test_what_cannot_be_used_is_not_tried(driver: Driver, checked: Recipe) -> None:
    driver.go("Train")
    driver.window.train.show_recipe(checked)
    driver.click("step:Rewards")
    driver.type("field:rewards.1.pattern", "(")
    driver.click("try-rewards")
    assert driver.window.page is driver.window.train
    assert "Not a regular expression" in driver.find("banner").text


def test_what_is_impossible_is_refused_in_place(driver: Driver, checked: Recipe) -> None:
    _try(driver, msgspec.structs.replace(checked, data=[]))
    assert "data is missing" in driver.find("banner").text


def test_an_empty_page_leads_on_and_ready_recipes_can_be_tried(driver: Driver) -> None:
    driver.go("Rewards")
    page = driver.window.rewards
    assert not page.start.isEnabled()
    assert page._empty.isVisible()
    page.source.setCurrentIndex(page.source.findText("Quick tour"))
    assert not page._empty.isVisible()
    assert page.recipe is not None
    assert (page.recipe.name, page.recipe.model.base) == ("checked-sums", "starter")
    driver.click("start-bench")
    _over(driver)
    assert page.view.isVisible()


def test_a_recipe_file_can_be_tried(
    driver: Driver, checked: Recipe, recipe: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(recipe))
    driver.go("Rewards")
    page = driver.window.rewards
    page.open_file(path)
    assert "has no rewards" in driver.find("banner").text
    path.write_text(format_recipe(checked))
    page.open_file(path)
    assert page.recipe == checked
    assert page.source.currentText() == "small"


def test_a_histogram_counts_every_value() -> None:
    assert counted([0.0, 0.5, 1.0, 1.0], 2) == [1, 3]
    assert sum(counted([0.3] * 5)) == 5
    assert sum(counted([])) == 0


@pytest.mark.parametrize(
    ("correlation", "words"),
    [(0.95, "one of them may do"), (0.5, "mostly agree"), (0.0, "different"), (-0.9, "against")],
)
def test_agreement_is_told_in_words(correlation: float, words: str) -> None:
    assert words in in_words(Agreement("a", "b", correlation))
