"""Where the keyboard goes when its control is disabled or hidden: never to another page."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QApplication, QWidget

from studio.widgets.page import Page
from studio.window import PAGES
from tests.gui.conftest import Driver
from workers.protocol.recipe import Recipe


@pytest.fixture(autouse=True)
def _active(driver: Driver) -> None:
    driver.window.activateWindow()
    driver.wait(driver.window.isActiveWindow)


def _focus(driver: Driver) -> QWidget:
    found = QApplication.focusWidget()
    assert found is not None
    return found


def _press(driver: Driver, key: Qt.Key) -> None:
    driver.qtbot.keyClick(_focus(driver), key)


def _last_stop(page: Page) -> QWidget | None:
    """The last control of a page that Tab leads to."""
    stops = [
        found for found in page.findChildren(QWidget)
        if found.focusPolicy() & Qt.FocusPolicy.TabFocus and found.isVisible() and found.isEnabled()
    ]  # fmt: skip
    ahead = {id(found): found for found in stops}
    at, last = page.nextInFocusChain(), None
    while at is not None and at is not page:
        last = ahead.get(id(at), last)
        at = at.nextInFocusChain()
    return last


@pytest.mark.parametrize("lost", ["disabled", "hidden", "with its holder"])
def test_focus_stays_on_the_page(driver: Driver, lost: str) -> None:
    for key in PAGES:
        _lose(driver, getattr(driver.window, key), lost)


def _lose(driver: Driver, page: Page, lost: str) -> None:
    driver.window.show_page(page)
    made = _last_stop(page)
    assert made is not None
    made.setFocus()
    assert _focus(driver) is made
    holder = made.parentWidget()
    if lost == "disabled":
        made.setEnabled(False)
    elif lost == "hidden" or holder is None or holder is page.title.parentWidget():
        made.hide()
    else:
        holder.hide()
    assert page.isAncestorOf(_focus(driver)), page.title.text()


def test_pages_are_built_without_taking_the_focus_from_the_window(driver: Driver) -> None:
    shown = []

    class Spy(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Show and isinstance(watched, QWidget):
                shown.extend([watched] if watched.isWindow() else [])
            return False

    spy = Spy(driver.window)
    app = QApplication.instance()
    assert app is not None
    app.installEventFilter(spy)
    for key in PAGES:
        getattr(driver.window, key)
    app.removeEventFilter(spy)
    assert shown == []
    assert driver.window.isActiveWindow()


def test_tab_goes_on_from_where_the_focus_was(driver: Driver) -> None:
    driver.window.show_page(driver.window.data)
    path, file = driver.find("browse-path"), driver.find("open-data-file")
    path.setFocus()
    path.setEnabled(False)
    _press(driver, Qt.Key.Key_Tab)
    assert _focus(driver) is file
    file.setEnabled(False)
    file.setEnabled(True)
    _press(driver, Qt.Key.Key_Tab)
    assert _focus(driver) is file  # it is back, and so is the focus
    _press(driver, Qt.Key.Key_Tab)
    assert _focus(driver) is driver.find("open-data-folder")


def test_a_space_after_export_leads_nowhere(driver: Driver, recipe: Recipe) -> None:
    run = driver.studio.jobs.train(recipe)
    driver.window.open_run(run)
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    driver.window.run.export_asked.emit(run)
    page = driver.window.export
    driver.find("start-export").setFocus()
    _press(driver, Qt.Key.Key_Space)
    assert not page.start.isEnabled()
    assert page.isAncestorOf(_focus(driver))
    _press(driver, Qt.Key.Key_Space)
    driver.wait(page.start.isEnabled)
    _press(driver, Qt.Key.Key_Space)
    assert driver.window.page is page
    assert len(driver.studio.store.jobs("export")) == 1


def test_next_at_last_does_not_lead_to_another_page(driver: Driver, recipe: Recipe) -> None:
    train = driver.window.train
    train.show_recipe(recipe)
    train.go_to(train.settings)
    driver.find("next").setFocus()
    _press(driver, Qt.Key.Key_Space)
    assert train.review.isVisible()
    assert train.isAncestorOf(_focus(driver))
    _press(driver, Qt.Key.Key_Space)
    assert driver.window.page is train
    assert not driver.studio.store.jobs("train")
    _press(driver, Qt.Key.Key_Tab)
    assert _focus(driver) is driver.find("start")


def test_a_message_that_was_sent_leaves_the_focus_where_one_writes(
    driver: Driver, recipe: Recipe
) -> None:
    run = driver.studio.jobs.train(recipe)
    driver.window.open_run(run)
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    driver.window.run.chat_asked.emit(run)
    chat = driver.window.chat
    driver.wait(chat.send.isEnabled)
    driver.type("composer", "good morning")
    driver.click("send")
    assert _focus(driver) is chat.composer
