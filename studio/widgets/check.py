"""A check box that is seen: its square is drawn in the palette's colours, ticked or not."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QCheckBox, QStyle, QStyleOptionButton

from studio.theme import Theme


class CheckBox(QCheckBox):
    """A check box; Fusion's own draws no square under a style sheet's transparent ground."""

    def __init__(self, text: str, theme: Theme) -> None:
        super().__init__(text)
        self._theme = theme

    def paintEvent(self, event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        square = self._part(QStyle.SubElement.SE_CheckBoxIndicator, option)
        words = self._part(QStyle.SubElement.SE_CheckBoxContents, option)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_square(painter, square)
        painter.setPen(QColor(self._theme.palette.text if self.isEnabled() else
                              self._theme.palette.faint))  # fmt: skip
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter, self.text())

    def _part(self, part: QStyle.SubElement, option: QStyleOptionButton) -> QRectF:
        return QRectF(self.style().subElementRect(part, option, self))

    def _paint_square(self, painter: QPainter, square: QRectF) -> None:
        palette, ticked = self._theme.palette, self.isChecked()
        marked = ticked or self.hasFocus()
        painter.setPen(QColor(palette.accent if marked else palette.muted))
        painter.setBrush(QColor(palette.accent if ticked else palette.surface))
        painter.drawRoundedRect(square.adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        if ticked:
            painter.setPen(QPen(QColor(palette.on_accent), 2))
            x, y, side = square.x(), square.y(), square.width()
            for one, other in (((0.22, 0.52), (0.42, 0.72)), ((0.42, 0.72), (0.78, 0.3))):
                painter.drawLine(
                    *(round(v) for v in (x + one[0] * side, y + one[1] * side,
                                         x + other[0] * side, y + other[1] * side))
                )  # fmt: skip
