"""Charts in rows: as many side by side as there is room for in sight, all equally wide."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QScrollArea, QWidget

from studio.theme import SPACE
from studio.widgets.chart import WIDTH, Chart

GAP = SPACE + SPACE // 2
HEIGHT = 128
"""Height of the grid at least, in a low window with much to say."""


class ChartGrid(QScrollArea):
    """Scrolls down, never sideways."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Chart] = []
        holder = QWidget()
        holder.setObjectName("scrolled")
        self._grid = QGridLayout(holder)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(GAP)
        self.setObjectName("scroll")
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(HEIGHT)
        self.setWidget(holder)

    @property
    def room(self) -> int:
        """How many charts fit side by side in what is in sight."""
        return max(1, (self.viewport().width() + GAP) // (WIDTH + GAP))

    def show_charts(self, charts: list[Chart]) -> None:
        """Shows these, in this order, in place of those that were shown."""
        if charts == self.shown:
            return
        for made in self.shown:
            if made not in charts:
                self._grid.removeWidget(made)
                made.hide()
        self.shown = list(charts)
        self._place()

    def _place(self) -> None:
        columns = min(self.room, len(self.shown))
        for place, made in enumerate(self.shown):
            self._grid.addWidget(made, place // columns, place % columns)
            made.show()
        for column in range(self._grid.columnCount()):
            self._grid.setColumnStretch(column, int(column < columns))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Also comes when the scroll bar appears and takes some of the room."""
        super().resizeEvent(event)
        self._place()
