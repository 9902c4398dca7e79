"""A log's tail: bounded, monospaced, staying at the end unless the reader scrolled up."""

from __future__ import annotations

from PySide6.QtGui import QTextOption
from PySide6.QtWidgets import QPlainTextEdit

from studio.theme import fixed_font

MOST_LINES = 5000


class LogView(QPlainTextEdit):
    """Read-only text that grows at its end."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setMaximumBlockCount(MOST_LINES)
        self.setFont(fixed_font())
        self.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)
        self.setAccessibleName(name)

    def append_text(self, text: str) -> None:
        """Adds whole lines. A progress bar's carriage returns become line breaks."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
        if not lines:
            return
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        self.appendPlainText(lines)
        if at_end:
            bar.setValue(bar.maximum())
