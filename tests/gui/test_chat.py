"""The Chat page while a model loads: one may write, and only sending waits."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.recipe import Recipe


@pytest.fixture
def folders(driver: Driver, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two finished runs; what is started after them takes its time."""
    jobs = driver.studio.jobs
    made = [jobs.train(msgspec.structs.replace(recipe, name=name)) for name in ("one", "two")]

    def finished() -> bool:
        rows = [driver.studio.store.job(run) for run in made]
        return all(row is not None and row.status == "finished" for row in rows)

    driver.wait(finished)
    monkeypatch.setenv("FAKE_STEP_S", "0.5")
    return [str(jobs.folder(run)) for run in made]


def _write(driver: Driver, text: str) -> None:
    for letter in text:
        focus = QApplication.focusWidget()
        assert focus is not None
        driver.qtbot.keyClicks(focus, letter)


def test_what_is_typed_while_a_model_loads_stands_in_the_composer(
    driver: Driver, folders: list[str]
) -> None:
    driver.go("Chat")
    chat = driver.window.chat
    chat.open(folders[0])
    chat.models.setFocus()
    driver.qtbot.mouseClick(chat.composer, Qt.MouseButton.LeftButton)
    _write(driver, "two and two")
    assert not chat.session.ready
    assert chat.models.currentData() == folders[0]
    assert chat.composer.toPlainText() == "two and two"
    assert not chat.send.isEnabled()
    driver.qtbot.keyClick(chat.composer, Qt.Key.Key_Return)
    assert chat.composer.toPlainText() == "two and two"
    assert not chat.bubbles.turns
    driver.wait(chat.send.isEnabled)
    driver.click("send")
    assert chat.bubbles.turns[0].text == "two and two"


def test_loading_does_not_take_the_focus_from_what_is_being_written(
    driver: Driver, folders: list[str]
) -> None:
    driver.go("Chat")
    chat = driver.window.chat
    chat.open(folders[0])
    chat.system.setFocus()
    _write(driver, "You are")
    driver.wait(chat.send.isEnabled)
    _write(driver, " brief")
    assert chat.system.toPlainText() == "You are brief"


def test_thinking_is_asked_for_where_the_model_has_a_switch(
    driver: Driver, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    driver.go("Chat")
    chat = driver.window.chat
    field = chat.sampling.fields["thinking"]
    chat.open(folders[0])
    driver.wait(chat.send.isEnabled)
    assert not field.isVisible()
    monkeypatch.setenv("FAKE_THINKING", "on")
    chat.open(folders[1])
    driver.wait(chat.send.isEnabled)
    assert field.isVisible()
    field.set_value("off")
    chat.composer.setPlainText("two and two")
    driver.click("send")
    folder = driver.studio.jobs.folder(driver.studio.store.jobs("chat")[0].id)
    driver.wait(lambda: '"thinking":"off"' in (folder / wire.REQUESTS).read_text())


def test_one_may_write_in_the_arena_before_both_are_there(
    driver: Driver, folders: list[str]
) -> None:
    driver.go("Chat")
    driver.click("compare")
    arena = driver.window.chat.arena
    for box, folder in zip(arena.models, folders, strict=True):
        box.setCurrentIndex(box.findData(folder))
        box.activated.emit(box.currentIndex())
    driver.qtbot.mouseClick(arena.composer, Qt.MouseButton.LeftButton)
    _write(driver, "hello")
    assert not arena._ready
    assert arena.composer.toPlainText() == "hello"
    driver.wait(arena.send.isEnabled)
    driver.qtbot.keyClick(arena.composer, Qt.Key.Key_Return)
    driver.wait(arena.votes["left"].isVisible)
    _write(driver, "next")
    driver.qtbot.keyClick(arena.composer, Qt.Key.Key_Return)
    assert arena.composer.toPlainText() == "next"  # a vote comes first
