"""The frame: a sidebar and the pages, and the one clock on which jobs are followed and pages paint.

Only the page that is shown first is built before the window is painted; the others follow one by
one while nothing else is to be done, or at once when they are asked for.
"""

from __future__ import annotations

import sys
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

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

from studio.hardware import Monitor
from studio.jobs import Jobs
from studio.navigation import NewRun
from studio.theme import SPACE, Theme
from studio.widgets.notice import Banner
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol.recipe import Source

if TYPE_CHECKING:
    from studio.pages.chat import ChatPage
    from studio.pages.data import DataPage
    from studio.pages.export import ExportPage
    from studio.pages.hardware import HardwarePage
    from studio.pages.rewards import RewardsPage
    from studio.pages.run import RunPage
    from studio.pages.runs import RunsPage
    from studio.pages.settings import SettingsPage
    from studio.pages.train import TrainPage

TICK_MS = 100
IDLE_MS = 60
"""Pause before the next page is built in advance, so that clicks are answered in between."""
PAGES = {
    "train": ("Train", "rocket-launch"),
    "data": ("Data", "table"),
    "rewards": ("Rewards", "medal"),
    "runs": ("Runs", "list-bullets"),
    "run": ("Run", "chart-line-up"),
    "export": ("Export", "package"),
    "chat": ("Chat", "chat-circle"),
    "hardware": ("Hardware", "cpu"),
    "settings": ("Settings", "gear-six"),
}
"""Each page's attribute of the window, to its name and icon in the sidebar."""
SomePage = TypeVar("SomePage", bound=Page)


class Window(QMainWindow):
    """Shows one page at a time. Closing it leaves training running."""

    appearance_chosen = Signal(str)

    def __init__(self, jobs: Jobs, theme: Theme, monitor: Monitor) -> None:
        super().__init__()
        self.setWindowTitle("Finetune Studio")
        self.resize(1280, 800)
        self.setMinimumSize(960, 600)
        self._jobs = jobs
        self._theme = theme
        self._monitor = monitor
        self._built: dict[str, Page] = {}
        self._told = -1
        """The reading of the cards that the wizard has heard of."""
        self._stack = QStackedWidget()
        self._buttons: dict[str, QPushButton] = {}
        centre = QWidget()
        row = QHBoxLayout(centre)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._sidebar())
        row.addLayout(self._pages(), 1)
        self.setCentralWidget(centre)
        self.clock = QTimer(self)
        self.clock.setInterval(TICK_MS)
        self.clock.timeout.connect(self._on_tick)
        self.clock.start()
        self.setFocus()
        self.show_page(self.runs if jobs.store.jobs("train") else self.train)
        self._idle = QTimer(self, singleShot=True, interval=IDLE_MS)
        self._idle.timeout.connect(self._on_idle)
        self._idle.start()

    def _pages(self) -> QVBoxLayout:
        """The pages, and above them what concerns them all."""
        self.fault = Banner(self._theme)
        self.fault.setObjectName("index-fault")
        column = QVBoxLayout()
        column.setSpacing(0)
        above = QHBoxLayout()
        above.setContentsMargins(4 * SPACE, 2 * SPACE, 4 * SPACE, 0)
        above.addWidget(self.fault)
        column.addLayout(above)
        column.addWidget(self._stack, 1)
        return column

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
        for number, (key, (name, icon)) in enumerate(PAGES.items(), start=1):
            if key == "hardware":
                column.addStretch(1)
                column.addWidget(self._foot())
            made = button(name, self._theme, icon, kind="nav", name=f"nav:{name}")
            made.setCheckable(True)
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click needs no ring around it
            made.clicked.connect(lambda _=False, key=key: self.navigate(key))
            column.addWidget(made)
            self._buttons[key] = made
            keys = QShortcut(QKeySequence(f"Ctrl+{number}"), self)
            keys.activated.connect(partial(self.navigate, key))
        return bar

    def _foot(self) -> QWidget:
        """What is going on, above what the machine is doing."""
        foot = QWidget()
        column = QVBoxLayout(foot)
        column.setContentsMargins(SPACE, 0, 0, SPACE)
        column.setSpacing(SPACE)
        self.live = label("", "muted", wrap=True)
        self.machine = label("", "muted", wrap=True)
        self.machine.setObjectName("machine")
        column.addWidget(self.live)
        column.addWidget(self.machine)
        return foot

    # The pages

    @cached_property
    def train(self) -> TrainPage:
        from studio.pages.train import TrainPage

        page = self._add("train", TrainPage(self._jobs, self._theme))
        page.started.connect(self.open_run)
        page.rewards_tried.connect(partial(self.navigate, "rewards"))
        page.data.look_asked.connect(partial(self.navigate, "data"))
        return page

    @cached_property
    def data(self) -> DataPage:
        from studio.pages.data import DataPage

        page = self._add("data", DataPage(self._jobs, self._theme))
        page.used.connect(partial(self.navigate, "train"))
        page.template_chosen.connect(lambda template: self.train.use_template(template))
        page.length_chosen.connect(lambda tokens: self.train.use_length(tokens))
        return page

    @cached_property
    def rewards(self) -> RewardsPage:
        from studio.pages.rewards import RewardsPage

        page = self._add("rewards", RewardsPage(self._jobs, self._theme))
        page.wizard_asked.connect(lambda: page.offer(self.train.pipeline()))
        page.new_asked.connect(partial(self.navigate, "train"))
        page.reward_model_asked.connect(lambda: self.navigate("train", NewRun(stage="reward")))
        return page

    @cached_property
    def runs(self) -> RunsPage:
        from studio.pages.runs import RunsPage

        page = self._add("runs", RunsPage(self._jobs, self._theme))
        page.opened.connect(self.open_run)
        page.base_chosen.connect(
            lambda run, name: self.navigate("train", NewRun(base=run, name=name))
        )
        page.new_asked.connect(partial(self.navigate, "train"))
        return page

    @cached_property
    def run(self) -> RunPage:
        from studio.pages.run import RunPage

        page = self._add("run", RunPage(self._jobs, self._theme))
        page.export_asked.connect(partial(self.navigate, "export"))
        page.chat_asked.connect(partial(self.navigate, "chat"))
        page.new_asked.connect(partial(self.navigate, "train"))
        return page

    @cached_property
    def export(self) -> ExportPage:
        from studio.pages.export import ExportPage

        page = self._add("export", ExportPage(self._jobs, self._theme))
        page.chat_asked.connect(partial(self.navigate, "chat"))
        page.new_asked.connect(partial(self.navigate, "train"))
        return page

    @cached_property
    def chat(self) -> ChatPage:
        from studio.pages.chat import ChatPage

        page = self._add("chat", ChatPage(self._jobs, self._theme))
        page.new_asked.connect(partial(self.navigate, "train"))
        page.data_made.connect(
            lambda path, stage: self.navigate(
                "train", NewRun(source=Source(source=path), stage=stage)
            )
        )
        return page

    @cached_property
    def hardware(self) -> HardwarePage:
        from studio.pages.hardware import HardwarePage

        page = self._add("hardware", HardwarePage(self._monitor, self._theme))
        page.settings_asked.connect(partial(self.navigate, "settings"))
        return page

    @cached_property
    def settings(self) -> SettingsPage:
        from studio.pages.settings import SettingsPage

        page = self._add("settings", SettingsPage(self._jobs, self._theme))
        page.appearance_chosen.connect(self.appearance_chosen)
        return page

    def _add(self, key: str, page: SomePage) -> SomePage:
        self._built[key] = page
        self._stack.addWidget(page)
        return page

    def _on_idle(self) -> None:
        missing = next((key for key in PAGES if key not in self._built), None)
        if missing is not None:
            getattr(self, missing)
            self._idle.start()

    def show_page(self, page: Page) -> None:
        self._stack.setCurrentWidget(page)
        for key, made in self._buttons.items():
            made.setChecked(self._built.get(key) is page)
        page.refresh()

    @property
    def page(self) -> Page:
        """The page that is shown."""
        return self._stack.currentWidget()  # type: ignore[return-value]

    def navigate(self, key: str, request: object = None) -> None:
        """Shows a page, and hands it what another page asks of it."""
        page: Page = getattr(self, key)
        self.show_page(page)
        if request is not None:
            page.receive(request)

    def open_run(self, run: str) -> None:
        self.run.open(run)
        self.show_page(self.run)

    def _on_tick(self) -> None:
        self._jobs.poll()
        self._monitor.tick()
        self._show_live()
        self._show_fault()
        self._tell_card()
        self.page.refresh()

    def _tell_card(self) -> None:
        """Tells the wizard on what its run would be: the freest card, or none and why."""
        if "train" not in self._built or self._told == self._monitor.version:
            return
        self._told = self._monitor.version
        if (card := self._monitor.freest_card) is not None:
            self.train.wizard.use_card(card.memory_bytes, card.name)
        elif sys.platform != "darwin":  # where PyTorch has the computer's own GPU
            self.train.wizard.use_card(None, reason=self._monitor.reason)

    def _show_fault(self) -> None:
        """Tells while the index cannot be written to the disk."""
        fault = self._jobs.index_fault
        if fault is None:
            self.fault.hide()
        elif self.fault.isHidden():
            self.fault.refuse(fault)

    def _show_live(self) -> None:
        live = [row for row in self._jobs.store.live() if row.kind == "train"]
        names = [row.name for row in live if not row.waits]
        waiting = [row.name for row in live if row.waits]
        training = f"{', '.join(names)} is training.\nIt goes on if you close this window."
        waits = f"{', '.join(waiting)} waits for the GPU."
        self.live.setText("\n".join([training] * bool(names) + [waits] * bool(waiting)))
        self.machine.setText(self._monitor.words)

    def closeEvent(self, event: QCloseEvent) -> None:
        self.clock.stop()
        self._idle.stop()
        for page in self._built.values():
            page.leave()
        super().closeEvent(event)
