"""Every page in both themes: no word on a button is cut, text stands out from its ground."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QLabel, QPushButton

from studio.theme import DARK, LIGHT, Palette
from tests.gui.conftest import Driver


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", [(1000, 640), (1440, 900)])
def test_no_word_is_cut(driver: Driver, look: str, size: tuple[int, int]) -> None:
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
        picture = window.grab().toImage()
        assert picture.width() >= size[0]


def _luminance(colour: str) -> float:
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
             for c in QColor(colour).getRgbF()[:3]]  # fmt: skip
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
