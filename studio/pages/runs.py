"""The Runs screen: every training run, newest first, live ones moving."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from PySide6.QtCore import QModelIndex, QPoint, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QHeaderView, QLineEdit, QMenu, QMessageBox, QTableView

from studio.jobs import Jobs
from studio.records import JobRow
from studio.store import Store
from studio.theme import Theme
from studio.widgets.notice import STATUS, EmptyState
from studio.widgets.page import Page
from studio.widgets.resume import ResumeDialog
from studio.widgets.tablemodel import TableModel
from workers.protocol.metrics import BRIEF, metric_of
from workers.protocol.refusal import Refusal
from workers.protocol.stages import talks


class RunsModel(TableModel):
    """Rows as the store has them; `show` changes what changed."""

    @property
    def columns(self) -> Sequence[str]:
        return "Name", "Stage", "Status", "Steps", "Measure", "Started", "Time"

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.rows: list[tuple[JobRow, str]] = []

    def show(self, rows: list[tuple[JobRow, str]]) -> None:
        same = [row.id for row, _ in rows] == [row.id for row, _ in self.rows]
        if same:
            self.rows = rows
            self.tell_all_changed()
            return
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: Any = None) -> int:
        return len(self.rows)

    def data(self, index: QModelIndex | Any, role: int = 0) -> Any:
        row, measure = self.rows[index.row()]
        status = "waiting" if row.waits else row.status
        word, tint, icon = STATUS.get(status, (status, "muted", "circle"))
        in_status = index.column() == 2
        if role == Qt.ItemDataRole.DisplayRole:
            return _cells(row, measure, word)[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and in_status:
            return self._theme.icon(icon, tint)
        if role == Qt.ItemDataRole.ForegroundRole and index.column() not in (0, 2):
            return QColor(self._theme.palette.muted)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{row.id}\n{row.phase if row.waits else row.cause}".strip()
        return None


def _cells(row: JobRow, measure: str, status: str) -> list[str]:
    steps = f"{row.steps} / {row.total_steps}" if row.total_steps else str(row.steps)
    return [
        row.name, row.stage.upper(), status, steps, measure,
        ago(row.created), duration(row.seconds),
    ]  # fmt: skip


def _measure(store: Store, run: str) -> str:
    """The most telling measure of a run as it stands, in words."""
    for curve in BRIEF:
        if (value := store.last_value(run, curve)) is not None:
            return metric_of(curve).brief.format(value)
    return "–"


def ago(created: str, now: datetime | None = None) -> str:
    """A moment in the past in a few words; nothing where it cannot be read as one."""
    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // length)) >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class RunsPage(Page):
    opened = Signal(str)
    new_asked = Signal()
    base_chosen = Signal(str, str)

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Runs", "Everything that was trained here.", scrolls=False, wide=True)
        self._jobs = jobs
        self._theme = theme
        self._stale = True
        self.model = RunsModel(theme)
        self._proxy = QSortFilterProxyModel()
        self._proxy.setSourceModel(self.model)
        self._proxy.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._proxy.setFilterKeyColumn(-1)
        self.search = QLineEdit()
        self.search.setObjectName("search-runs")
        self.search.setPlaceholderText("Search")
        self.search.setAccessibleName("Search runs")
        self.search.setFixedWidth(220)
        self.search.textChanged.connect(self._proxy.setFilterFixedString)
        self.action_row.addWidget(self.search)
        self.table = self._make_table()
        self._empty = EmptyState(
            "list-bullets", "No runs yet",
            "Runs appear here as soon as one is started. The first one takes two minutes on a "
            "laptop and needs nothing to be fetched.", "Train a first model", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.body.addWidget(self.table, 1)
        self.body.addWidget(self._empty, 1)
        theme.changed.connect(self._on_changed)
        jobs.subscribe(None, self._on_changed)

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setObjectName("runs")
        table.setModel(self._proxy)
        table.setShowGrid(False)
        table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(40)
        table.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        table.horizontalHeader().setHighlightSections(False)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        table.setTabKeyNavigation(False)
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(self._on_menu_asked)
        table.activated.connect(self._on_activated)
        table.clicked.connect(self._on_activated)
        return table

    def showEvent(self, event: Any) -> None:
        self._stale = True
        super().showEvent(event)

    def refresh(self) -> None:
        if not self._stale:
            return
        self._stale = False
        store = self._jobs.store
        rows = [(row, _measure(store, row.id)) for row in store.jobs("train")]
        self.model.show(rows)
        self.table.setVisible(bool(rows))
        self.search.setVisible(bool(rows))
        self._empty.setVisible(not rows)

    def _row_at(self, index: QModelIndex) -> JobRow:
        return self.model.rows[self._proxy.mapToSource(index).row()][0]

    def _on_activated(self, index: QModelIndex) -> None:
        self.opened.emit(self._row_at(index).id)

    def _on_menu_asked(self, at: QPoint) -> None:
        index = self.table.indexAt(at)
        if not index.isValid():
            return
        self.menu_of(self._row_at(index)).exec(self.table.viewport().mapToGlobal(at))

    def menu_of(self, row: JobRow) -> QMenu:
        """What can be done with a run."""
        menu = QMenu(self)
        menu.addAction("Open", lambda: self.opened.emit(row.id))
        if row.may_resume:
            menu.addAction("Resume", lambda: self._resume(row.id, {}))
            menu.addAction("Resume…", lambda: self._resume_with(row.id))
        onward = menu.addAction("Train on from it", lambda: self.base_chosen.emit(row.id, row.name))
        onward.setEnabled(row.has_weights and talks(row.stage))
        menu.addSeparator()
        gone = menu.addAction("Delete…", lambda: self._delete(row))
        gone.setEnabled(not row.live)
        return menu

    def _resume_with(self, run: str) -> None:
        try:
            proposal = self._jobs.resume_proposal(run)
        except Refusal as refusal:
            QMessageBox.warning(self, "Resume", str(refusal))
            return
        settings = ResumeDialog.ask(proposal, self._theme, self)
        if settings is not None:
            self._resume(run, settings)

    def _resume(self, run: str, settings: dict[str, Any]) -> None:
        """Starts a run again and shows it."""
        try:
            self._jobs.resume(run, settings)
        except Refusal as refusal:
            QMessageBox.warning(self, "Resume", str(refusal))
            return
        self.opened.emit(run)

    def _delete(self, row: JobRow) -> None:
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self, "Delete run",
            f"Delete {row.name} with its weights, checkpoints and exports? This cannot be undone.",
            buttons.Yes | buttons.Cancel, buttons.Cancel,
        )  # fmt: skip
        if answer != buttons.Yes:
            return
        try:
            self._jobs.delete(row.id)
        except (Refusal, OSError) as fault:
            QMessageBox.warning(self, "Delete run", str(fault))
        self._stale = True

    def _on_changed(self, *_: object) -> None:
        self._stale = True
