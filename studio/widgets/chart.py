"""One live chart: a faint measured line, a smoothed one in the accent, the present value large.

Points are taken at any rate and painted only when `paint` is called, on the page's clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.text import label

MOST_SMOOTHING = 0.9
"""Weight of the past in the moving average of a long run; a short one is smoothed less."""
Format = Callable[[float], str]


class Curve:
    """Points of one metric by rising step; a point at or before the last step replaces it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []

    def add(self, step: int, value: float | None) -> None:
        self.cut_after(step - 1)
        self.steps.append(step)
        self.values.append(math.nan if value is None else value)

    def cut_after(self, step: int) -> None:
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.values.pop()

    def set(self, steps: list[int], values: list[float]) -> None:
        self.steps, self.values = list(steps), list(values)

    @property
    def last(self) -> float | None:
        return next((v for v in reversed(self.values) if not math.isnan(v)), None)


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential moving average with bias correction (Kingma & Ba 2015, section 3); NaN is
    passed over and stays a gap. Its span grows with the number of points."""
    past = min(MOST_SMOOTHING, len(values) / (len(values) + 60))
    out = np.full(values.shape, np.nan)
    mean, weight = 0.0, 0.0
    for index, value in enumerate(values):
        if not math.isnan(value):
            mean = past * mean + (1 - past) * value
            weight = past * weight + (1 - past)
            out[index] = mean / weight
    return out


class Ticks(pg.AxisItem):
    """A left axis that writes its values as the figure above it does."""

    def __init__(self, form: Format) -> None:
        super().__init__("left")
        self._form = form

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self._form(value * scale) for value in values]


class Chart(Card):
    """A chart of one metric, with a second one beside it where that helps (held-out loss)."""

    def __init__(
        self, title: str, form: Format, theme: Theme, second: str = "", *, smoothed: bool = True
    ) -> None:
        super().__init__()
        self._theme = theme
        self._form = form
        self._smoothed = smoothed
        self.main, self.other = Curve(), Curve()
        self._stale = True
        self.setAccessibleName(f"Chart of {title}")
        self._figure = label("–", "figure")
        self._legend = label(second)
        head = QHBoxLayout()
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(title, "muted"))
        words.addWidget(self._figure)
        head.addLayout(words, 1)
        head.addWidget(self._legend, 0, Qt.AlignmentFlag.AlignTop)
        self.body.addLayout(head)
        self._plot = pg.PlotWidget(axisItems={"left": Ticks(form)})
        self._plot.setMinimumHeight(96)
        self._set_up_plot()
        self.body.addWidget(self._plot, 1)
        self.body.setContentsMargins(2 * SPACE, SPACE + 4, 2 * SPACE, SPACE + 4)
        self.setMinimumHeight(184)
        theme.changed.connect(self._on_theme_changed)
        self._on_theme_changed()

    def _set_up_plot(self) -> None:
        item: Any = self._plot.getPlotItem()  # pyqtgraph declares no types
        self._item = item
        item.setMenuEnabled(False)
        item.hideButtons()
        item.setMouseEnabled(x=False, y=False)
        item.setDownsampling(auto=True, mode="peak")
        item.setClipToView(True)
        item.showGrid(y=True, alpha=0.12)
        for side in ("left", "bottom"):
            item.getAxis(side).setStyle(tickLength=0, tickTextOffset=6)
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._raw = item.plot(antialias=True)
        self._line = item.plot(antialias=True)
        self._second = item.plot(antialias=True, symbolSize=6)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        self._cross.hide()
        item.addItem(self._cross, ignoreBounds=True)
        self._hover = pg.SignalProxy(
            item.scene().sigMouseMoved, rateLimit=30, slot=self._on_mouse_moved
        )

    def add(self, step: int, value: float | None) -> None:
        self.main.add(step, value)
        self._stale = True

    def add_second(self, step: int, value: float | None) -> None:
        self.other.add(step, value)
        self._stale = True

    def cut_after(self, step: int) -> None:
        self.main.cut_after(step)
        self.other.cut_after(step)
        self._stale = True

    def mark_stale(self) -> None:
        self._stale = True

    def paint(self) -> None:
        """Draws what came since the last time, if anything did."""
        if not self._stale:
            return
        self._stale = False
        values = np.array(self.main.values, dtype=float)
        self._raw.setData(self.main.steps, values, connect="finite")
        line = smooth(values) if self._smoothed else values
        self._line.setData(self.main.steps, line, connect="finite")
        self._second.setData(self.other.steps, np.array(self.other.values, dtype=float))
        last = self.main.last
        self._figure.setText("–" if last is None else self._form(last))
        self._legend.setVisible(bool(self.other.steps))

    def _on_theme_changed(self) -> None:
        colours = self._theme.palette
        faint = QColor(colours.accent)
        faint.setAlpha(80)
        self._plot.setBackground(colours.surface)
        self._raw.setPen(pg.mkPen(faint, width=1))
        self._line.setPen(pg.mkPen(colours.accent, width=1))
        self._second.setPen(pg.mkPen(colours.warning, width=1))
        self._second.setSymbol("o")
        self._second.setSymbolBrush(colours.warning)
        self._second.setSymbolPen(None)
        self._cross.setPen(pg.mkPen(colours.faint, width=1))
        for side in ("left", "bottom"):
            axis = self._item.getAxis(side)
            axis.setPen(pg.mkPen(colours.border))
            axis.setTextPen(pg.mkPen(colours.muted))
        self._legend.setStyleSheet(f"color: {colours.warning}")
        self._stale = True

    def _on_mouse_moved(self, moved: tuple[Any]) -> None:
        view = self._item.vb
        inside = self._plot.sceneBoundingRect().contains(moved[0])
        if not inside or not self.main.steps:
            self._cross.hide()
            self._stale = True
            return
        at = view.mapSceneToView(moved[0]).x()
        index = int(np.abs(np.array(self.main.steps) - at).argmin())
        step, value = self.main.steps[index], self.main.values[index]
        self._cross.setPos(step)
        self._cross.show()
        shown = "no number" if math.isnan(value) else self._form(value)
        self._figure.setText(f"{shown}  at step {step}")


def plain(value: float) -> str:
    return f"{value:.4g}"


def percent(value: float) -> str:
    return f"{value:.1%}"


def size(value: float) -> str:
    return f"{value / 1e9:.3g} GB"


def scientific(value: float) -> str:
    return f"{value:.1e}"


def rate(value: float) -> str:
    return f"{value:,.0f}/s"
