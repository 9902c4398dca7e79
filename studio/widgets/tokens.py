"""A row as the model reads it: token after token, what is in the loss, masked, truncated.

Tokens are laid out once for a width and painted by sight, so that long rows stay quick. Learnt ones
stand on a tint and are underlined, thinking has a line above it; nothing is told by colour alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QGuiApplication,
    QHelpEvent,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QToolTip, QWidget

from studio.theme import SPACE, Palette, Theme
from workers.protocol.browse import Piece, TokenView

PADDING = 5
"""Pixels on both sides of a special token's text, within its frame."""
NEWLINE = "↵"
LEGEND = [
    ("in the loss", "trained"), ("masked", "masked"), ("thinking", "thought"),
    ("special", "special"), ("truncated", "behind"),
]  # fmt: skip


class Run(NamedTuple):
    """A token, or the part of one that fits on a line."""

    x: float
    width: float
    text: str
    look: str
    """trained, masked, thought, thought_trained, special, special_trained or behind."""
    token: int
    view: int


class Line(NamedTuple):
    kind: str
    """text, title, truncated or more."""
    text: str
    runs: list[Run]


class TokenText(QAbstractScrollArea):
    """Read-only; Ctrl+C copies the whole text, a tooltip names the token under the pointer."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.views: list[TokenView] = []
        self.words = ""
        self._lines: list[Line] = []
        self._widths: dict[str, float] = {}
        self.setObjectName("tokens")
        self.setAccessibleName("Tokens")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumHeight(12 * SPACE)
        theme.changed.connect(self.viewport().update)

    def show_views(self, views: list[TokenView]) -> None:
        """One view, or the two sides of a pair below each other."""
        self.views, self.words = views, ""
        self._lay_out()
        self.verticalScrollBar().setValue(0)

    def say(self, words: str) -> None:
        """Why there are no tokens to be seen."""
        self.views, self.words = [], words
        self._lay_out()

    @property
    def text(self) -> str:
        """All tokens joined, a line between the sides of a pair."""
        return "\n".join("".join(piece.text for piece in view.pieces) for view in self.views)

    # Laying out

    @property
    def _line_height(self) -> float:
        return self.fontMetrics().height() + SPACE

    def _lay_out(self) -> None:
        metrics = QFontMetricsF(self.font())
        room = max(80.0, self.viewport().width() - 2.0 * SPACE)
        self._lines = []
        for number, view in enumerate(self.views):
            self._lay_out_view(number, view, metrics, room)
        height = round(len(self._lines) * self._line_height) + 2 * SPACE
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, height - self.viewport().height()))
        bar.setPageStep(self.viewport().height())
        bar.setSingleStep(round(self._line_height))
        self.viewport().update()

    def _lay_out_view(
        self, number: int, view: TokenView, metrics: QFontMetricsF, room: float
    ) -> None:
        if view.title:
            told = f"{view.title.capitalize()}: {counted(view)}"
            self._lines.append(Line("title", told, []))
        runs: list[Run] = []
        x = 0.0
        for index, piece in enumerate(view.pieces):
            if index == view.truncated_at:
                if runs:
                    self._lines.append(Line("text", "", runs))
                runs, x = [], 0.0
                self._lines.append(Line("truncated", f"truncated here at {index:,} tokens", []))
            look = look_of(piece, index, view.truncated_at)
            for part, ends in _parts(piece):
                for text, width in self._fitting(part, look, metrics, room):
                    if x + width > room and runs:
                        self._lines.append(Line("text", "", runs))
                        runs, x = [], 0.0
                    runs.append(Run(x, width, text, look, index, number))
                    x += width + 1
                if ends:
                    self._lines.append(Line("text", "", runs))
                    runs, x = [], 0.0
        if runs:
            self._lines.append(Line("text", "", runs))
        if (more := view.tokens - len(view.pieces)) > 0:
            self._lines.append(Line("more", f"and {more:,} more tokens", []))

    def _fitting(
        self, text: str, look: str, metrics: QFontMetricsF, room: float
    ) -> Iterator[tuple[str, float]]:
        """The text with its width, in parts where it is wider than a line."""
        width = self._widths.get(text)
        if width is None:
            width = self._widths[text] = metrics.horizontalAdvance(text)
        extra = 2 * PADDING if look.startswith("special") else 0
        if width + extra <= room or len(text) < 2:
            yield text, width + extra
            return
        letters = max(1, int(len(text) * (room - extra) / width) - 1)
        for at in range(0, len(text), letters):
            part = text[at : at + letters]
            yield part, metrics.horizontalAdvance(part) + extra

    def resizeEvent(self, event: QResizeEvent) -> None:
        if event.size().width() != event.oldSize().width():
            self._lay_out()
        bar = self.verticalScrollBar()
        height = round(len(self._lines) * self._line_height) + 2 * SPACE
        bar.setRange(0, max(0, height - event.size().height()))
        bar.setPageStep(event.size().height())

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._widths.clear()
            self._lay_out()
        super().changeEvent(event)

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colours = self._theme.palette
        painter.fillRect(self.viewport().rect(), QColor(colours.surface))
        if self.words:
            painter.setPen(QColor(colours.muted))
            room = self.viewport().rect().adjusted(2 * SPACE, 2 * SPACE, -2 * SPACE, -2 * SPACE)
            flags = Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
            painter.drawText(room, flags, self.words)
            return
        offset = self.verticalScrollBar().value()
        high = self._line_height
        first = max(0, int((offset - SPACE) // high))
        last = int((offset + self.viewport().height()) // high) + 1
        for number, line in enumerate(self._lines[first:last], start=first):
            self._paint_line(painter, line, number * high + SPACE - offset)

    def _paint_line(self, painter: QPainter, line: Line, y: float) -> None:
        colours, high = self._theme.palette, self._line_height
        if line.kind == "text":
            paint_runs(painter, line.runs, SPACE, y, high, colours)
            return
        bold = QFont(self.font())
        bold.setWeight(QFont.Weight.DemiBold)
        painter.setFont(bold)
        painter.setPen(QColor(colours.warning if line.kind == "truncated" else colours.muted))
        room = QRectF(SPACE, y, self.viewport().width() - 2 * SPACE, high)
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, line.text)
        if line.kind == "truncated":
            begin = SPACE + QFontMetricsF(bold).horizontalAdvance(line.text) + SPACE
            middle = round(y + high / 2)
            painter.setPen(QPen(QColor(colours.warning), 1, Qt.PenStyle.DashLine))
            painter.drawLine(round(begin), middle, self.viewport().width() - SPACE, middle)
        painter.setFont(self.font())

    # Asking

    def run_at(self, x: float, y: float) -> Run | None:
        """The token under a point of the viewport."""
        at = int((y + self.verticalScrollBar().value() - SPACE) // self._line_height)
        if not 0 <= at < len(self._lines):
            return None
        runs = self._lines[at].runs
        place = bisect_right([run.x for run in runs], x - SPACE) - 1
        return runs[place] if place >= 0 and x - SPACE <= sum(runs[place][:2]) else None

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip:
            asked = cast(QHelpEvent, event)
            run = self.run_at(asked.pos().x(), asked.pos().y())
            QToolTip.showText(asked.globalPos(), self._tip(run) if run else "", self.viewport())
            return True
        return super().viewportEvent(event)

    def _tip(self, run: Run) -> str:
        view = self.views[run.view]
        words = {"trained": "in the loss", "special_trained": "special, in the loss",
                 "masked": "masked", "special": "special, masked",
                 "thought": "thinking, masked", "thought_trained": "thinking, in the loss",
                 "behind": "truncated"}  # fmt: skip
        said = repr(view.pieces[run.token].text)
        return f"Token {run.token + 1:,} of {view.tokens:,}: {said}, {words[run.look]}"

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QGuiApplication.clipboard().setText(self.text)
        else:
            super().keyPressEvent(event)


class Legend(QWidget):
    """What the looks of tokens mean, in those looks."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setAccessibleName("Legend: " + ", ".join(words for words, _ in LEGEND))
        theme.changed.connect(self.update)

    def _runs(self) -> list[Run]:
        metrics = QFontMetricsF(self.font())
        runs, x = [], 0.0
        for words, look in LEGEND:
            width = metrics.horizontalAdvance(words) + (2 * PADDING if look == "special" else 0)
            runs.append(Run(x, width, words, look, 0, 0))
            x += width + 2 * SPACE
        return runs

    def sizeHint(self) -> QSize:
        last = self._runs()[-1]
        return QSize(round(last.x + last.width) + 1, self.fontMetrics().height() + SPACE)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_runs(painter, self._runs(), 0, 0, self.height(), self._theme.palette)


def paint_runs(
    painter: QPainter, runs: Iterable[Run], left: float, y: float, high: float, colours: Palette
) -> None:
    """Paints the tokens of one line; `left` and `y` are its corner, `high` its height."""
    for run in runs:
        box = QRectF(left + run.x, y + 2, run.width, high - 4)
        if run.look == "trained":
            painter.fillRect(box, QColor(colours.accent_soft))
            painter.fillRect(QRectF(box.x(), box.bottom() - 2, box.width(), 2),
                             QColor(colours.accent))  # fmt: skip
            painter.setPen(QColor(colours.text))
        elif run.look.startswith("thought"):
            _paint_thought(painter, box, colours, in_loss=run.look == "thought_trained")
        elif run.look.startswith("special"):
            _paint_frame(painter, box, colours, in_loss=run.look == "special_trained")
            box = box.adjusted(PADDING, 0, 0, 0)
        else:
            painter.setPen(QColor(colours.muted))
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine
        painter.drawText(box.adjusted(0, -1, 2, 1), flags, run.text)
        if run.look == "behind":
            middle = round(box.center().y())
            painter.drawLine(round(box.x()), middle, round(box.right()), middle)


def _paint_thought(painter: QPainter, box: QRectF, colours: Palette, *, in_loss: bool) -> None:
    painter.fillRect(box, QColor(colours.thought_soft))
    painter.fillRect(QRectF(box.x(), box.y(), box.width(), 2), QColor(colours.thought))
    if in_loss:
        painter.fillRect(QRectF(box.x(), box.bottom() - 2, box.width(), 2),
                         QColor(colours.accent))  # fmt: skip
    painter.setPen(QColor(colours.text if in_loss else colours.muted))


def _paint_frame(painter: QPainter, box: QRectF, colours: Palette, *, in_loss: bool) -> None:
    painter.setPen(QPen(QColor(colours.accent if in_loss else colours.faint), 1))
    painter.setBrush(QColor(colours.accent_soft if in_loss else colours.raised))
    painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
    if in_loss:
        painter.fillRect(QRectF(box.x() + 3, box.bottom() - 2, box.width() - 6, 2),
                         QColor(colours.accent))  # fmt: skip
    painter.setPen(QColor(colours.accent if in_loss else colours.muted))


def look_of(piece: Piece, index: int, truncated_at: int | None) -> str:
    """How a token is painted."""
    if truncated_at is not None and index >= truncated_at:
        return "behind"
    if piece.special:
        return "special_trained" if piece.trained else "special"
    if piece.thinking:
        return "thought_trained" if piece.trained else "thought"
    return "trained" if piece.trained else "masked"


def counted(view: TokenView) -> str:
    """'412 tokens, 128 in the loss', and where it is truncated."""
    told = f"{view.tokens:,} tokens, {view.trained:,} in the loss"
    return told if view.truncated_at is None else f"{told}, truncated at {view.truncated_at:,}"


def _parts(piece: Piece) -> Iterator[tuple[str, bool]]:
    """A token's text line by line, tabs made visible; whether a line ends there."""
    lines = piece.text.replace("\r", "").replace("\t", "⇥ ").split("\n")
    for number, line in enumerate(lines):
        ends = number < len(lines) - 1
        if line or ends:
            yield line + (NEWLINE if ends else ""), ends
