"""The Export screen: a finished run as files for other programs, each compared with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QSignalBlocker, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from studio.jobs import Jobs
from studio.session import Ending, Session
from studio.theme import SPACE, Theme
from studio.widgets.card import Card, Choices
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol.events import Artifact, Checked, Phase
from workers.protocol.exports import EXPORTS, USUAL, differs, read_parity
from workers.protocol.jobs import Export
from workers.protocol.refusal import Refusal


class ExportPage(Page):
    chat_asked = Signal(str)
    new_asked = Signal()

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Export", "Files for llama.cpp, Ollama and others, checked against the "
                         "trained model.")  # fmt: skip
        self._jobs = jobs
        self._theme = theme
        self._session: Session | None = None
        """Follows the export that goes on."""
        self._made = ""
        """The file that is being compared."""
        self.runs = QComboBox()
        self.runs.setObjectName("export-run")
        self.runs.setAccessibleName("Run to export")
        self.runs.currentIndexChanged.connect(self._on_run_chosen)
        self.targets = Choices(theme, several=True)
        for spec in EXPORTS.values():
            self.targets.add(spec.id, spec.title, spec.words, spec.icon)
        self.targets.choose([USUAL])
        self.start = button("Export", theme, "package", kind="primary", name="start-export")
        self.start.clicked.connect(self._on_start)
        self.stop = button("Stop", theme, "stop", name="stop-export")
        self.stop.clicked.connect(self._on_stop)
        self.banner = Banner(theme)
        self.phase = label("", "muted")
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.checks, self.files = Card("Compared with the trained model"), Card("Files")
        self._check_lines, self._file_lines = QVBoxLayout(), QVBoxLayout()
        self.checks.body.addLayout(self._check_lines)
        self.files.body.addLayout(self._file_lines)
        self._content = self._make_content()
        self._empty = EmptyState(
            "package", "Nothing to export yet", "Train a model first. Every finished run can be "
            "exported here.", "Train a model", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.body.addWidget(self._content, 1)
        self.body.addWidget(self._empty, 1)

    def _make_content(self) -> QWidget:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(label("Run", "heading"))
        column.addWidget(self.runs)
        column.addWidget(label("As", "heading"))
        column.addWidget(self.targets)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.start)
        row.addWidget(self.stop)
        row.addWidget(self.phase, 1)
        column.addLayout(row)
        for widget in (self.progress, self.banner, self.files, self.checks):
            column.addWidget(widget)
        for widget in (self.progress, self.stop, self.checks, self.files):
            widget.hide()
        column.addStretch(1)
        return content

    def showEvent(self, event: Any) -> None:
        self._offer_runs()
        super().showEvent(event)

    def _offer_runs(self) -> None:
        present = self.runs.currentData()
        rows = [row for row in self._jobs.store.jobs("train") if row.has_weights]
        with QSignalBlocker(self.runs):
            self.runs.clear()
            for row in rows:
                self.runs.addItem(f"{row.name}   {row.id}", row.id)
            self.runs.setCurrentIndex(max(0, self.runs.findData(present)))
        self._content.setVisible(bool(rows))
        self._empty.setVisible(not rows)
        if rows and self._session is None:
            self._show_files()

    def receive(self, request: object) -> None:
        if isinstance(request, str):
            self.open(request)

    def open(self, run: str) -> None:
        """Shows the page with a run chosen."""
        self._offer_runs()
        self.runs.setCurrentIndex(self.runs.findData(run))

    def _on_run_chosen(self) -> None:
        if self._session is None:
            self.banner.hide()
            _clear(self._check_lines)
            self.checks.hide()
            self._show_files()

    def _show_files(self) -> None:
        _clear(self._file_lines)
        exports = self._jobs.store.exports_of(self.runs.currentData() or "")
        kept = [file for file in exports if Path(file.path).exists()]
        checked = read_parity(Path(kept[0].path).parent) if kept else {}
        for file in kept:
            apart = "" if self._session is not None else differs(checked.get(Path(file.path).name))
            self._file_lines.addWidget(self._file_line(file.path, file.kind, file.bytes, apart))
        self.files.setVisible(bool(kept))

    def _file_line(self, path: str, kind: str, size: int, apart: str) -> QWidget:
        """A file; `apart` says why it does not speak like the model, and is empty where it does."""
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(label(Path(path).name, "label", select=True))
        row.addWidget(label(f"{size / 1e6:,.0f} MB", "muted"), 0 if apart else 1)
        if apart:
            warning = label("Differs from the trained model", "fault")
            warning.setToolTip(apart)
            row.addWidget(warning, 1)
        show = button("Show in folder", self._theme, "folder-open", kind="quiet")
        show.clicked.connect(lambda: _show_in_folder(path))
        row.addWidget(show)
        if kind in EXPORTS and EXPORTS[kind].quantization:
            talk = button("Chat with it", self._theme, "chat-circle", name=f"chat:{kind}")
            talk.clicked.connect(lambda: self.chat_asked.emit(path))
            row.addWidget(talk)
        return line

    def _on_start(self) -> None:
        run = self._jobs.store.job(self.runs.currentData() or "")
        if run is None or not self.targets.chosen:
            self.banner.tell("No target is chosen.", "There is nothing to write.",
                             "Choose one or more of the cards above.")  # fmt: skip
            return
        self.banner.hide()
        folder = str(self._jobs.folder(run.id))
        task = Export(run_folder=folder, targets=self.targets.chosen)
        try:
            self._session = Session.start(self._jobs, task, f"export {run.name}", run.id)
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        self._session.on(Phase, lambda phase: self.phase.setText(phase.name))
        self._session.on(Artifact, self._on_artifact).on(Checked, self._on_checked)
        self._session.on(Ending, self._on_ended)
        _clear(self._check_lines)
        self.checks.hide()
        self._show_working(True)

    def _show_working(self, working: bool) -> None:
        self.progress.setVisible(working)
        self.stop.setVisible(working)
        self.start.setEnabled(not working)
        self.runs.setEnabled(not working)
        self.phase.setText("Starting" if working else "")

    def _on_stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def _on_artifact(self, artifact: Artifact) -> None:
        self._made = Path(artifact.path).name
        self._show_files()

    def _on_checked(self, checked: Checked) -> None:
        self._check_lines.addWidget(self._check_line(checked))
        self.checks.show()
        if not checked.passed and self.banner.isHidden():
            self.banner.tell(f"{self._made} does not speak like the trained model.",
                             f"{checked.check}: {checked.detail}", checked.remedy)  # fmt: skip

    def _check_line(self, checked: Checked) -> QWidget:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        icon = label()
        passed = checked.passed
        self._theme.set_icon(icon, "check-circle" if passed else "x-circle",
                          "good" if passed else "bad")  # fmt: skip
        row.addWidget(icon)
        name = label(checked.check, "label")
        name.setMinimumWidth(180)
        row.addWidget(name)
        detail = f"{checked.detail} {checked.remedy}".strip()
        row.addWidget(label(detail, "muted", wrap=True, select=True), 1)
        return line

    def _on_ended(self, ending: Ending) -> None:
        self._session = None
        self._show_working(False)
        self._show_files()
        if ending.status == "failed":
            self.banner.tell(ending.cause, "", ending.remedy)


def _clear(lines: QVBoxLayout) -> None:
    while lines.count():
        item = lines.takeAt(0)
        if item is not None and (widget := item.widget()) is not None:
            widget.deleteLater()


def _show_in_folder(path: str) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(path).parent)))
