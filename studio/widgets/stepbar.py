"""A wizard's steps by name: the present one marked, earlier ones one click away."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import button


class StepBar(QWidget):
    """Numbered steps in a row."""

    chosen = Signal(int)

    def __init__(self, names: list[str], theme: Theme) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2 * SPACE)
        self._names = names
        self._buttons = [button(name, theme, kind="step", name=f"step:{name}") for name in names]
        for index, made in enumerate(self._buttons):
            made.setCheckable(True)
            made.clicked.connect(lambda _=False, at=index: self.chosen.emit(at))
            row.addWidget(made, 1)
        self.show_only(range(len(names)))
        self.mark(0, 0)

    def show_only(self, steps: Iterable[int]) -> None:
        """Shows and numbers these steps, by their place among all of them."""
        shown = list(steps)
        for index, (name, made) in enumerate(zip(self._names, self._buttons, strict=True)):
            made.setVisible(index in shown)
            if index in shown:
                made.setText(f"{shown.index(index) + 1}  {name}")

    def mark(self, present: int, furthest: int) -> None:
        """Marks the present step; steps beyond the furthest reached cannot be clicked."""
        for index, made in enumerate(self._buttons):
            made.setChecked(index == present)
            made.setEnabled(index <= furthest)
