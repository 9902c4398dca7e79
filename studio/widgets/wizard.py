"""The frame of a wizard: the bar of its steps, a banner, the present step, and the way on."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.notice import Banner
from studio.widgets.stepbar import StepBar
from studio.widgets.text import button


class Wizard(QWidget):
    """Steps by their place among all of them; some may be passed over."""

    entered = Signal(int)
    """The place of a step that has become the present one."""
    next_asked = Signal()
    finished = Signal()

    def __init__(
        self, names: Sequence[str], steps: Sequence[QWidget], finish: str, theme: Theme
    ) -> None:
        super().__init__()
        self._steps = list(steps)
        self._shown = list(range(len(self._steps)))
        self._furthest = self.present = 0
        self._step_bar = StepBar(list(names), theme)
        self._step_bar.chosen.connect(self.go_to)
        self.banner = Banner(theme)
        self.back = button("Back", theme, name="back")
        self.forward = button("Next", theme, kind="primary", name="next")
        self.finish = button(finish, theme, "play", kind="primary", name="start")
        self.back.clicked.connect(lambda: self.go_by(-1))
        self.forward.clicked.connect(self.next_asked)
        self.finish.clicked.connect(self.finished)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._step_bar)
        column.addWidget(self.banner)
        column.addWidget(self._scrolled_steps(), 1)
        column.addLayout(self._foot())

    def _scrolled_steps(self) -> QScrollArea:
        """The steps alone scroll: faults above and buttons below are always to be seen."""
        inner = QWidget()
        inner.setObjectName("scrolled")
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, SPACE, 0)
        for step in self._steps:
            column.addWidget(step, 1)
        self._area = QScrollArea()
        self._area.setObjectName("scroll")
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setWidget(inner)
        return self._area

    def _foot(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.back)
        row.addStretch(1)
        row.addWidget(self.forward)
        row.addWidget(self.finish)
        return row

    def show_only(self, places: Sequence[int]) -> None:
        """Passes over all other steps."""
        if list(places) != self._shown:
            self._shown = list(places)
            self._step_bar.show_only(self._shown)

    def reach(self, place: int) -> None:
        """Lets the step bar lead as far as this step."""
        self._furthest = max(self._furthest, place)

    def go_to(self, place: int) -> None:
        self.banner.hide()
        self.reach(place)
        self.present = place
        # No stack: its pages out of sight would make it as tall as the tallest.
        for number, step in enumerate(self._steps):
            step.setVisible(number == place)
        self._area.verticalScrollBar().setValue(0)
        self._step_bar.mark(place, self._furthest)
        last = place == len(self._steps) - 1
        self.back.setVisible(place > 0)
        self.forward.setVisible(not last and place > 0)
        self.finish.setVisible(last)
        self.entered.emit(place)

    def go_by(self, steps: int) -> None:
        """Goes on, or back, among the steps that are not passed over."""
        self.go_to(self._shown[self._shown.index(self.present) + steps])
