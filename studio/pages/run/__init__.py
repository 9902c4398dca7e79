"""The Run screen: one run as it goes, or as it went.

There is one source: the store has what the run said so far, and the session says what follows; the
two meet without a gap because the store is written first. Curves and notes are taken from the store
a slice a tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QPlainTextEdit, QSplitter, QTabWidget, QVBoxLayout, QWidget

from studio.jobs import Jobs
from studio.pages.run.answers import read_answers
from studio.pages.run.curves import RunCharts
from studio.pages.run.header import RunHeader
from studio.pages.run.plans import charts_for
from studio.process import Rung
from studio.records import JobRow
from studio.session import Ending, Session
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.completions import FirstAndNow, StepsView
from studio.widgets.findings import Finding, FindingList, HealthStrip
from studio.widgets.log import LogView
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.page import Page
from studio.widgets.resume import ResumeDialog
from studio.widgets.text import button, emphasize
from workers.protocol import wire
from workers.protocol.events import (
    Evaluated,
    Event,
    Metrics,
    Note,
    Paused,
    Resumed,
    Retried,
    Rollout,
    Sampled,
    Saved,
)
from workers.protocol.jobs import Train
from workers.protocol.recipe import format_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import SampleNow, SaveNow
from workers.protocol.rollouts import Rollouts
from workers.protocol.stages import STAGES

LINES = 200
"""Most notes and samples that are taken from the store on one tick."""
LOG_BYTES = 64 * 1024
"""Most of the log that is read on one tick."""
PAINT_S = 0.008
"""When painting has taken so long on one tick, the other charts wait for the next."""


class RunPage(Page):
    export_asked = Signal(str)
    chat_asked = Signal(str)
    """The folder of a run that is to be talked to."""
    new_asked = Signal()

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Run", "No run is chosen.", scrolls=False, wide=True)
        self._jobs = jobs
        self._theme = theme
        self.run = ""
        self._session: Session | None = None
        self._row: JobRow | None = None
        self._stale = False
        self._algorithm = ""
        self._line = 0
        """The number of the last event that stands in the notes or among the samples."""
        self._log: wire.Follower[str] | None = None
        self.rollouts: dict[int, str] = {}
        """Step to the file of its answers, relative to the run's folder."""
        self._split_by_hand = False
        self.header = RunHeader(theme)
        self.pill, self.phase = self.header.pill, self.header.phase
        self.scores, self.progress = self.header.scores, self.header.progress
        self.banner = Banner(theme)
        self.health = HealthStrip(theme)
        self._add_actions(theme)
        self.grid = RunCharts(jobs.store, theme)
        self.grid.picked.connect(self._on_step_picked)
        self.charts = self.grid.charts
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
        self.resume_less = button(
            "Resume with less memory", theme, "play", kind="primary", name="resume-less"
        )
        self.resume_with = button("Resume…", theme, "faders-horizontal", name="resume-with")
        self.export = button("Export", theme, "package", kind="primary", name="export")
        self.chat = button("Chat", theme, "chat-circle", name="chat")
        self.sample.setToolTip("Let the model answer the run's fixed prompts now, and go on")
        self.save.setToolTip("Write a checkpoint after the present step and go on")
        self.pause.setToolTip("Write a checkpoint and rest; Resume goes on from it")
        self.stop.setToolTip("End within one step; what was learnt is saved first")
        self.resume.setToolTip("Go on from the last complete checkpoint, or from the start")
        self.resume_less.setToolTip("Go on with the change that costs least")
        self.resume_with.setToolTip("Go on with another batch size, length or number of steps")
        slots = {self.sample: self._on_sample, self.save: self._on_save,
                 self.pause: self._on_pause, self.stop: self._on_stop,
                 self.resume: lambda: self._resume({}),
                 self.resume_with: lambda: self._resume_by_proposal(ask=True),
                 self.resume_less: lambda: self._resume_by_proposal(ask=False),
                 self.export: self._on_export, self.chat: self._on_chat}  # fmt: skip
        for made, slot in slots.items():
            made.clicked.connect(slot)
            made.hide()
            self.action_row.addWidget(made)

    def _make_present(self) -> QWidget:
        self.split = QSplitter()
        self.split.setOrientation(Qt.Orientation.Vertical)
        self.split.setChildrenCollapsible(False)
        self.split.setHandleWidth(SPACE + SPACE // 2)
        self.split.addWidget(self.grid)
        self.split.addWidget(self._make_tabs())
        self.split.setStretchFactor(0, 1)
        self.split.setStretchFactor(1, 1)
        self.split.splitterMoved.connect(self._on_split_moved)
        present = QWidget()
        column = QVBoxLayout(present)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE + SPACE // 2)
        for widget in (self.header, self.banner, self.health):
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
        self._follow(run)
        self.header.pace.clear()
        self._empty.hide()
        self._present.show()
        for text in (self.notes, self.log):
            text.clear()
        self.samples.forget()
        self.steps.clear()
        self._line = 0
        self._log = wire.Follower(self.folder / wire.LOG, _decode_log)
        self.rollouts = self._jobs.store.rollouts(run)
        self._show_recipe()
        self.grid.open(run, charts_for(row.stage, self._algorithm))
        spec = STAGES.get(row.stage)
        answers = (spec is not None and spec.policy) or bool(self.rollouts)
        self.tabs.setTabVisible(0, answers)
        if not self._split_by_hand:
            self.split.setSizes([300, 300] if answers else [440, 200])
        self.invalidate()
        self.refresh()

    def _follow(self, run: str) -> None:
        if self._session is not None:
            self._session.close()
        self._session = Session(self._jobs, run).on(wire.Line, self._on_line)
        self._session.on(Rung, self._on_rung).on(Ending, self.invalidate)

    @property
    def folder(self) -> Path:
        """The folder of the run that is shown."""
        return self._jobs.folder(self.run)

    @property
    def settled(self) -> bool:
        """Whether everything that is to be seen has been read, placed and drawn."""
        drawn = not any(made.stale for made in self.grid.in_sight)
        return drawn and self.grid.loaded and not self._stale

    def invalidate(self, *_: object) -> None:
        """Has the state shown anew on the next tick."""
        self._stale = bool(self.run)

    def _show_recipe(self) -> None:
        self._algorithm = ""
        try:
            job = wire.read_job(self.folder)
        except Refusal as refusal:
            self.recipe.setPlainText(str(refusal))
            return
        if isinstance(job.task, Train):
            self._algorithm = job.task.recipe.rl.algorithm
            self.recipe.setPlainText(format_recipe(job.task.recipe))

    def _on_line(self, line: wire.Line) -> None:
        self.invalidate()
        match line.event:
            case Metrics(step=step, values=values):
                self.grid.add(step, values)
                if "loss" in values:
                    self.header.pace.add(line.t, step)
            case Rollout(step=step, path=path):
                self.rollouts[step] = path
            case Resumed(step=step):
                self.header.pace.clear()
                self.grid.cut_after(step)
                self.rollouts = {s: path for s, path in self.rollouts.items() if s <= step}
            case Retried():
                self._show_recipe()

    def _on_rung(self, rung: Rung) -> None:
        self.invalidate()
        self.notes.append_text(f"The worker {rung.value}.")

    def _read_on(self) -> None:
        """The next slice of what the run said, into the tabs of text."""
        for line in self._jobs.store.lines(self.run, self._line, LINES):
            self._line = line.n
            self._say(line.event)

    def _say(self, event: Event) -> None:
        match event:
            case Sampled(step=step, prompt=prompt, completion=completion):
                self.samples.add(step, prompt, completion)
            case Note(text=text):
                self.notes.append_text(text)
            case Saved(step=step, path=path):
                self.notes.append_text(f"Checkpoint of step {step} saved to {path}")
            case Paused(detail=detail) | Retried(detail=detail):
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
        if self.grid.load(until) or self._stale:
            self._stale = False
            self._show_row()
            self._show_health()
            self.grid.place()
        self._show_tab()
        self.grid.paint(until)

    def _show_tab(self) -> None:
        shown = self.tabs.currentWidget()
        if shown is self.samples:
            self.samples.paint()
        elif shown is self.steps:
            self.steps.show_steps(list(self.rollouts))
        elif shown is self.log and self._log is not None:
            for text in self._log.read(LOG_BYTES):
                self.log.append_text(text)

    def _show_row(self) -> None:
        row = self._row = self._jobs.store.job(self.run)
        if row is None:
            return
        self.title.setText(row.name)
        self.subtitle.setText(f"{row.stage.upper()}  ·  {row.id}")
        self.header.show_row(row, self._jobs.store.evaluations(self.run))
        can = {self.sample: row.live, self.save: row.live, self.pause: row.live,
               self.stop: row.live, self.resume: row.may_resume, self.resume_with: row.may_resume,
               self.resume_less: row.short_of_memory,
               self.export: row.has_weights, self.chat: row.has_weights}  # fmt: skip
        emphasize(self.resume, self._theme, "play", primary=not row.short_of_memory)
        for made, visible in can.items():
            made.setVisible(visible)
        if not row.live:
            self.pause.setEnabled(True)
            self.stop.setEnabled(True)

    def _show_health(self) -> None:
        row = self._row
        if row is None:
            return
        found = self.found()
        held = [finding for finding in found if finding.until is None]
        why = next((one for one in held if row.paused and one.meaning in row.cause), None)
        self._show_banner(row, why)
        self.health.show_findings([finding for finding in held if finding is not why])
        self.findings.show_findings(found)
        title = f"Health ({len(held)})" if held else "Health"
        self.tabs.setTabText(self.tabs.indexOf(self.findings), title)
        self.grid.mark(found)

    def _show_banner(self, row: JobRow, why: Finding | None) -> None:
        """What ended or halted the run, alarming only when it failed."""
        if row.status == "failed":
            self.banner.tell(row.cause, "", row.remedy)
        elif row.paused or (row.status == "finished" and row.cause):
            self.banner.inform(row.cause, why.remedy if why else "", row.remedy)
        else:
            self.banner.hide()

    def found(self) -> list[Finding]:
        """What the health coach noticed. A kind that comes again, after a pause, passed before."""
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

    # Steps

    def _on_step_wanted(self, step: int) -> None:
        path = self.folder / self.rollouts[step]
        read = read_answers(path, step)
        if isinstance(read, Rollouts):
            self.steps.show_rollouts(read)
        else:
            self.steps.say(read)

    def _on_step_picked(self, step: int) -> None:
        """A click on a chart leads to the answers of that step."""
        if self.rollouts:
            self.steps.show_steps(list(self.rollouts))
            self.tabs.setCurrentWidget(self.steps)
            self.steps.pick(step)

    # What is asked

    def _asked(self, ask: Callable[[], None]) -> bool:
        """Asks something of the run; says why where that cannot be."""
        try:
            ask()
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return False
        return True

    def _on_sample(self) -> None:
        if not self._asked(lambda: self._jobs.send(self.run, SampleNow())):
            return
        self.tabs.setCurrentWidget(self.samples)
        self.notes.append_text("The model will answer the fixed prompts after the present step.")

    def _on_save(self) -> None:
        if not self._asked(lambda: self._jobs.send(self.run, SaveNow())):
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

    def _resume_by_proposal(self, *, ask: bool) -> None:
        """Goes on with what is proposed; what changes what is learnt is asked in any case."""
        try:
            proposal = self._jobs.resume_proposal(self.run)
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        if ask or not proposal.unasked:
            settings = ResumeDialog.ask(proposal, self._theme, self)
        else:
            settings = proposal.settings
        if settings is not None:
            self._resume(settings)

    def _resume(self, settings: dict[str, Any]) -> None:
        try:
            step = self._jobs.resume(self.run, settings)
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        if not step:
            self.notes.append_text("No checkpoint was complete; the run begins from the start.")
        self._show_recipe()
        self.invalidate()
        self.refresh()

    def _on_export(self) -> None:
        self.export_asked.emit(self.run)

    def _on_chat(self) -> None:
        self.chat_asked.emit(str(self.folder))

    def _on_split_moved(self) -> None:
        self._split_by_hand = True

    def resizeEvent(self, event: Any) -> None:
        self.invalidate()
        super().resizeEvent(event)

    def showEvent(self, event: Any) -> None:
        self.invalidate()
        super().showEvent(event)


def _decode_log(line: bytes) -> str:
    return line.decode("utf-8", "replace")
