"""The Run screen: one run as it goes, or as it went. History comes from the store, what follows
from the jobs; the two meet without a gap because the store is written before news is handed on.
"""

from __future__ import annotations

import time
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QPlainTextEdit,
    QProgressBar,
    QScrollArea,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Heard, Jobs
from studio.process import Rung
from studio.store import JobRow
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets import chart
from studio.widgets.log import LogView
from studio.widgets.notice import Banner, EmptyState, StatusPill
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol import wire
from workers.protocol.events import Evaluated, Event, Metrics, Note, Resumed, Sampled, Saved
from workers.protocol.jobs import Train
from workers.protocol.recipe import format_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import SaveNow

CHARTS = [
    ("loss", "Loss", chart.plain, "eval_loss", "● held-out"),
    ("token_accuracy", "Token accuracy", chart.percent, "eval_token_accuracy", "● held-out"),
    ("entropy", "Entropy, nats", chart.plain, "eval_entropy", "● held-out"),
    ("gradient_norm", "Gradient norm", chart.plain, "", ""),
    ("learning_rate", "Learning rate", chart.scientific, "", ""),
    ("tokens_per_second", "Tokens", chart.rate, "", ""),
    ("memory_bytes", "Memory", chart.size, "", ""),
]
CHART_WIDTH = 230
"""Pixels that a chart needs at least; as many stand in a row as fit."""
AS_THEY_ARE = {"learning_rate", "memory_bytes"}
"""Metrics without noise: nothing to smooth."""
LOG_BYTES = 64 * 1024
"""Most of the log that is read on one tick."""


class RunPage(Page):
    export_asked = Signal(str)
    chat_asked = Signal(str)
    new_asked = Signal()

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Run", "No run is chosen.", scrolls=False)
        self._jobs = jobs
        self.run = ""
        self._row: JobRow | None = None
        self._stale = False
        self._pace: list[tuple[float, int]] = []
        self._log: wire.Follower[str] | None = None
        self.pill = StatusPill(theme)
        self.banner = Banner(theme)
        self.phase = label("", "muted")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self._add_actions(theme)
        self.charts = {
            name: chart.Chart(title, form, theme, legend, smoothed=name not in AS_THEY_ARE)
            for name, title, form, _, legend in CHARTS
        }
        self._second = {second: name for name, _, _, second, _ in CHARTS if second}
        self.scores = label()
        self.samples, self.notes = LogView("Samples"), LogView("Notes")
        self.log, self.recipe = LogView("Log"), QPlainTextEdit()
        self.recipe.setReadOnly(True)
        self.recipe.setFont(fixed_font())
        self._present = self._make_present()
        self._empty = EmptyState(
            "chart-line-up", "No run is chosen",
            "Choose one under Runs, or start a new one. Its curves appear here as it learns.",
            "Train a model", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.body.addWidget(self._empty, 1)
        self.body.addWidget(self._present, 1)
        self._present.hide()

    def _add_actions(self, theme: Theme) -> None:
        self.save = button("Save now", theme, "floppy-disk", name="save-now")
        self.stop = button("Stop", theme, "stop", name="stop")
        self.resume = button("Resume", theme, "play", kind="primary", name="resume")
        self.export = button("Export", theme, "package", kind="primary", name="export")
        self.chat = button("Chat", theme, "chat-circle", name="chat")
        self.save.setToolTip("Write a checkpoint after the present step and go on")
        self.stop.setToolTip("End within one step; what was learnt is saved first")
        slots = {self.save: self._on_save, self.stop: self._on_stop, self.resume: self._on_resume,
                 self.export: self._on_export, self.chat: self._on_chat}  # fmt: skip
        for made, slot in slots.items():
            made.clicked.connect(slot)
            made.hide()
            self.action_row.addWidget(made)

    def _make_present(self) -> QWidget:
        grid_holder = QWidget()
        self._grid = QGridLayout(grid_holder)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(SPACE + SPACE // 2)
        for made in self.charts.values():
            made.hide()
        tabs = QTabWidget()
        tabs.setDocumentMode(False)
        for name, widget in (("Samples", self.samples), ("Notes", self.notes), ("Log", self.log),
                             ("Recipe", self.recipe)):  # fmt: skip
            tabs.addTab(widget, name)
        self.tabs = tabs
        split = QSplitter()
        split.setOrientation(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.setHandleWidth(SPACE + SPACE // 2)
        area = QScrollArea()
        area.setObjectName("scroll")
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(grid_holder)
        grid_holder.setObjectName("scrolled")
        split.addWidget(area)
        split.addWidget(tabs)
        split.setStretchFactor(0, 1)
        split.setSizes([440, 200])
        state = QHBoxLayout()
        state.setSpacing(2 * SPACE)
        state.addWidget(self.pill)
        state.addWidget(self.phase, 1)
        state.addWidget(self.scores)
        present = QWidget()
        column = QVBoxLayout(present)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE + SPACE // 2)
        column.addLayout(state)
        column.addWidget(self.progress)
        column.addWidget(self.banner)
        column.addWidget(split, 1)
        return present

    # What is shown

    def open(self, run: str) -> None:
        """Shows a run: all that the store knows of it, and from then on what it says."""
        row = self._jobs.store.job(run)
        if row is None:
            return
        self.run = run
        self.stop.setEnabled(True)
        self._pace.clear()
        self._empty.hide()
        self._present.show()
        for text in (self.samples, self.notes, self.log):
            text.clear()
        self._log = wire.Follower(self._jobs.folder(run) / wire.LOG, _decode_log)
        self._show_history()
        self._show_recipe()
        self._show_row()

    def _show_history(self) -> None:
        store = self._jobs.store
        for name, _, _, second, _ in CHARTS:
            series = store.series(self.run, name)
            self.charts[name].main.set(series.steps, series.values)
            other = store.series(self.run, second) if second else None
            self.charts[name].other.set(other.steps if other else [], other.values if other else [])
            self.charts[name].mark_stale()
        self._place_charts()
        row = store.job(self.run)
        follower = wire.follow_events(self._jobs.folder(self.run))
        while row is not None and follower.cursor < row.cursor:
            lines = list(follower.read(row.cursor - follower.cursor))
            if not lines:
                break
            for line in lines:
                self._say(line.event)

    def _place_charts(self) -> None:
        shown = [made for made in self.charts.values() if made.main.steps or made.other.steps]
        columns = max(1, (self.width() - 8 * SPACE) // CHART_WIDTH)
        if not shown:
            shown = list(self.charts.values())[:columns]
        for made in self.charts.values():
            if made not in shown:
                self._grid.removeWidget(made)
                made.hide()
        for place, made in enumerate(shown):
            self._grid.addWidget(made, place // columns, place % columns)
            made.show()

    def _show_recipe(self) -> None:
        try:
            job = wire.read_job(self._jobs.folder(self.run))
        except Refusal as refusal:
            self.recipe.setPlainText(str(refusal))
            return
        if isinstance(job.task, Train):
            self.recipe.setPlainText(format_recipe(job.task.recipe))

    def hear(self, news: list[Heard]) -> None:
        for heard in news:
            if heard.job != self.run:
                continue
            self._stale = True
            for line in heard.lines:
                self._take(line.event, line.t)
            if heard.rung is not None:
                self.notes.append_text(f"The worker {heard.rung.value}.")

    def _take(self, event: Event, at: float) -> None:
        match event:
            case Metrics(step=step, values=values):
                for name, value in values.items():
                    if name in self.charts:
                        self.charts[name].add(step, value)
                    elif name in self._second:
                        self.charts[self._second[name]].add_second(step, value)
                if "loss" in values:
                    self._pace = [*self._pace[-19:], (at, step)]
            case Resumed(step=step):
                for made in self.charts.values():
                    made.cut_after(step)
        self._say(event)

    def _say(self, event: Event) -> None:
        match event:
            case Sampled(step=step, prompt=prompt, completion=completion):
                self.samples.append_text(f"Step {step}\n  {prompt}\n  → {completion}\n ")
            case Note(text=text):
                self.notes.append_text(text)
            case Saved(step=step, path=path):
                self.notes.append_text(f"Checkpoint of step {step} saved to {path}")
            case Resumed(step=step):
                self.notes.append_text(f"Resumed after step {step}")
            case Evaluated(when=when, step=step, values=values, rows=rows):
                shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items()
                                  if value is not None)  # fmt: skip
                self.notes.append_text(f"Step {step}, {when}: {shown} on {rows} held-out rows")

    def refresh(self) -> None:
        """On the clock: redraws charts that changed, the state, and the log's new lines."""
        if not self.run:
            return
        if self._stale:
            self._stale = False
            self._show_row()
            self._place_charts()
        for made in self.charts.values():
            if made.isVisible():
                made.paint()
        if self._log is not None and self.tabs.currentWidget() is self.log:
            for text in self._log.read(LOG_BYTES):
                self.log.append_text(text)

    def _show_row(self) -> None:
        row = self._row = self._jobs.store.job(self.run)
        if row is None:
            return
        self.title.setText(row.name)
        self.subtitle.setText(f"{row.stage.upper()}  ·  {row.id}")
        self.pill.show_status(row.status)
        self.phase.setText(self._pace_in_words(row) if row.live else "")
        self.progress.setRange(0, row.total_steps or 0)
        self.progress.setValue(row.steps)
        self.progress.setVisible(row.live)
        self.scores.setText(self._scores_in_words())
        can = {self.save: row.live, self.stop: row.live, self.resume: self._may_resume(row),
               self.export: row.resting, self.chat: row.resting}  # fmt: skip
        for made, visible in can.items():
            made.setVisible(visible)
        if row.status == "failed":
            self.banner.tell(row.cause, "", row.remedy)
        else:
            self.banner.hide()

    def _pace_in_words(self, row: JobRow) -> str:
        words = f"{row.phase or 'Starting'}"
        if row.total_steps and row.steps:
            words += f"  ·  step {row.steps} of {row.total_steps}"
        if len(self._pace) > 2 and row.phase == "Training":
            (began, first), (now, last) = self._pace[0], self._pace[-1]
            left_s = (now - began) / max(last - first, 1) * (row.total_steps - row.steps)
            words += f"  ·  about {_span(left_s - (time.time() - now))} left"
        return words

    def _scores_in_words(self) -> str:
        scores = {one.moment: one.scores for one in self._jobs.store.evaluations(self.run)}
        before, after = (scores.get(m, {}).get("loss") for m in ("before", "after"))
        if before is None:
            return ""
        return f"Held-out loss {before:.3f}" + (f" → {after:.3f}" if after is not None else "")

    def _may_resume(self, row: JobRow) -> bool:
        if row.status != "failed":
            return False
        return wire.ending(wire.read_events(self._jobs.folder(row.id))) is None

    # What is asked

    def _on_save(self) -> None:
        self._jobs.tell(self.run, SaveNow())
        self.notes.append_text("A checkpoint will be written after the present step.")

    def _on_stop(self) -> None:
        self._jobs.stop(self.run)
        self.stop.setEnabled(False)
        self.notes.append_text(f"The worker was {Rung.ASKED.value}.")

    def _on_resume(self) -> None:
        try:
            self._jobs.resume(self.run)
            self.stop.setEnabled(True)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        self._show_row()

    def _on_export(self) -> None:
        self.export_asked.emit(self.run)

    def _on_chat(self) -> None:
        self.chat_asked.emit(self.run)

    def resizeEvent(self, event: Any) -> None:
        self._stale = bool(self.run)
        super().resizeEvent(event)

    def showEvent(self, event: Any) -> None:
        self._stale = bool(self.run)
        super().showEvent(event)


def _decode_log(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _span(seconds: float) -> str:
    seconds = max(seconds, 0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
