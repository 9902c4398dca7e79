"""The window as a user works it: by mouse and keyboard, over a real (fake) child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from studio.app import Studio
from studio.pages.runs import ago
from studio.paths import Home
from studio.settings import Settings, save_settings
from studio.widgets.notice import EmptyState
from studio.window import PAGES
from tests.conftest import end_all
from tests.gui.conftest import Driver, close
from workers.protocol import wire
from workers.protocol.events import Metrics
from workers.protocol.recipe import Recipe, format_recipe


def _metrics(studio: Studio, run: str, name: str = "loss") -> tuple[list[int], list[float]]:
    events = [line.event for line in wire.read_events(studio.jobs.folder(run))]
    points = [
        (e.step, e.values[name]) for e in events if isinstance(e, Metrics) and name in e.values
    ]
    return [step for step, _ in points], [value for _, value in points]  # type: ignore[misc]


def _walk_wizard(driver: Driver, name: str = "by hand", steps: str = "8") -> None:
    driver.begin()
    driver.click("choice:sft")
    driver.click("next")
    driver.click("choice:smollm2")
    driver.click("choice:lora")
    driver.click("next")
    driver.click("add-builtin")
    driver.click("next")
    driver.type("run-name", name)
    driver.type("field:training.max_steps", steps)
    driver.click("next")
    driver.click("start")


def _status(driver: Driver, word: str) -> None:
    driver.wait(lambda: driver.window.run.pill.text == word)


def test_a_first_start_welcomes_with_the_wizard(driver: Driver) -> None:
    assert driver.window.page is driver.window.train


def test_from_wizard_to_finished_run_with_exact_curves(driver: Driver, studio: Studio) -> None:
    _walk_wizard(driver)
    assert driver.window.page is driver.window.run
    _status(driver, "Finished")
    run = driver.window.run.run
    for name in ("loss", "entropy", "token_accuracy", "learning_rate"):
        chart = driver.window.run.charts[name]
        assert (chart.main.steps, chart.main.values) == _metrics(studio, run, name)
    assert driver.window.run.charts["loss"].other.steps == [0, 8]
    assert "3.000 → 0.500" in driver.window.run.scores.text()
    assert "What is 1 + 1?" in driver.window.run.samples.toPlainText()
    assert "max_steps = 8" in driver.window.run.recipe.toPlainText()
    assert driver.find("export").isEnabled()


def test_opening_a_run_in_its_midst_gives_the_same_curves(
    driver: Driver, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    _walk_wizard(driver, steps="30")
    driver.wait(lambda: len(driver.window.run.charts["loss"].main.steps) > 4)
    driver.go("Runs")
    driver.wait(lambda: driver.window.runs.model.rowCount() == 1)
    table = driver.window.runs.table
    row = table.visualRect(table.model().index(0, 0)).center()
    driver.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=row)
    assert driver.window.page is driver.window.run
    _status(driver, "Finished")
    chart = driver.window.run.charts["loss"]
    assert chart.main.steps == list(range(1, 31))
    assert (chart.main.steps, chart.main.values) == _metrics(studio, driver.window.run.run)


def test_training_outlives_the_window_and_a_new_one_shows_it_whole(
    qtbot: Any, qapp: QApplication, driver: Driver, studio: Studio, home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    _walk_wizard(driver, steps="40")
    driver.wait(lambda: len(driver.window.run.charts["loss"].main.steps) > 4)
    run = driver.window.run.run
    driver.window.clock.stop()
    seen = len(driver.window.run.charts["loss"].main.steps)
    second = Studio(qapp, home)
    second.window.show()
    try:
        other = Driver(qtbot, second)
        assert second.window.page is second.window.runs
        second.window.open_run(run)
        assert len(second.window.run.charts["loss"].main.steps) >= seen - 1
        _status(other, "Finished")
        chart = second.window.run.charts["loss"]
        assert chart.main.steps == list(range(1, 41))
    finally:
        close(second)


def test_a_killed_worker_is_told_within_three_seconds(
    driver: Driver, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    _walk_wizard(driver, steps="1000")
    driver.wait(lambda: len(driver.window.run.charts["loss"].main.steps) > 2)
    folder = studio.jobs.folder(driver.window.run.run)
    alive = msgspec.json.decode((folder / wire.ALIVE).read_bytes(), type=wire.Alive)
    os.kill(alive.pid, signal.SIGKILL)
    killed = time.monotonic()
    driver.wait(lambda: driver.window.run.banner.isVisible(), 3000)
    assert time.monotonic() - killed < 3.0
    assert driver.window.run.pill.text == "Failed"
    assert "signal 9" in driver.window.run.banner.text
    driver.click("resume")
    driver.wait(lambda: driver.window.run.pill.text == "Running")
    driver.click("stop")
    _status(driver, "Stopped")


def test_save_and_stop(driver: Driver, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    _walk_wizard(driver, steps="1000")
    driver.wait(lambda: len(driver.window.run.charts["loss"].main.steps) > 2)
    driver.click("save-now")
    driver.wait(lambda: "saved to" in driver.window.run.notes.toPlainText())
    assert driver.window.run.pill.text == "Running"
    driver.click("stop")
    _status(driver, "Stopped")
    assert driver.find("chat").isEnabled()
    _walk_wizard(driver, name="second", steps="1000")
    driver.wait(lambda: len(driver.window.run.charts["loss"].main.steps) > 2)
    driver.click("stop")
    _status(driver, "Stopped")


def test_a_refusal_is_shown_where_it_arose(driver: Driver) -> None:
    driver.begin()
    driver.click("next")
    driver.click("choice:hub")
    driver.type("hub-id", "nonsense")
    driver.click("next")
    assert "not a model id" in driver.find("banner").text
    driver.click("choice:smollm2")
    driver.click("next")
    driver.click("next")
    assert "No data is chosen" in driver.find("banner").text
    driver.type("data-path", "/none.jsonl")
    driver.click("add-file")
    driver.click("next")
    assert "There is no file at /none.jsonl" in driver.find("banner").text
    driver.click("remove:/none.jsonl")
    driver.click("add-builtin")
    driver.click("next")
    driver.type("field:training.batch_size", "-1")
    driver.click("next")
    assert "At least 0" in driver.find("banner").text
    driver.click("reset:training.batch_size")
    driver.click("next")
    assert driver.find("start").isEnabled()


def test_export_then_chat(driver: Driver, studio: Studio) -> None:
    _walk_wizard(driver)
    _status(driver, "Finished")
    driver.click("export")
    assert driver.window.page is driver.window.export
    driver.click("choice:gguf:Q8_0")
    driver.click("start-export")
    driver.wait(lambda: driver.find("start-export").isEnabled())
    assert driver.window.export.checks.isVisible()
    driver.click("chat:gguf:Q8_0")
    assert driver.window.page is driver.window.chat
    driver.wait(lambda: driver.window.chat.send.isEnabled())
    composer = driver.find("composer")
    driver.qtbot.keyClicks(composer, "good morning to you")
    driver.qtbot.keyClick(composer, Qt.Key.Key_Return)
    driver.wait(lambda: driver.find("send").isEnabled())
    turns = [(bubble.role, bubble.text) for bubble in driver.window.chat.bubbles.turns]
    assert turns == [
        ("user", "good morning to you"), ("assistant", "You said: good morning to you"),
    ]  # fmt: skip
    driver.click("new-chat")
    assert driver.window.chat.bubbles.turns == []


def test_an_answer_can_be_broken_off(
    driver: Driver, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    _walk_wizard(driver)
    _status(driver, "Finished")
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    driver.click("chat")
    driver.wait(lambda: driver.window.chat.send.isEnabled())
    composer = driver.find("composer")
    driver.qtbot.keyClicks(composer, "one two three four five six seven eight nine ten")
    driver.click("send")
    driver.wait(lambda: "You" in driver.window.chat.bubbles.turns[-1].text)
    driver.click("cancel-answer")
    driver.wait(lambda: driver.find("send").isEnabled())
    assert "ten" not in driver.window.chat.bubbles.turns[-1].text


def test_a_recipe_file_fills_the_wizard(driver: Driver, recipe: Recipe, tmp_path: Any) -> None:
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(recipe))
    driver.begin()
    driver.window.train.open_recipe(path)
    assert driver.window.train.recipe() == recipe
    assert "8 steps of 2 examples" in driver.window.train.review._words.text()
    path.write_text("nonsense = 1")
    driver.window.train.open_recipe(path)
    assert "nonsense" in driver.find("banner").text


def test_a_finished_run_can_be_built_upon(driver: Driver, studio: Studio) -> None:
    _walk_wizard(driver)
    _status(driver, "Finished")
    run = driver.window.run.run
    driver.window.runs.base_chosen.emit(run, "by hand")
    assert driver.window.train.recipe().model.base == f"run:{run}"


def test_pages_are_reached_by_keys_and_empty_ones_lead_on(driver: Driver) -> None:
    window = driver.window
    pages = [getattr(window, key) for key in PAGES]
    for number, page in enumerate(pages, start=1):
        driver.qtbot.keyClick(
            window, getattr(Qt.Key, f"Key_{number}"), Qt.KeyboardModifier.ControlModifier
        )
        assert window.page is page
    for page in (window.rewards, window.runs, window.run, window.export, window.chat):
        window.show_page(page)
        empty = page.findChild(EmptyState)
        assert empty is not None
        assert empty.isVisible()
        driver.qtbot.mouseClick(empty.action, Qt.MouseButton.LeftButton)
        assert window.page is window.train


def test_the_appearance_is_chosen_applied_and_kept(driver: Driver, studio: Studio) -> None:
    from studio.settings import load_settings

    driver.go("Settings")
    for look, dark in (("dark", True), ("light", False)):
        radio = driver.find(f"appearance:{look}")
        driver.qtbot.mouseClick(radio, Qt.MouseButton.LeftButton, pos=radio.rect().center() * 0.2)
        assert studio.theme.dark is dark
        assert load_settings(studio.home.settings).appearance == look


def test_the_clock_costs_little(driver: Driver, studio: Studio) -> None:
    """One tick with nothing new stays far below a frame; the bound is loose, the benchmark not."""
    assert driver.window.clock.interval() >= 50
    ticks = []
    for _ in range(50):
        began = time.perf_counter()
        driver.window._on_tick()
        ticks.append(time.perf_counter() - began)
    assert sorted(ticks)[25] < 0.1


WINDOW = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from studio.app import Studio
from studio.paths import Home
from studio.settings import Settings, save_settings
from workers.protocol.recipe import read_recipe
app = QApplication([])
studio = Studio(app, Home(Path(sys.argv[1])))
studio.window.show()
studio.window.train.show_recipe(read_recipe(Path(sys.argv[2])))
studio.window.train.wizard.finish.click()
app.exec()
"""


def test_a_killed_window_leaves_training_running(
    qtbot: Any, qapp: QApplication, home: Home, fake: Settings, recipe: Recipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    save_settings(home.settings, fake)
    training = msgspec.structs.replace(recipe.training, max_steps=40)
    file = tmp_path / "r.toml"
    file.write_text(format_recipe(msgspec.structs.replace(recipe, training=training)))
    window = subprocess.Popen([sys.executable, "-c", WINDOW, str(home.root), str(file)])

    def steps() -> list[int]:
        lines = [line for path in home.jobs.iterdir() for line in wire.read_events(path)]
        events = [line.event for line in lines]
        return [e.step for e in events if isinstance(e, Metrics) and "loss" in e.values]

    qtbot.waitUntil(lambda: len(steps()) > 3, timeout=20_000)
    window.kill()
    window.wait()
    at = len(steps())
    qtbot.waitUntil(lambda: len(steps()) > at + 3, timeout=10_000)
    later = Studio(qapp, home)
    later.window.show()
    try:
        run = later.store.jobs("train")[0].id
        later.window.open_run(run)
        _status(Driver(qtbot, later), "Finished")
        assert later.window.run.charts["loss"].main.steps == list(range(1, 41))
    finally:
        close(later)
        end_all(home)


def test_a_run_whose_date_cannot_be_read_is_listed_without_it() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert ago("2026-01-01T00:00:00+00:00", now) == "1 day ago"
    assert ago("2026-01-01T22:00:00", now) == "2 hours ago"
    assert ago("", now) == ago("yesterday", now) == ""
