"""The Run screen: one run as it goes, or as it went. Curves come from the store, what follows
from the jobs; the two meet without a gap because the store is written before news is handed on.
Samples and notes are read from the run's own events, from the first byte on, a slice a tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QProgressBar,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs, JobUpdate
from studio.process import Rung
from studio.store import JobRow
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets import chart
from studio.widgets.chartgrid import ChartGrid
from studio.widgets.completions import FirstAndNow, StepsView
from studio.widgets.findings import Finding, FindingList, HealthStrip
from studio.widgets.log import LogView
from studio.widgets.notice import Banner, EmptyState, StatusPill
from studio.widgets.page import Page
from studio.widgets.resume import ResumeDialog
from studio.widgets.text import button, label
from workers.protocol import wire
from workers.protocol.events import (
    Evaluated,
    Event,
    Metrics,
    Note,
    Paused,
    Resumed,
    Rollout,
    Sampled,
    Saved,
)
from workers.protocol.jobs import Train
from workers.protocol.metrics import (
    CHARTS,
    GENERAL,
    METRICS,
    SCORES,
    ChartSpec,
    Form,
    lines_of,
)
from workers.protocol.recipe import format_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import SampleNow, SaveNow
from workers.protocol.rollouts import Rollouts
from workers.protocol.stages import STAGES, spec_of

FORMS: dict[Form, chart.Format] = {
    "plain": chart.plain, "percent": chart.percent, "count": chart.count,
    "seconds": chart.seconds, "scientific": chart.scientific, "rate": chart.rate,
    "size": chart.size,
}  # fmt: skip
LOG_BYTES = 64 * 1024
"""Most of the log, and of what the run said, that is read on one tick."""
PAINT_S = 0.008
"""When painting has taken so long on one tick, the other charts wait for the next."""
ANSWERS_BYTES = 4_000_000
"""A step's file larger than this is not read; the window would stand still."""


def charts_for(stage: str, algorithm: str = "") -> list[ChartSpec]:
    """Every chart, in the order that tells most of a stage; of rlhf, by its algorithm."""
    mine = spec_of(stage, algorithm).charts if stage in STAGES else ()
    return [CHARTS[key] for key in dict.fromkeys([*mine, *GENERAL, *CHARTS])]


class RunPage(Page):
    export_asked = Signal(str)
    chat_asked = Signal(str)
    new_asked = Signal()

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Run", "No run is chosen.", scrolls=False, wide=True)
        self._jobs = jobs
        self._theme = theme
        self.run = ""
        self._row: JobRow | None = None
        self._stale = False
        self._algorithm = ""
        self._pace: list[tuple[float, int]] = []
        self._log: wire.Follower[str] | None = None
        self._said: wire.Follower[wire.Line | None] | None = None
        self._answers: dict[int, str] = {}
        self._to_load: list[str] = []
        self._split_by_hand = False
        self.pill = StatusPill(theme)
        self.banner = Banner(theme)
        self.health = HealthStrip(theme)
        self.phase = label("", "muted")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self._add_actions(theme)
        self.charts = {key: self._make_chart(spec, theme) for key, spec in CHARTS.items()}
        self._of = {curve: self.charts[key] for key in CHARTS for curve, _ in lines_of(key)}
        self.scores = label()
        self.steps, self.samples = StepsView(theme), FirstAndNow(theme)
        self.steps.wanted.connect(self._on_step_wanted)
        self.findings, self.notes = FindingList(theme), LogView("Notes")
        self.log, self.recipe = LogView("Log"), QPlainTextEdit()
        self.recipe.setReadOnly(True)
        self.recipe.setFont(fixed_font())
        self._present = self._make_present()
        self.health.more_asked.connect(lambda: self.tabs.setCurrentWidget(self.findings))
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
        self.sample = button("Sample now", theme, "chat-teardrop-text", name="sample-now")
        self.save = button("Save now", theme, "floppy-disk", name="save-now")
        self.pause = button("Pause", theme, "pause", name="pause")
        self.stop = button("Stop", theme, "stop", name="stop")
        self.resume = button("Resume", theme, "play", kind="primary", name="resume")
        self.resume_with = button("Resume…", theme, "faders-horizontal", name="resume-with")
        self.export = button("Export", theme, "package", kind="primary", name="export")
        self.chat = button("Chat", theme, "chat-circle", name="chat")
        self.sample.setToolTip("Let the model answer the run's fixed prompts now, and go on")
        self.save.setToolTip("Write a checkpoint after the present step and go on")
        self.pause.setToolTip("Write a checkpoint and rest; Resume goes on from it")
        self.stop.setToolTip("End within one step; what was learnt is saved first")
        self.resume.setToolTip("Go on from the last complete checkpoint, or from the start")
        self.resume_with.setToolTip("Go on with another batch size, length or number of steps")
        slots = {self.sample: self._on_sample, self.save: self._on_save,
                 self.pause: self._on_pause, self.stop: self._on_stop,
                 self.resume_with: self._on_resume_with, self.resume: self._on_resume,
                 self.export: self._on_export, self.chat: self._on_chat}  # fmt: skip
        for made, slot in slots.items():
            made.clicked.connect(slot)
            made.hide()
            self.action_row.addWidget(made)

    def _make_chart(self, spec: ChartSpec, theme: Theme) -> chart.Chart:
        lines = [chart.Line(curve, drawn.legend, drawn.look) for curve, drawn in lines_of(spec.key)]
        several = spec.prefix or (len(lines) > 1 and lines[1].look != "dots")
        made = chart.Chart(spec.title, FORMS[spec.form], theme, lines, several=several)
        made.picked.connect(self._on_step_picked)
        made.hide()
        return made

    def _make_present(self) -> QWidget:
        self.split = QSplitter()
        self.split.setOrientation(Qt.Orientation.Vertical)
        self.split.setChildrenCollapsible(False)
        self.split.setHandleWidth(SPACE + SPACE // 2)
        self.grid = ChartGrid()
        self.split.addWidget(self.grid)
        self.split.addWidget(self._make_tabs())
        self.split.setStretchFactor(0, 1)
        self.split.setStretchFactor(1, 1)
        self.split.splitterMoved.connect(self._on_split_moved)
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
        for widget in (self.progress, self.banner, self.health):
            column.addWidget(widget)
        column.addWidget(self.split, 1)
        return present

    def _make_tabs(self) -> QTabWidget:
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(False)
        for name, widget in (("Steps", self.steps), ("Samples", self.samples),
                             ("Health", self.findings), ("Notes", self.notes), ("Log", self.log),
                             ("Recipe", self.recipe)):  # fmt: skip
            self.tabs.addTab(widget, name)
        return self.tabs

    # What is shown

    def open(self, run: str) -> None:
        """Shows a run: all that the store knows of it, and from then on what it says."""
        row = self._jobs.store.job(run)
        if row is None:
            return
        self.run = run
        self._pace.clear()
        self._empty.hide()
        self._present.show()
        for text in (self.notes, self.log):
            text.clear()
        self.samples.forget()
        self.steps.clear()
        folder = self._jobs.folder(run)
        self._log = wire.Follower(folder / wire.LOG, _decode_log)
        self._said = wire.Follower(folder / wire.EVENTS, _decode_said)
        self._answers = self._jobs.store.rollouts(run)
        self._show_recipe()
        self._to_load = [spec.key for spec in charts_for(row.stage, self._algorithm)]
        for made in self.charts.values():
            made.forget()
        spec = STAGES.get(row.stage)
        answers = (spec is not None and spec.policy) or bool(self._answers)
        self.tabs.setTabVisible(0, answers)
        if not self._split_by_hand:
            self.split.setSizes([300, 300] if answers else [440, 200])
        self._stale = True
        self.refresh()

    def _load_charts(self, until: float) -> None:
        """Takes curves from the store, at least one; those that are not yet taken lose nothing,
        since the store has what is heard meanwhile."""
        while self._to_load:
            key = self._to_load.pop(0)
            for metric in self._metrics_of(key):
                series = self._jobs.store.series(self.run, metric)
                self.charts[key].set(metric, series.steps, series.values)
            self._stale = True
            if time.perf_counter() > until:
                return

    def _metrics_of(self, key: str) -> list[str]:
        if not CHARTS[key].prefix:
            return [curve for curve, _ in lines_of(key)]
        names = self._jobs.store.metric_names(self.run)
        return [name for name in names if name.startswith(key)]

    def _chart_of(self, metric: str) -> chart.Chart | None:
        """The chart on which a metric is drawn, if it is on one."""
        begins = (key for key, spec in CHARTS.items() if spec.prefix and metric.startswith(key))
        key = next(begins, "")
        return self.charts[key] if key else self._of.get(metric)

    def _place_charts(self) -> None:
        stage = self._row.stage if self._row else ""
        order = [spec.key for spec in charts_for(stage, self._algorithm)]
        shown = [key for key in order if self._tells(key)] or order[: self.grid.room]
        self.grid.show_charts([self.charts[key] for key in shown])

    def _tells(self, key: str) -> bool:
        made = self.charts[key]
        if CHARTS[key].quiet:
            return any(value > 0 for value in made.main.values)
        return not made.empty

    def _show_recipe(self) -> None:
        self._algorithm = ""
        try:
            job = wire.read_job(self._jobs.folder(self.run))
        except Refusal as refusal:
            self.recipe.setPlainText(str(refusal))
            return
        if isinstance(job.task, Train):
            self._algorithm = job.task.recipe.rl.algorithm
            self.recipe.setPlainText(format_recipe(job.task.recipe))

    def hear(self, news: list[JobUpdate]) -> None:
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
                    made = self._chart_of(name)
                    if made is not None:
                        made.add(name, step, value)
                if "loss" in values:
                    self._pace = [*self._pace[-19:], (at, step)]
            case Rollout(step=step, path=path):
                self._answers[step] = path
            case Resumed(step=step):
                self._pace.clear()
                for made in self.charts.values():
                    made.cut_after(step)
                self._answers = {s: path for s, path in self._answers.items() if s <= step}

    def _read_on(self) -> None:
        """The next slice of what the run said, into the tabs of text."""
        for line in self._said.read(LOG_BYTES) if self._said is not None else ():
            if line is not None:
                self._say(line.event)

    def _say(self, event: Event) -> None:
        match event:
            case Sampled(step=step, prompt=prompt, completion=completion):
                self.samples.add(step, prompt, completion)
            case Note(text=text):
                self.notes.append_text(text)
            case Saved(step=step, path=path):
                self.notes.append_text(f"Checkpoint of step {step} saved to {path}")
            case Paused(detail=detail):
                self.notes.append_text(detail)
            case Resumed(step=step):
                self.notes.append_text(f"Resumed after step {step}" if step else "Begun anew")
            case Evaluated(when=when, step=step, values=values, rows=rows):
                shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items()
                                  if value is not None)  # fmt: skip
                self.notes.append_text(f"Step {step}, {when}: {shown} on {rows} held-out rows")

    def refresh(self) -> None:
        """On the clock: redraws charts that changed, the state, and the tab that is open."""
        if not self.run:
            return
        until = time.perf_counter() + PAINT_S
        self._read_on()
        self._load_charts(until)
        if self._stale:
            self._stale = False
            self._show_row()
            self._show_health()
            self._place_charts()
        self._show_tab()
        self._paint(until)

    def _paint(self, until: float) -> None:
        """Draws the charts that are to be seen, at least one, until time is up."""
        for made in self.charts.values():
            if made.stale and made.isVisible() and not made.visibleRegion().isEmpty():
                made.paint()
                if time.perf_counter() > until:
                    return

    def _show_tab(self) -> None:
        shown = self.tabs.currentWidget()
        if shown is self.samples:
            self.samples.paint()
        elif shown is self.steps:
            self.steps.show_steps(list(self._answers))
        elif shown is self.log and self._log is not None:
            for text in self._log.read(LOG_BYTES):
                self.log.append_text(text)

    def _show_row(self) -> None:
        row = self._row = self._jobs.store.job(self.run)
        if row is None:
            return
        self.title.setText(row.name)
        self.subtitle.setText(f"{row.stage.upper()}  ·  {row.id}")
        self.pill.show_status(row.status)
        self.phase.setText(self._pace_in_words(row) if row.live or row.paused else "")
        self.progress.setRange(0, row.total_steps or 0)
        self.progress.setValue(row.steps)
        self.progress.setVisible(row.live or row.paused)
        self.scores.setText(self._scores_in_words())
        can = {self.sample: row.live, self.save: row.live, self.pause: row.live,
               self.stop: row.live, self.resume: row.may_resume, self.resume_with: row.may_resume,
               self.export: row.has_weights, self.chat: row.has_weights}  # fmt: skip
        for made, visible in can.items():
            made.setVisible(visible)
        if not row.live:
            self.pause.setEnabled(True)
            self.stop.setEnabled(True)

    def _show_health(self) -> None:
        row = self._row
        if row is None:
            return
        found = self._found()
        held = [finding for finding in found if finding.until is None]
        why = next((one for one in held if row.paused and one.meaning in row.cause), None)
        self._show_banner(row, why)
        self.health.tell([finding for finding in held if finding is not why])
        self.findings.tell(found)
        title = f"Health ({len(held)})" if held else "Health"
        self.tabs.setTabText(self.tabs.indexOf(self.findings), title)
        for made in self.charts.values():
            made.mark([
                chart.Band(one.since, one.until, one.level == "alarm")
                for one in found if self._chart_of(one.metric) is made
            ])  # fmt: skip

    def _show_banner(self, row: JobRow, why: Finding | None) -> None:
        """What ended or halted the run, alarming only when it failed."""
        if row.status == "failed":
            self.banner.tell(row.cause, "", row.remedy)
        elif row.paused or (row.status == "finished" and row.cause):
            self.banner.inform(row.cause, why.remedy if why else "", row.remedy)
        else:
            self.banner.hide()

    def _found(self) -> list[Finding]:
        """What the health coach noticed. A kind that is told anew, after a pause, passed before."""
        found: list[Finding] = []
        open_since: dict[str, int] = {}
        for row in self._jobs.store.findings(self.run):
            at = open_since.pop(row.kind, None)
            if at is not None:
                found[at] = found[at]._replace(until=row.since)
            if row.until is None:
                open_since[row.kind] = len(found)
            found.append(Finding(row.kind, row.level, row.metric, row.since, row.until,
                                 row.meaning, row.remedy))  # fmt: skip
        return found

    def _pace_in_words(self, row: JobRow) -> str:
        at = f"step {row.steps} of {row.total_steps}" if row.total_steps and row.steps else ""
        if row.paused:
            return at
        words = "  ·  ".join(filter(None, (row.phase or "Starting", at)))
        if len(self._pace) > 2 and row.phase == "Training":
            (began, first), (now, last) = self._pace[0], self._pace[-1]
            left_s = (now - began) / max(last - first, 1) * (row.total_steps - row.steps)
            words += f"  ·  about {_span(left_s - (time.time() - now))} left"
        return words

    def _scores_in_words(self) -> str:
        """The most telling score, before and after training or so far."""
        scores = {one.moment: one.scores for one in self._jobs.store.evaluations(self.run)}
        for name in SCORES:
            words, form = METRICS[name].score, METRICS[name].score_form
            before, now, after = (scores.get(moment, {}).get(name)
                                  for moment in ("before", "during", "after"))  # fmt: skip
            if before is None:
                continue
            words = f"{words} {form.format(before)}"
            if after is not None:
                return f"{words} → {form.format(after)}"
            return f"{words} → {form.format(now)} so far" if now is not None else words
        return ""

    # Steps

    def _on_step_wanted(self, step: int) -> None:
        path = self._jobs.folder(self.run) / self._answers[step]
        read = _read_answers(path, step)
        if isinstance(read, Rollouts):
            self.steps.show_rollouts(read)
        else:
            self.steps.say(read)

    def _on_step_picked(self, step: int) -> None:
        """A click on a chart leads to the answers of that step."""
        if self._answers:
            self.steps.show_steps(list(self._answers))
            self.tabs.setCurrentWidget(self.steps)
            self.steps.pick(step)

    # What is asked

    def _asked(self, ask: Callable[[], None]) -> bool:
        """Asks something of the run; says why where that cannot be."""
        try:
            ask()
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return False
        return True

    def _on_sample(self) -> None:
        if not self._asked(lambda: self._jobs.tell(self.run, SampleNow())):
            return
        self.tabs.setCurrentWidget(self.samples)
        self.notes.append_text("The model will answer the fixed prompts after the present step.")

    def _on_save(self) -> None:
        if not self._asked(lambda: self._jobs.tell(self.run, SaveNow())):
            return
        self.notes.append_text("A checkpoint will be written after the present step.")

    def _on_pause(self) -> None:
        if not self._asked(lambda: self._jobs.pause(self.run)):
            return
        self.pause.setEnabled(False)
        self.notes.append_text("The run will pause after the present step.")

    def _on_stop(self) -> None:
        if not self._asked(lambda: self._jobs.stop(self.run)):
            return
        self.stop.setEnabled(False)
        self.notes.append_text(f"The worker was {Rung.ASKED.value}.")

    def _on_resume(self) -> None:
        self._resume({})

    def _on_resume_with(self) -> None:
        try:
            proposal = self._jobs.resume_proposal(self.run)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        settings = ResumeDialog.ask(proposal, self._theme, self)
        if settings is not None:
            self._resume(settings)

    def _resume(self, settings: dict[str, Any]) -> None:
        try:
            step = self._jobs.resume(self.run, settings)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        if not step:
            self.notes.append_text("No checkpoint was complete; the run begins from the start.")
        self._show_recipe()
        self._stale = True
        self.refresh()

    def _on_export(self) -> None:
        self.export_asked.emit(self.run)

    def _on_chat(self) -> None:
        self.chat_asked.emit(self.run)

    def _on_split_moved(self) -> None:
        self._split_by_hand = True

    def resizeEvent(self, event: Any) -> None:
        self._stale = bool(self.run)
        super().resizeEvent(event)

    def showEvent(self, event: Any) -> None:
        self._stale = bool(self.run)
        super().showEvent(event)


def _read_answers(path: Path, step: int) -> Rollouts | str:
    """The answers of a step, or in a sentence why they cannot be shown."""
    try:
        size = path.stat().st_size
        if size > ANSWERS_BYTES:
            return (
                f"The answers of step {step} fill {size / 1e6:.0f} MB, more than is shown here. "
                f"They lie in {path}."
            )
        return msgspec.json.decode(path.read_bytes(), type=Rollouts)
    except FileNotFoundError:
        return f"The answers of step {step} are gone: there is no file {path}."
    except OSError as fault:
        return f"The answers of step {step} cannot be read from {path}: {fault.strerror}."
    except (msgspec.DecodeError, RecursionError) as fault:
        return f"The answers of step {step} are damaged: {path} does not read as answers ({fault})."


_UNSAID = (b'"type":"Metrics"', b'"type":"Rollout"', b'"type":"Token"')


def _decode_said(line: bytes) -> wire.Line | None:
    """A line of the events, unless it is one that is drawn and not written."""
    if any(kind in line[:120] for kind in _UNSAID):
        return None
    return wire.decode_event(line)


def _decode_log(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _span(seconds: float) -> str:
    seconds = max(seconds, 0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
