"""One of two answers side by side."""

from __future__ import annotations

from PySide6.QtWidgets import QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from studio.theme import SPACE
from studio.widgets.text import label


class Side(QWidget):
    """One answer, growing as it comes, and after the vote who gave it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._streamed = ""
        self.title = label(name, "label")
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setObjectName(f"answer-{name.lower()}")
        self.text.setAccessibleName(f"{name} answer")
        self.text.setMinimumHeight(64)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.title)
        column.addWidget(self.text, 1)

    def begin(self) -> None:
        self._streamed = ""
        self.title.setText(self._name)
        self.text.setPlainText("…")

    def stream(self, piece: str) -> None:
        self._streamed += piece

    def settle(self, text: str) -> None:
        self._streamed = ""
        self.text.setPlainText(text or "(no words)")

    def reveal(self, model: str, *, won: bool) -> None:
        self.title.setText(f"{self._name}: {model}{', preferred' if won else ''}")

    def paint(self) -> None:
        if self._streamed and self.text.toPlainText() != self._streamed:
            self.text.setPlainText(self._streamed)
            bar = self.text.verticalScrollBar()
            bar.setValue(bar.maximum())
