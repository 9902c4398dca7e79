"""A box of choices that the mouse's wheel does not change while it scrolls the page under it."""

from __future__ import annotations

from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QComboBox


class ComboBox(QComboBox):
    """A combo box with its object name, and what it is called for those who do not see it."""

    def __init__(self, name: str = "", words: str = "", least_letters: int = 0) -> None:
        """With `least_letters` it stays so wide, however short its entries are."""
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(words)
        if least_letters:
            self.setMinimumContentsLength(least_letters)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()
