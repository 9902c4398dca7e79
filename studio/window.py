"""The frame: a sidebar and the pages, and the one clock on which jobs are heard and pages paint."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs
from studio.pages.chat import ChatPage
from studio.pages.export import ExportPage
from studio.pages.run import RunPage
from studio.pages.runs import RunsPage
from studio.pages.settings import SettingsPage
from studio.pages.train import TrainPage
from studio.theme import SPACE, Theme
from studio.widgets.page import Page
from studio.widgets.text import button, label

TICK_MS = 100


class Window(QMainWindow):
    """Shows one page at a time. Closing it leaves training running."""

    appearance_chosen = Signal(str)

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__()
        self.setWindowTitle("Finetune Studio")
        self.resize(1280, 800)
        self.setMinimumSize(960, 600)
        self._jobs = jobs
        self._theme = theme
        self.train, self.runs = TrainPage(jobs, theme), RunsPage(jobs, theme)
        self.run, self.chat = RunPage(jobs, theme), ChatPage(jobs, theme)
        self.export, self.settings = ExportPage(jobs, theme), SettingsPage(jobs, theme)
        self._pages: list[tuple[str, str, Page]] = [
            ("Train", "rocket-launch", self.train), ("Runs", "list-bullets", self.runs),
            ("Run", "chart-line-up", self.run), ("Export", "package", self.export),
            ("Chat", "chat-circle", self.chat), ("Settings", "gear-six", self.settings),
        ]  # fmt: skip
        self._stack = QStackedWidget()
        self._buttons: list[QPushButton] = []
        centre = QWidget()
        row = QHBoxLayout(centre)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._sidebar())
        row.addWidget(self._stack, 1)
        self.setCentralWidget(centre)
        self._connect()
        self.clock = QTimer(self)
        self.clock.setInterval(TICK_MS)
        self.clock.timeout.connect(self._on_tick)
        self.clock.start()
        self.setFocus()
        self.show_page(self.runs if jobs.store.jobs("train") else self.train)

    def _sidebar(self) -> QFrame:
        bar = QFrame()
        bar.setObjectName("sidebar")
        bar.setFixedWidth(208)
        column = QVBoxLayout(bar)
        column.setContentsMargins(SPACE + 4, 2 * SPACE, SPACE + 4, 2 * SPACE)
        column.setSpacing(SPACE // 2)
        brand = label("Finetune Studio", "heading")
        brand.setContentsMargins(SPACE, 0, 0, SPACE)
        column.addWidget(brand)
        for number, (name, icon, page) in enumerate(self._pages, start=1):
            made = button(name, self._theme, icon, kind="nav", name=f"nav:{name}")
            made.setCheckable(True)
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click needs no ring around it
            made.clicked.connect(lambda _=False, page=page: self.show_page(page))
            if page is self.settings:
                column.addStretch(1)
                self.live = label("", "muted", wrap=True)
                self.live.setContentsMargins(SPACE, 0, 0, SPACE)
                column.addWidget(self.live)
            column.addWidget(made)
            self._buttons.append(made)
            self._stack.addWidget(page)
            keys = QShortcut(QKeySequence(f"Ctrl+{number}"), self)
            keys.activated.connect(lambda page=page: self.show_page(page))
        return bar

    def _connect(self) -> None:
        self.train.started.connect(self.open_run)
        self.runs.opened.connect(self.open_run)
        self.runs.base_chosen.connect(self._on_base_chosen)
        self.run.export_asked.connect(self._on_export_asked)
        self.run.chat_asked.connect(self._on_chat_with_run)
        self.export.chat_asked.connect(self._on_chat_with_file)
        self.settings.appearance_chosen.connect(self.appearance_chosen)
        for page in (self.runs, self.run, self.export, self.chat):
            page.new_asked.connect(lambda: self.show_page(self.train))

    def show_page(self, page: Page) -> None:
        self._stack.setCurrentWidget(page)
        for made, (_, _, other) in zip(self._buttons, self._pages, strict=True):
            made.setChecked(other is page)
        page.refresh()

    @property
    def page(self) -> QWidget:
        """The page that is shown."""
        return self._stack.currentWidget()

    def open_run(self, run: str) -> None:
        self.run.open(run)
        self.show_page(self.run)

    def _on_base_chosen(self, run: str, name: str) -> None:
        self.show_page(self.train)
        self.train.use_base(run, name)

    def _on_export_asked(self, run: str) -> None:
        self.show_page(self.export)
        self.export.open(run)

    def _on_chat_with_run(self, run: str) -> None:
        self.show_page(self.chat)
        self.chat.open_run(run)

    def _on_chat_with_file(self, path: str) -> None:
        self.show_page(self.chat)
        self.chat.open(path)

    def _on_tick(self) -> None:
        news = self._jobs.poll()
        if news:
            for _, _, page in self._pages:
                page.hear(news)
        self._show_live()
        for _, _, page in self._pages:
            if page is self.page:
                page.refresh()

    def _show_live(self) -> None:
        names = [row.name for row in self._jobs.store.live() if row.kind == "train"]
        words = f"{', '.join(names)} is training.\nIt goes on if you close this window."
        self.live.setText(words if names else "")

    def closeEvent(self, event: QCloseEvent) -> None:
        self.clock.stop()
        for _, _, page in self._pages:
            page.leave()
        super().closeEvent(event)
