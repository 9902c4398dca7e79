"""The charts of one run: their curves are read from the store, a few a tick, and grow with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from PySide6.QtCore import Signal

from studio.pages.run.plans import FORMS
from studio.store import Store
from studio.theme import Theme
from studio.widgets.chart import Band, Chart, Line
from studio.widgets.chartgrid import ChartGrid
from studio.widgets.findings import Finding
from workers.protocol.metrics import CHARTS, ChartSpec, lines_of


class RunCharts(ChartGrid):
    """Every chart that a run can have; those that say something are placed."""

    picked = Signal(int)
    """A step was clicked on."""

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self._store = store
        self._run = ""
        self._order: list[str] = []
        self._to_load: list[str] = []
        self.charts = {key: self._make_chart(spec, theme) for key, spec in CHARTS.items()}
        self._of = {curve: self.charts[key] for key in CHARTS for curve, _ in lines_of(key)}

    def _make_chart(self, spec: ChartSpec, theme: Theme) -> Chart:
        lines = [Line(curve, drawn.legend, drawn.look) for curve, drawn in lines_of(spec.key)]
        several = spec.prefix or (len(lines) > 1 and lines[1].look != "dots")
        made = Chart(spec.title, FORMS[spec.form], theme, lines, several=several)
        made.picked.connect(self.picked)
        made.hide()
        return made

    def open(self, run: str, specs: Sequence[ChartSpec]) -> None:
        """Empties every chart; `load` fills them from the store, in the order given."""
        self._run = run
        self._order = [spec.key for spec in specs]
        self._to_load = list(self._order)
        for made in self.charts.values():
            made.forget()

    @property
    def loaded(self) -> bool:
        """Whether every curve has been taken from the store."""
        return not self._to_load

    def load(self, until: float) -> bool:
        """Takes curves from the store, at least one chart's, until time is up.

        Those that are not yet taken lose nothing, since the store has what is said meanwhile.

        Returns:
            Whether there were any to take.
        """
        some = bool(self._to_load)
        while self._to_load:
            key = self._to_load.pop(0)
            for metric in self._metrics_of(key):
                series = self._store.series(self._run, metric)
                self.charts[key].set(metric, series.steps, series.values)
            if time.perf_counter() > until:
                break
        return some

    def _metrics_of(self, key: str) -> list[str]:
        if not CHARTS[key].prefix:
            return [curve for curve, _ in lines_of(key)]
        return [name for name in self._store.metric_names(self._run) if name.startswith(key)]

    def chart_of(self, metric: str) -> Chart | None:
        """The chart on which a metric is drawn, if it is on one."""
        begins = (key for key, spec in CHARTS.items() if spec.prefix and metric.startswith(key))
        key = next(begins, "")
        return self.charts[key] if key else self._of.get(metric)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """A step's metrics."""
        for name, value in values.items():
            made = self.chart_of(name)
            if made is not None:
                made.add(name, step, value)

    def cut_after(self, step: int) -> None:
        """Forgets what was measured after a step: it is measured anew."""
        for made in self.charts.values():
            made.cut_after(step)

    def place(self) -> None:
        """Shows the charts that say something; while none does, as many as there is room for."""
        shown = [key for key in self._order if self._has_news(key)] or self._order[: self.room]
        self.show_charts([self.charts[key] for key in shown])

    def _has_news(self, key: str) -> bool:
        made = self.charts[key]
        if CHARTS[key].quiet:
            return any(value > 0 for value in made.main.values)
        return not made.empty

    def mark(self, findings: Sequence[Finding]) -> None:
        """Puts a band behind each stretch of steps in which the coach noticed something."""
        for made in self.charts.values():
            made.mark([
                Band(one.since, one.until, one.level == "alarm")
                for one in findings if self.chart_of(one.metric) is made
            ])  # fmt: skip

    @property
    def in_sight(self) -> list[Chart]:
        """Charts of which something is to be seen."""
        return [made for made in self.charts.values()
                if made.isVisible() and not made.visibleRegion().isEmpty()]  # fmt: skip

    def paint(self, until: float) -> None:
        """Draws the charts that are to be seen and have changed, at least one, until time is up."""
        for made in self.in_sight:
            if made.stale:
                made.paint()
                if time.perf_counter() > until:
                    return
