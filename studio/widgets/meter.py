"""One measure of the computer as it is now, and a line of its last minutes."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import label

HEIGHT = 44
LINE_PX = 1.5
Values = Sequence[float | None]


class Line(QWidget):
    """Values from left to right, the latest at the right end, from 0 to `most`; None is a gap."""

    def __init__(self, theme: Theme, length: int) -> None:
        """`length`: how many values fill the width."""
        super().__init__()
        self._theme = theme
        self._length = length
        self._values: Values = ()
        self._most = 100.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(160, HEIGHT)

    def show_values(self, values: Values, most: float) -> None:
        self._values, self._most = values, most
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        palette = self._theme.palette
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(palette.border), 1))
        floor = self.height() - 0.5
        painter.drawLine(QPointF(0, floor), QPointF(self.width(), floor))
        for path in self._paths():
            filled = QPainterPath(path)
            filled.lineTo(path.currentPosition().x(), floor)
            filled.lineTo(path.elementAt(0).x, floor)
            tint = QColor(palette.accent)
            tint.setAlphaF(0.14)
            painter.fillPath(filled, tint)
            painter.setPen(QPen(QColor(palette.accent), LINE_PX))
            painter.drawPath(path)
        painter.end()

    def _paths(self) -> list[QPainterPath]:
        """A path for each stretch of values without a gap."""
        paths: list[QPainterPath] = []
        last: QPointF | None = None
        for at, value in enumerate(self._values):
            point = None if value is None else self._point(at, value)
            if point is not None and last is None:
                paths.append(QPainterPath(point))
            elif point is not None:
                paths[-1].lineTo(point)
            last = point
        return paths

    def _point(self, at: int, value: float) -> QPointF:
        room = QRectF(0, LINE_PX, self.width(), self.height() - 2 * LINE_PX)
        back = len(self._values) - 1 - at
        share = min(max(value / self._most, 0.0), 1.0) if self._most else 0.0
        x = room.right() - back * room.width() / max(self._length - 1, 1)
        return QPointF(x, room.bottom() - share * room.height())


class Meter(QWidget):
    """A measure's name, its value in words, and its line."""

    def __init__(self, name: str, theme: Theme, length: int) -> None:
        super().__init__()
        self.setMinimumWidth(180)
        self.setAccessibleName(name)
        self.value = label("–", "label")
        self.line = Line(theme, length)
        head = QHBoxLayout()
        head.setSpacing(SPACE)
        head.addWidget(label(name, "muted"))
        head.addStretch(1)
        head.addWidget(self.value, 0, Qt.AlignmentFlag.AlignRight)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addLayout(head)
        column.addWidget(self.line)

    def show_value(self, words: str, values: Values, most: float = 100.0) -> None:
        """`most`: what reaches the top of the line."""
        self.value.setText(words)
        self.setAccessibleDescription(words)
        self.line.show_values(values, most)
