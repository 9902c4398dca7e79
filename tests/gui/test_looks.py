"""Every page in both themes: no word on a button is cut, text stands out from its ground."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QPoint
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from studio.draft import OPTIONS
from studio.theme import DARK, LIGHT, Appearance, Palette, Theme
from studio.widgets.form import OptionForm
from tests.gui.conftest import Driver


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", [(1000, 640), (1440, 900)])
def test_no_word_is_cut_or_pale(driver: Driver, look: str, size: tuple[int, int]) -> None:
    window = driver.window
    driver.studio.theme.choose(look)  # type: ignore[arg-type]
    window.resize(*size)
    for page in (
        window.train,
        window.data,
        window.rewards,
        window.runs,
        window.run,
        window.export,
        window.chat,
        window.hardware,
        window.settings,
    ):
        window.show_page(page)
        driver.qtbot.wait(10)
        for button in window.findChildren(QPushButton):
            if button.isVisible():
                assert button.width() >= button.minimumSizeHint().width(), button.text()
                assert button.height() >= button.fontMetrics().height(), button.text()
        for words in window.findChildren(QLabel):
            if words.isVisible() and words.text() and not words.wordWrap():
                wanted = words.fontMetrics().horizontalAdvance(words.text())
                assert words.width() >= wanted - 1, words.text()
            elif words.isVisible() and words.text():
                assert words.height() >= words.heightForWidth(words.width()), words.text()
        picture = _luminance_of(window.grab().toImage())
        for shown in (*window.findChildren(QLabel), *window.findChildren(QPushButton)):
            if shown.text() and shown.isEnabled() and _is_wholly_seen(shown):
                assert _contrast_within(picture, shown) >= 4.5, shown.text()


def test_words_that_cannot_be_read_are_found(qtbot: QtBot) -> None:
    box = QWidget()
    qtbot.addWidget(box)
    column = QVBoxLayout(box)
    for colour in ("black", "#eeeeee"):
        words = QLabel("words")
        words.setStyleSheet(f"background: white; color: {colour}")
        column.addWidget(words)
    picture = _luminance_of(box.grab().toImage())
    plain, pale = (_contrast_within(picture, words) for words in box.findChildren(QLabel))
    assert plain > 10
    assert pale < 1.5


def _is_wholly_seen(widget: QWidget) -> bool:
    return widget.isVisible() and widget.visibleRegion().boundingRect() == widget.rect()


def _luminance_of(picture: QImage) -> np.ndarray:
    """Relative luminance (WCAG 2.2), height by width, 0 to 1."""
    painted = picture.convertToFormat(QImage.Format.Format_RGB32)
    shape = (painted.height(), painted.bytesPerLine() // 4, 4)
    parts = np.frombuffer(painted.constBits(), np.uint8).reshape(shape)[:, :, 2::-1] / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def _contrast_within(luminance: np.ndarray, widget: QWidget) -> float:
    """Between the lightest and the darkest pixel of a widget in the picture of its window."""
    at = widget.mapTo(widget.window(), QPoint(0, 0))
    part = luminance[at.y() : at.y() + widget.height(), at.x() : at.x() + widget.width()]
    return (part.max() + 0.05) / (part.min() + 0.05)


def _luminance(colour: str) -> float:
    named = QColor(colour)
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
             for c in (named.redF(), named.greenF(), named.blueF())]  # fmt: skip
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_has_the_contrast_that_wcag_asks(palette: Palette) -> None:
    """At least 4.5:1 for text (WCAG 2.2, 1.4.3)."""

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    grounds = (palette.window, palette.surface, palette.sidebar, palette.accent_soft)
    for ground in grounds:
        for text in (palette.text, palette.muted):
            assert contrast(text, ground) >= 4.5, (text, ground)
    for text in (palette.good, palette.warning, palette.bad, palette.accent):
        assert contrast(text, palette.surface) >= 4.5, text
    assert contrast(palette.on_accent, palette.accent) >= 4.5
    assert contrast(palette.text, palette.bad_soft) >= 4.5
    assert all(QColor(colour).isValid() for colour in msgspec.structs.astuple(palette))


def test_the_arrows_of_folded_settings_follow_the_palette(qapp: QApplication) -> None:
    """They are no text, so that nothing else measures whether they are seen."""
    theme = Theme(qapp, "light")
    form = OptionForm([option for option in OPTIONS.values() if option.advanced], theme)
    looks: tuple[Appearance, ...] = ("light", "dark")
    for look in looks:
        theme.choose(look)
        image = form.folded.collapsedIcon().pixmap(64, 64).toImage()
        inks = {image.pixelColor(x, y).name() for x in range(64) for y in range(64)
                if image.pixelColor(x, y).alpha() == 255}  # fmt: skip
        assert inks == {theme.palette.muted}
    form.deleteLater()
    theme.deleteLater()
