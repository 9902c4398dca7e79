"""A few words in a row, one of which is chosen."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import button


class Chips(QWidget):
    chosen = Signal(str)

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__()
        self._theme, self._name = theme, name
        self._group = QButtonGroup(self)
        self._group.buttonClicked.connect(lambda made: self.chosen.emit(made.text()))
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(SPACE // 2)

    def offer(self, words: list[str], first: str = "") -> None:
        """Puts these in place of the others; what was chosen stays chosen if it is among them,
        else `first` is."""
        if words == self.words:
            return
        present = self.value if self.value in words else first
        for made in self._group.buttons():
            self._group.removeButton(made)
            made.hide()
            made.deleteLater()
        for word in words:
            made = button(word, self._theme, kind="chip", name=f"{self._name}:{word}")
            made.setCheckable(True)
            made.setChecked(word == (present if present in words else words[0]))
            self._group.addButton(made)
            self._row.addWidget(made)

    @property
    def words(self) -> list[str]:
        return [made.text() for made in self._group.buttons()]

    @property
    def value(self) -> str:
        """The chosen one; empty where there is none."""
        made = self._group.checkedButton()
        return made.text() if isinstance(made, QPushButton) else ""
