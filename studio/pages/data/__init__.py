"""The Data screen: look into a dataset row by row and token by token, mend it, hand it on.

An open dataset is a job that ends with the window. Edits are a draft on disk until they are saved
as a version; the user's own file is never written to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent

from studio.audits import AuditRun
from studio.jobs import Jobs
from studio.pages.data.browser import Browser
from studio.pages.data.open_dialog import OpenDialog, saved_versions
from studio.session import Ending, Session, delete_ended
from studio.settings import save_settings
from studio.theme import Theme
from studio.widgets.notice import Banner
from studio.widgets.page import Page, polish_ahead
from studio.widgets.text import button
from workers.protocol.events import Event, VersionSaved
from workers.protocol.jobs import Browse, Inspect
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Request

MOST_RECENT = 12


class DataPage(Page):
    used = Signal(object)
    """A `Source` that the wizard is to learn from."""
    template_chosen = Signal(str)
    """The chat template that rows were looked at in, as a recipe names it."""
    length_chosen = Signal(int)
    """The max sequence length that the wizard is to take, in tokens."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Data", "See your data as the model will, and mend it before training.",
                         scrolls=False, wide=True)  # fmt: skip
        self._jobs = jobs
        self._dataset: Session | None = None
        self._due = self._tidied = False
        self.setAcceptDrops(True)
        self.banner = Banner(theme)
        self.open_dialog = OpenDialog(theme)
        self.browser = Browser(theme, jobs.home.root / "drafts")
        self._check = AuditRun(jobs, self.browser.check)
        self._make_actions(theme)
        self.body.addWidget(self.banner)
        self.body.addWidget(self.open_dialog, 1)
        self.body.addWidget(self.browser, 1)
        self.open_dialog.chosen.connect(lambda source: self.open(Source(source=source)))
        self.browser.asked.connect(self._send)
        self.browser.refused.connect(self.banner.refuse)
        self.browser.length_asked.connect(self._on_length)
        self.browser.check.asked.connect(self._on_check)
        self.browser.check.cancelled.connect(self._check.cancel)
        self._show_open_dialog()

    def _make_actions(self, theme: Theme) -> None:
        self.again = button("Open again", theme, "arrow-clockwise", name="open-again")
        self.again.clicked.connect(lambda: self.open(self.browser.source))
        self.another = button("Open another…", theme, "folder-open", name="open-another")
        self.another.clicked.connect(self._on_another)
        self.use = button("Use in the wizard", theme, "rocket-launch", kind="primary",
                          name="use-data")  # fmt: skip
        self.use.clicked.connect(self._on_use)
        for made in (self.again, self.another, self.use):
            self.action_row.addWidget(made)

    @property
    def job(self) -> str:
        """The job that shows the dataset; empty while none is open."""
        return self._dataset.job if self._dataset is not None else ""

    # Opening

    def showEvent(self, event: Any) -> None:
        if not self._tidied:
            self._tidied = True
            delete_ended(self._jobs, "browse")
            polish_ahead(self.browser)
        self._offer()
        runs = [(row.id, row.name) for row in self._jobs.store.jobs("train") if row.has_weights]
        self.browser.tokens.offer_models(runs)
        super().showEvent(event)

    def hideEvent(self, event: Any) -> None:
        self.browser.write()
        super().hideEvent(event)

    def _offer(self) -> None:
        folder = self._jobs.home.root / "data"
        self.open_dialog.offer(self._jobs.settings.recent_data, saved_versions(folder))

    def _show_open_dialog(self) -> None:
        self._offer()
        self.open_dialog.show()
        self.browser.hide()
        for made in (self.again, self.another, self.use):
            made.hide()

    def receive(self, request: object) -> None:
        if isinstance(request, Source):
            self.open(request)

    def open(self, source: Source) -> None:
        """Looks into a dataset, in place of the one that is open."""
        path = Path(source.source).expanduser()
        if path.exists() and not source.source.startswith("builtin:"):
            source = msgspec.structs.replace(source, source=str(path.absolute()))
        self._stop()
        self.banner.hide()
        self.browser.start(source)
        self.open_dialog.hide()
        self.browser.show()
        self.again.hide()
        self.another.show()
        self.use.show()
        self.use.setEnabled(False)
        self._due = True
        QTimer.singleShot(0, self, self._begin)  # the page is painted first

    def _begin(self) -> None:
        """Starts the worker for what was opened last."""
        due, self._due = self._due, False
        if not due:
            return
        tokens = self.browser.tokens
        task = Browse(source=self.browser.source, model=tokens.model, max_length=tokens.max_length)
        try:
            self._dataset = Session.start(self._jobs, task, temporary=True)
        except Refusal as refusal:
            self._show_open_dialog()
            self.banner.refuse(refusal)
            return
        self._dataset.on(VersionSaved, self._on_saved).on(Event, self._on_event)
        self._dataset.on(Ending, self._on_ended)

    def _remember(self, source: str) -> None:
        settings = self._jobs.settings
        recent = [source, *(one for one in settings.recent_data if one != source)][:MOST_RECENT]
        if recent != settings.recent_data:
            self._jobs.settings = msgspec.structs.replace(settings, recent_data=recent)
            save_settings(self._jobs.home.settings, self._jobs.settings)

    def _on_another(self) -> None:
        self._stop()
        self.banner.hide()
        self._show_open_dialog()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        urls = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()
        if urls:
            self.open(Source(source=urls[0]))

    # The worker

    def _send(self, request: Request) -> None:
        if self._dataset is None:
            return
        try:
            self._dataset.send(request)
        except Refusal as refusal:
            self.banner.refuse(refusal)

    def _on_event(self, event: Event) -> None:
        opened = self.browser.opening is not None
        self.browser.take(event)
        opening = self.browser.opening
        if not opened and opening is not None:
            self._remember(self.browser.source.source)
        self.use.setEnabled(opening is not None and opening.format is not None)

    def _on_saved(self, saved: VersionSaved) -> None:
        """Goes on with the new version, which lacks nothing of the edits."""
        version, source = saved.version, self.browser.source
        remark = self.browser.remark
        self.browser.stop_saving()
        self.browser.history.clear()
        self.open(msgspec.structs.replace(
            source, source=version.path, licence=version.licence or source.licence,
        ))  # fmt: skip
        self.banner.inform(
            f"Saved as {Path(version.path).name}: {version.rows:,} rows.",
            f"{version.changed:,} changed, {version.dropped:,} dropped, {version.tagged:,} tagged.",
            remark or "This is the new version; its source stays as it was.",
        )

    def _on_ended(self, ending: Ending) -> None:
        self._dataset = None
        self.browser.stop_saving()
        if self.browser.opening is None:
            self._show_open_dialog()
        self.again.setVisible(self.browser.isVisible())
        self.banner.tell(
            ending.cause or "The dataset is closed.", "", ending.remedy or "Open it again."
        )

    def _stop(self) -> None:
        self.browser.write()
        if self._dataset is not None:
            self._dataset.close()
        self._dataset = None
        self._due = False

    def leave(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        self._stop()

    def refresh(self) -> None:
        if self._dataset is not None:
            self.browser.look()

    # The check

    def _on_check(self) -> None:
        browser = self.browser
        tokens = browser.tokens
        task = Inspect(source=browser.source, model=tokens.model, stage=browser.stages.value,
                       max_length=tokens.max_length, template=tokens.template)  # fmt: skip
        try:
            self._check.start(task)
        except Refusal as refusal:
            self.banner.refuse(refusal)

    # Handing on

    def _on_length(self, tokens: int) -> None:
        self.length_chosen.emit(tokens)
        self.banner.inform(f"The max sequence length is {tokens:,} now, in the wizard too.")

    def _on_use(self) -> None:
        if words := self.browser.history.words:
            self.banner.tell(
                "The wizard would not see your edits.", f"{words.capitalize()}.",
                "Save them as a new version, then use that.",
            )  # fmt: skip
            return
        opening, source = self.browser.opening, self.browser.source
        licence = source.licence or (opening.licence if opening is not None else "")
        self.template_chosen.emit(self.browser.tokens.template)
        self.used.emit(msgspec.structs.replace(source, licence=licence))
