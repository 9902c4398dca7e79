"""Another job has the graphics card: wait for it, or do without."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.notice import Banner
from studio.widgets.text import button


class WaitNotice(QWidget):
    """Says who has the card and offers the CPU; hidden while nothing is waited for."""

    cpu_chosen = Signal()

    def __init__(self, theme: Theme, name: str) -> None:
        """`name`: the button's object name."""
        super().__init__()
        self.banner = Banner(theme)
        self.on_cpu = button("Run on the CPU", theme, "cpu", name=name)
        self.on_cpu.clicked.connect(self._on_clicked)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(self.banner, 1)
        row.addWidget(self.on_cpu, 0, Qt.AlignmentFlag.AlignVCenter)
        self.hide()

    def ask(self, words: str) -> None:
        """`words`: what is waited for, and who has it; empty hides the question."""
        if not words:
            self.hide()
            return
        self.banner.inform(
            f"{words}.", "", "It begins when the GPU is free. On the CPU it begins now, slowly. "
            "Settings decides it for good.",
        )  # fmt: skip
        self.show()

    def _on_clicked(self) -> None:
        self.hide()
        self.cpu_chosen.emit()
