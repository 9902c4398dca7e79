"""A dataset is checked from the wizard: its faults are told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel

from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.jobs import Inspect


def _words(driver: Driver) -> str:
    view = driver.window.train.data.check.view
    return "\n".join(found.text() for found in view.findChildren(QLabel))


def _check(driver: Driver, source: str) -> None:
    driver.go("Train")
    train = driver.window.train
    train.go_to(train._steps.index(train.data))
    driver.window.train.data.add(source)
    driver.click("check-data")


def test_findings_and_bad_lines_are_told(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,b\n")
    _check(driver, str(path))
    check = driver.window.train.data.check
    driver.wait(lambda: check.view.result is not None)
    driver.wait(lambda: check.start.isEnabled())
    words = _words(driver)
    assert "1 bad lines and 1 findings to look at." in words
    assert "Line 7 cannot be used." in words
    assert "The end is lost. 3 rows, 15%." in words
    assert "Raise the length.\nRow 2: What is 1 + 1?" in words
    assert "60% of the tokens are learnt" in words
    jobs = driver.studio.jobs
    task = wire.read_job(jobs.folder(jobs.store.jobs("inspect")[0].id)).task
    assert isinstance(task, Inspect)
    assert (task.source.source, task.stage, task.model) == (str(path), "sft", "starter")


def test_a_clean_set_is_left_in_peace(driver: Driver) -> None:
    _check(driver, "builtin:arithmetic")
    driver.wait(lambda: driver.window.train.data.check.view.result is not None)
    assert "Nothing is wrong with it." in _words(driver)


@pytest.mark.parametrize("name", ["gone.csv"])
def test_a_check_that_fails_says_why(driver: Driver, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("x")
    _check(driver, str(path))
    check = driver.window.train.data.check
    driver.wait(lambda: "It is gone." in check.state.text())
    assert check.start.isEnabled()


def test_the_card_is_there_only_with_data(driver: Driver) -> None:
    driver.go("Train")
    page = driver.window.train
    page.go_to(page._steps.index(page.data))
    assert not page.data.check.isVisible()
    page.data.add("builtin:arithmetic")
    assert page.data.check.isVisible()
    driver.click("remove:builtin:arithmetic")
    assert not page.data.check.isVisible()
