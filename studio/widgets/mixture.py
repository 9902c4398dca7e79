"""What shares of a mixture its sources have: a bar with one segment a source, and a legend."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.theme import SPACE, Theme
from workers.protocol.sources import BUILTIN, short_name

BAR = 2 * SPACE
SWATCH = SPACE + 2
STRENGTHS = (1.0, 0.55, 0.3, 0.8, 0.42, 0.2)
"""How much of the accent colour the segments have, one after another; neighbours differ."""
Shares = list[tuple[str, float]]


class MixtureBar(QWidget):
    """Weights are taken as parts of their sum, so that the shares come to 1."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.shares: Shares = []
        self.setObjectName("mixture")
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        theme.changed.connect(self.update)
        self.show_weights([])

    def show_weights(self, weights: list[tuple[str, float]]) -> None:
        """Sources and their weights above 0."""
        whole = sum(weight for _, weight in weights)
        self.shares = [
            (short_name(source.removeprefix(BUILTIN)), weight / whole)
            for source, weight in weights
            if weight > 0
        ]
        self.setAccessibleName("Mixture: " + ", ".join(map(_words, self.shares)))
        self.setToolTip("\n".join(map(_words, self.shares)))
        self.setVisible(len(self.shares) > 1)
        self.updateGeometry()
        self.update()

    def _entries(self, width: float) -> list[tuple[str, float, float]]:
        """The legend's entries, each with its corner, wrapped at a width."""
        metrics = QFontMetricsF(self.font())
        placed: list[tuple[str, float, float]] = []
        x, y = 0.0, float(BAR + SPACE)
        for share in self.shares:
            long = SWATCH + SPACE + metrics.horizontalAdvance(_words(share)) + 2 * SPACE
            if x and x + long > width:
                x, y = 0.0, y + metrics.height() + SPACE // 2
            placed.append((_words(share), x, y))
            x += long
        return placed

    def heightForWidth(self, width: int) -> int:
        entries = self._entries(width)
        return round(entries[-1][2] + QFontMetricsF(self.font()).height()) if entries else BAR

    def sizeHint(self) -> QSize:
        return QSize(40 * SPACE, self.heightForWidth(max(self.width(), 40 * SPACE)))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        x, high = 0.0, QFontMetricsF(self.font()).height()
        for number, (_, share) in enumerate(self.shares):
            width = share * self.width()
            self._paint_box(painter, number, QRectF(x, 0, max(1.0, width - 2), BAR))
            x += width
        for number, (words, left, top) in enumerate(self._entries(self.width())):
            middle = top + (high - SWATCH) / 2
            self._paint_box(painter, number, QRectF(left, middle, SWATCH, SWATCH))
            painter.setPen(QColor(self._theme.palette.text))
            room = QRectF(left + SWATCH + SPACE, top, self.width(), high)
            painter.drawText(room, words)

    def _paint_box(self, painter: QPainter, number: int, box: QRectF) -> None:
        colours = self._theme.palette
        fill = QColor(colours.accent)
        fill.setAlphaF(STRENGTHS[number % len(STRENGTHS)])
        painter.setPen(QPen(QColor(colours.accent), 1))
        painter.setBrush(fill)
        painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)


def _words(share: tuple[str, float]) -> str:
    return f"{share[0]} {share[1]:.0%}"
