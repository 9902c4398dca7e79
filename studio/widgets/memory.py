"""A stacked bar of what lies in memory, with the band of the estimate and the lines of cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy, QToolTip, QVBoxLayout, QWidget

from studio.theme import RADIUS, SPACE, Theme
from studio.widgets.text import label

BAR = 24
"""Height of the bar, in pixels."""
MARGIN = 1.06
"""How much wider the scale is than the largest figure on it."""


class Segment(NamedTuple):
    """A part of the bar."""

    name: str
    size: int
    """In bytes, as all sizes here."""
    words: str
    """The size for people."""
    ink: str
    """One of the palette's colours."""
    strength: float = 1.0


class Mark(NamedTuple):
    """The memory of a card."""

    size: int
    words: str
    strong: bool = False
    """Whether it is the card that counts."""


class Band(NamedTuple):
    """Between which figures the truth lies."""

    low: int
    high: int


class Bar(QWidget):
    """The bar alone. A part says what it is when the mouse is over it."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._segments: Sequence[Segment] = ()
        self._marks: Sequence[Mark] = ()
        self._band = Band(0, 0)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(self.sizeHint().height())
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(320, self._top + BAR + SPACE)

    def show_parts(self, segments: Sequence[Segment], band: Band, marks: Sequence[Mark]) -> None:
        self._segments, self._band, self._marks = segments, band, marks
        self.update()

    @property
    def _top(self) -> int:
        """Above the bar are the words of the marks."""
        return self.fontMetrics().height() + SPACE // 2

    @property
    def _scale(self) -> float:
        """Pixels a byte."""
        most = max(self._band.high, *(mark.size for mark in self._marks), 1)
        return self.width() / (most * MARGIN)

    def places(self) -> list[tuple[Segment, QRectF]]:
        """Each part with where it is drawn."""
        left, found = 0.0, []
        for segment in self._segments:
            width = segment.size * self._scale
            found.append((segment, QRectF(left, self._top, width, BAR)))
            left += width
        return found

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        at = event.position()
        over = next((one for one, place in self.places() if place.contains(at)), None)
        words = f"{over.name}: {over.words}" if over else ""
        QToolTip.showText(event.globalPosition().toPoint(), words, self)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        palette = self._theme.palette
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(palette.raised))
        painter.drawRoundedRect(QRectF(0, self._top, self.width(), BAR), RADIUS / 2, RADIUS / 2)
        for segment, place in self.places():
            painter.fillRect(place, tinted(self._theme, segment))
        self._paint_band(painter)
        self._paint_marks(painter)
        painter.end()

    def _paint_band(self, painter: QPainter) -> None:
        low, high = self._band.low * self._scale, self._band.high * self._scale
        place = QRectF(low, self._top, high - low, BAR)
        colour = QColor(self._theme.palette.text)
        painter.setPen(QPen(colour, 1, Qt.PenStyle.DotLine))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(place.adjusted(0.5, 0.5, -0.5, -0.5))

    def _paint_marks(self, painter: QPainter) -> None:
        palette, metrics = self._theme.palette, self.fontMetrics()
        for mark in self._marks:
            over = self._band.high > mark.size
            ink = (palette.bad if over else palette.text) if mark.strong else palette.muted
            x = mark.size * self._scale
            painter.setPen(QPen(QColor(ink), 2 if mark.strong else 1))
            painter.drawLine(QPointF(x, self._top - 2), QPointF(x, self._top + BAR + SPACE / 2))
            width = metrics.horizontalAdvance(mark.words)
            left = min(max(x - width / 2, 0), self.width() - width)
            painter.drawText(QPointF(left, metrics.ascent()), mark.words)


class MemoryBar(QWidget):
    """The bar, and below it what each of its parts is."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._segments: Sequence[Segment] = ()
        self.bar = Bar(theme)
        self.legend: QLabel = label("", "muted", wrap=True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.bar)
        column.addWidget(self.legend)
        theme.changed.connect(self._show_legend)

    def show_parts(
        self, segments: Sequence[Segment], band: Band, marks: Sequence[Mark] = ()
    ) -> None:
        """Parts from left to right; marks are lines across the bar."""
        self._segments = segments
        self.bar.show_parts(segments, band, marks)
        told = ", ".join(f"{one.name} {one.words}" for one in segments)
        self.bar.setAccessibleName("Memory")
        self.bar.setAccessibleDescription(told)
        self._show_legend()

    def _show_legend(self) -> None:
        self.legend.setText(
            " &nbsp; ".join(
                f'<span style="color:{tinted(self._theme, one).name()}">■</span>&nbsp;'
                f"{one.name.replace(' ', '&nbsp;')}&nbsp;{one.words.replace(' ', '&nbsp;')}"
                for one in self._segments
            )
        )


def tinted(theme: Theme, segment: Segment) -> QColor:
    """The part's colour, mixed with the surface as far as it is not strong."""
    ink, surface = QColor(getattr(theme.palette, segment.ink)), QColor(theme.palette.surface)
    share = segment.strength
    mixed = [
        share * one + (1 - share) * other
        for one, other in zip(ink.getRgbF()[:3], surface.getRgbF()[:3], strict=True)  # type: ignore[misc]
    ]
    return QColor.fromRgbF(*mixed)
