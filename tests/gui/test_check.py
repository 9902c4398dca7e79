"""A dataset is checked from the wizard: its faults are told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel

from studio.widgets.audit import examples_of
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.audit import AuditExample, AuditFinding
from workers.protocol.jobs import Inspect
from workers.protocol.recipe import Source


def _words(driver: Driver) -> str:
    view = driver.window.train.data.check.view
    return "\n".join(found.text() for found in view.findChildren(QLabel))


def _check(driver: Driver, source: str) -> None:
    driver.go("Train")
    train = driver.window.train
    train.go_to(train.data)
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
    assert "60% of the tokens are in the loss" in words
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


def test_what_was_said_of_a_removed_file_goes_with_it(driver: Driver, tmp_path: Path) -> None:
    gone, other = tmp_path / "gone.csv", tmp_path / "other.csv"
    gone.write_text("x")
    other.write_text("x")
    _check(driver, str(gone))
    check = driver.window.train.data.check
    driver.wait(lambda: "It is gone." in check.state.text())
    driver.click(f"remove:{gone}")
    driver.window.train.data.add(str(other))
    assert check.isVisible()
    assert not check.state.isVisible()
    driver.click("check-data")
    driver.wait(lambda: check.view.result is not None and check.start.isEnabled())
    driver.window.train.data.add("builtin:arithmetic")
    assert check.view.result is not None


def test_a_check_ends_with_the_file_that_it_was_of(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.5")
    path = tmp_path / "rows.csv"
    path.write_text("x")
    _check(driver, str(path))
    check = driver.window.train.data.check
    driver.wait(check.cancel.isVisible)
    driver.click(f"remove:{path}")
    driver.window.train.data.add("builtin:arithmetic")
    assert check.start.isEnabled()
    jobs = driver.studio.jobs
    driver.wait(lambda: not jobs.store.jobs("inspect")[0].live)
    assert check.view.result is None
    assert not check.state.isVisible()


def test_the_data_page_tells_nothing_of_the_file_before(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.5")
    page = driver.window.data
    driver.window.show_page(page)
    page.open(Source(source=str(tmp_path / "one.jsonl")))
    check = page.browser.check
    page._on_check()
    page.open(Source(source=str(tmp_path / "two.jsonl")))
    jobs = driver.studio.jobs
    driver.wait(lambda: not jobs.store.jobs("inspect")[0].live)
    assert check.view.result is None
    assert not check.state.text()


def test_the_card_is_there_only_with_data(driver: Driver) -> None:
    driver.go("Train")
    page = driver.window.train
    page.go_to(page.data)
    assert not page.data.check.isVisible()
    page.data.add("builtin:arithmetic")
    assert page.data.check.isVisible()
    driver.click("remove:builtin:arithmetic")
    assert not page.data.check.isVisible()


def test_examples_of_one_text_are_told_together() -> None:
    finding = AuditFinding(
        kind="template_refuses", level="alarm", count=3, share=1.0, meaning="So.", remedy="Mend.",
        examples=[AuditExample(row=1, text="No tools."), AuditExample(row=4, text="No tools."),
                  AuditExample(row=6, text="")],
    )  # fmt: skip
    assert examples_of(finding) == "Rows 1, 4: No tools.; row 6"
