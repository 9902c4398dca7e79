"""Where the user writes: Enter sends, Shift+Enter breaks the line."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit


class Composer(QPlainTextEdit):
    """A few lines of text; `take` empties it."""

    sent = Signal()

    def __init__(self, name: str = "composer", height: int = 72) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Your message")
        self.setPlaceholderText("Say something.  Enter sends, Shift+Enter begins a new line.")
        self.setFixedHeight(height)
        self.setTabChangesFocus(True)

    def take(self) -> str:
        """What was written, without blank edges; leaves nothing behind."""
        text = self.toPlainText().strip()
        self.clear()
        return text

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)
