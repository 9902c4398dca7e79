"""One live chart: a faint measured line, a smoothed one in the accent, the present value large;
or several lines with a legend. What the health coach noticed is a coloured band behind them.

Points are taken at any rate and painted only when `paint` is called, on the page's clock. The plot
itself is made when it is first painted, so that a page of many charts opens at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any, Literal, NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout

from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.curve import Curve, smooth
from studio.widgets.text import label
from workers.protocol.cards import GIB

FLAT = 1e-6
"""A line that varies by less than this share of its height is flat."""
INKS = ("accent", "warning", "good", "muted")
"""Colours of a chart's lines, in order; when they are used up they come again, dashed."""
WIDTH = 230
"""Pixels that a chart needs at least."""
SHARE_ROOM = 0.03
"""Room above and below a chart of shares, so that a line at 0 or 100 % is drawn whole."""
BAND_STRENGTH = 44
"""Opacity of a band, of 255: to be seen in both themes, with the line still clear on it."""
Format = Callable[[float], str]
Look = Literal["smooth", "exact", "dots"]


class Line(NamedTuple):
    """One metric on a chart: dots are for what is measured now and then."""

    metric: str
    word: str = ""
    look: Look = "smooth"


class Band(NamedTuple):
    """A stretch of steps to be marked; without an end it reaches to the last step."""

    since: int
    until: int | None
    alarm: bool = False


class Ticks(pg.AxisItem):
    """A left axis that writes its values as the figure above it does."""

    def __init__(self, form: Format) -> None:
        super().__init__("left")
        self._form = form

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self._form(value * scale) for value in values]


class Trace:
    """One line as it stands on a chart: its points, its ink, and what draws it."""

    def __init__(self, line: Line, number: int) -> None:
        self.line = line
        self.ink = INKS[number % len(INKS)]
        self.dashed = number >= len(INKS)
        self.curve = Curve()
        self.drawn: Any = None
        self.faint: Any = None


class Chart(Card):
    """A chart of one metric, perhaps with a second beside it (held-out loss), or of several.

    With `several`, a metric that is not among the lines gets a line of its own when it comes,
    called by the last part of its name.
    """

    picked = Signal(int)
    """A step was clicked on."""

    def __init__(
        self, title: str, form: Format, theme: Theme, lines: list[Line], *, several: bool = False
    ) -> None:
        super().__init__()
        self._theme = theme
        self._form = form
        self._several = several
        self._declared = lines
        self._traces: dict[str, Trace] = {}
        self._bands: list[Band] = []
        self._regions: list[Any] = []
        self._item: Any = None  # pyqtgraph declares no types
        self._stale = True
        self._at: int | None = None
        self.setAccessibleName(f"Chart of {title}")
        self._add_head(title)
        self.body.setContentsMargins(2 * SPACE, SPACE + 4, 2 * SPACE, SPACE + 4)
        self.setMinimumSize(WIDTH, 184)
        self.forget()
        theme.changed.connect(self._on_theme_changed)

    def _add_head(self, title: str) -> None:
        self._figure = label("–", "figure")
        self._figure.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        if self._several:
            self._figure.hide()
        self._legend = label(wrap=self._several)
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.hide()
        self._step = label("", "muted")
        self._step.hide()
        name = label(title, "muted")
        name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        titles, values = QHBoxLayout(), QHBoxLayout()
        titles.addWidget(name, 1)
        titles.addWidget(self._step)  # beside a long title, which gives way
        values.addWidget(self._figure, 1)
        values.addWidget(self._legend, int(self._several))
        head = QVBoxLayout()
        head.setSpacing(SPACE // 2 if self._several else 0)
        head.addLayout(titles)
        head.addLayout(values)
        self.body.addLayout(head)
        self.body.addStretch(0)

    # Points

    @property
    def main(self) -> Curve:
        """The points of the first line."""
        return self._curve(0)

    @property
    def other(self) -> Curve:
        """The points of the second line."""
        return self._curve(1)

    def _curve(self, number: int) -> Curve:
        traces = list(self._traces.values())
        return traces[number].curve if number < len(traces) else Curve()

    @property
    def metrics(self) -> list[str]:
        return list(self._traces)

    @property
    def empty(self) -> bool:
        return not any(trace.curve.steps for trace in self._traces.values())

    @property
    def bands(self) -> list[Band]:
        return list(self._bands)

    def curve(self, metric: str) -> Curve:
        return self._trace(metric).curve

    def add(self, metric: str, step: int, value: float | None) -> None:
        self._trace(metric).curve.add(step, value)
        self._stale = True

    def set(self, metric: str, steps: list[int], values: list[float]) -> None:
        self._trace(metric).curve.set(steps, values)
        self._stale = True

    def cut_after(self, step: int) -> None:
        for trace in self._traces.values():
            trace.curve.cut_after(step)
        self._stale = True

    def forget(self) -> None:
        """Back to how it was made: the declared lines, no points, no bands."""
        for trace in self._traces.values():
            for drawn in (trace.drawn, trace.faint):
                if drawn is not None:
                    self._item.removeItem(drawn)
        self._traces = {}
        self._at = None
        if self._item is not None:
            self._plot.hide()
        for line in self._declared:
            self._trace(line.metric, line)
        self.mark([])
        self._stale = True

    def mark(self, bands: list[Band]) -> None:
        """Puts coloured bands behind stretches of steps, in place of those that are there."""
        if bands != self._bands:
            self._bands = list(bands)
            self._stale = True

    def _trace(self, metric: str, line: Line | None = None) -> Trace:
        if metric not in self._traces:
            line = line or Line(metric, metric.rpartition("/")[2])
            self._traces[metric] = Trace(line, len(self._traces))
        return self._traces[metric]

    # Painting

    @property
    def stale(self) -> bool:
        """Whether `paint` has something to do."""
        return self._stale

    def paint(self) -> None:
        """Draws what came since the last time, if anything did."""
        if not self._stale:
            return
        self._stale = False
        if not self.empty:
            self._draw()
        elif self._item is not None:
            self._plot.hide()
        self._write_figures()

    def _draw(self) -> None:
        if self._item is None:
            self._make_plot()
        for trace in self._traces.values():
            self._paint_trace(trace)
        self._fit()
        self._paint_bands()
        self._plot.show()

    def _fit(self) -> None:
        """Shares stand between 0 and 100 %, unless one lies beyond. Around a line that is flat, or
        one point, there is room by a share of its height, not of 1."""
        steps = [step for trace in self._traces.values() for step in trace.curve.steps[:1]]
        steps += [step for trace in self._traces.values() for step in trace.curve.steps[-1:]]
        values = np.array([v for trace in self._traces.values() for v in trace.curve.values])
        values = values[np.isfinite(values)]
        self._item.enableAutoRange()
        if steps and min(steps) == max(steps):
            self._item.setXRange(steps[0] - 1, steps[0] + 1, padding=0)
        if not len(values):
            return
        low, high = float(values.min()), float(values.max())
        if self._form is percent:
            self._item.setYRange(min(low, 0.0), max(high, 1.0), padding=SHARE_ROOM)
        elif high - low <= FLAT * max(abs(low), abs(high)):
            room = abs(high) / 2 or 1.0
            self._item.setYRange(low - room, high + room, padding=0)

    def _paint_trace(self, trace: Trace) -> None:
        steps, values = trace.curve.steps, np.array(trace.curve.values, dtype=float)
        if trace.drawn is None:
            dots = {"symbolSize": 6} if trace.line.look == "dots" else {}
            if trace.line.look == "smooth" and not self._several:
                trace.faint = self._item.plot(antialias=True)
            trace.drawn = self._item.plot(antialias=True, **dots)
            self._ink(trace)
        if trace.faint is not None:
            trace.faint.setData(steps, values, connect="finite")
        shown = smooth(values) if trace.line.look == "smooth" else values
        trace.drawn.setData(steps, shown, connect="finite")

    def _paint_bands(self) -> None:
        for region in self._regions:
            self._item.removeItem(region)
        self._regions = []
        steps = [trace.curve.steps for trace in self._traces.values() if trace.curve.steps]
        if not steps:
            return
        last = max(line[-1] for line in steps)
        for band in self._bands:
            until = last if band.until is None else min(band.until, last)
            colour = QColor(self._theme.palette.bad if band.alarm else self._theme.palette.warning)
            colour.setAlpha(BAND_STRENGTH)
            region = pg.LinearRegionItem(
                (band.since - 0.5, max(until, band.since) + 0.5), movable=False,
                brush=pg.mkBrush(colour), pen=pg.mkPen(None),
            )  # fmt: skip
            region.setZValue(-10)
            self._item.addItem(region, ignoreBounds=True)
            self._regions.append(region)

    def _write_figures(self) -> None:
        self._step.setText(f"step {self._at}")
        self._step.setVisible(self._at is not None)
        if self._several:
            self._legend.setText(self._keys(list(self._traces.values()), values=True))
            self._legend.setVisible(not self.empty)
            return
        traces = list(self._traces.values())
        self._figure.setText(self._figure_of(traces[0].curve))
        self._legend.setText(self._keys(traces[1:], values=False))
        self._legend.setVisible(any(trace.curve.steps for trace in traces[1:]))

    def _figure_of(self, curve: Curve) -> str:
        if self._at is not None and (point := curve.near(self._at)):
            return self._value(point[1])
        return "–" if curve.last is None else self._form(curve.last)

    def _value(self, value: float) -> str:
        return "no number" if math.isnan(value) else self._form(value)

    def _keys(self, traces: list[Trace], *, values: bool) -> str:
        """The legend: each line's ink and name, perhaps with its value, never broken inside."""
        keys = []
        for trace in traces:
            if not trace.curve.steps:
                continue
            colour = getattr(self._theme.palette, trace.ink)
            sign = "●" if trace.line.look == "dots" else "╍" if trace.dashed else "━"
            words = escape(trace.line.word)
            if values:
                words += f" {self._worth(trace.curve)}"
            words = words.replace(" ", "&nbsp;").replace("-", "&#8209;")
            keys.append(f'<span style="color:{colour}">{sign}</span>&nbsp;{words}')
        return "&nbsp; ".join(keys)

    def _worth(self, curve: Curve) -> str:
        if self._at is not None and (point := curve.near(self._at)):
            return self._value(point[1])
        return "–" if curve.last is None else self._form(curve.last)

    def _make_plot(self) -> None:
        self._plot = pg.PlotWidget(axisItems={"left": Ticks(self._form)})
        self._plot.setMinimumHeight(96)
        self._plot.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        item: Any = self._plot.getPlotItem()
        self._item = item
        item.setMenuEnabled(False)
        item.hideButtons()
        item.setMouseEnabled(x=False, y=False)
        item.setDownsampling(auto=True, mode="peak")
        item.setClipToView(True)
        item.showGrid(y=True, alpha=0.12)
        for side in ("left", "bottom"):
            item.getAxis(side).setStyle(tickLength=0, tickTextOffset=6)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        self._cross.hide()
        item.addItem(self._cross, ignoreBounds=True)
        self._hover = pg.SignalProxy(
            item.scene().sigMouseMoved, rateLimit=30, slot=self._on_mouse_moved
        )
        item.scene().sigMouseClicked.connect(self._on_mouse_clicked)
        self.body.addWidget(self._plot, 1)
        self._apply_colours()

    def _apply_colours(self) -> None:
        colours = self._theme.palette
        self._plot.setBackground(colours.surface)
        for trace in self._traces.values():
            self._ink(trace)
        self._cross.setPen(pg.mkPen(colours.faint, width=1))
        for side in ("left", "bottom"):
            axis = self._item.getAxis(side)
            axis.setPen(pg.mkPen(colours.border))
            axis.setTextPen(pg.mkPen(colours.muted))

    def _ink(self, trace: Trace) -> None:
        if trace.drawn is None:
            return
        colour = getattr(self._theme.palette, trace.ink)
        style = Qt.PenStyle.DashLine if trace.dashed else Qt.PenStyle.SolidLine
        trace.drawn.setPen(pg.mkPen(colour, width=1, style=style))
        if trace.line.look == "dots":
            trace.drawn.setSymbol("o")
            trace.drawn.setSymbolBrush(colour)
            trace.drawn.setSymbolPen(None)
        if trace.faint is not None:
            faint = QColor(colour)
            faint.setAlpha(80)
            trace.faint.setPen(pg.mkPen(faint, width=1))

    def _on_theme_changed(self) -> None:
        if self._item is not None:
            self._apply_colours()
        self._stale = True

    # The mouse

    def _step_at(self, place: Any) -> int | None:
        """The measured step nearest to a place of the scene."""
        if self.empty or not self._item.vb.sceneBoundingRect().contains(place):
            return None
        at = self._item.vb.mapSceneToView(place).x()
        longest = max(self._traces.values(), key=lambda trace: len(trace.curve.steps))
        point = longest.curve.near(at)
        return point[0] if point else None

    def _on_mouse_moved(self, moved: tuple[Any]) -> None:
        self._at = self._step_at(moved[0])
        self._cross.setVisible(self._at is not None)
        if self._at is not None:
            self._cross.setPos(self._at)
        self._write_figures()

    def _on_mouse_clicked(self, click: Any) -> None:
        step = self._step_at(click.scenePos())
        if step is not None:
            self.picked.emit(step)

    def leaveEvent(self, event: Any) -> None:
        if self._at is not None:
            self._at = None
            self._cross.hide()
            self._stale = True
        super().leaveEvent(event)


def plain(value: float) -> str:
    return f"{value:.4g}"


def percent(value: float) -> str:
    return f"{value:.1%}"


def count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def size(value: float) -> str:
    return f"{value / GIB:.3g} GB"


def scientific(value: float) -> str:
    return f"{value:.1e}"


def rate(value: float) -> str:
    return f"{value:,.0f}/s"


def seconds(value: float) -> str:
    return f"{value:.3g} s"
