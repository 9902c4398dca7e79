"""A check of a whole dataset: the button that starts it, how far it is, and what was found."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout

from studio.theme import SPACE, Theme
from studio.widgets.audit import AuditView
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.audit import AuditResult
from workers.protocol.events import Event, Inspected, Phase, Progress


class CheckCard(Card):
    """Audits a whole dataset before a run: a button, how far it is, and what was found."""

    asked = Signal(str)
    """The source that is to be looked at."""
    cancelled = Signal()

    def __init__(
        self, theme: Theme, remedies: Collection[str] = (), *, single: bool = False
    ) -> None:
        """With `single` there is never more than one dataset to choose from."""
        super().__init__("Check before training")
        self._source = ""
        """The dataset of which something is told."""
        self.box = QComboBox()
        self.box.setAccessibleName("Dataset to check")
        self.start = button("Check", theme, "magnifying-glass", name="check-data")
        self.cancel = button("Cancel", theme, kind="quiet", name="cancel-check")
        self.state = label("", "muted", wrap=True)
        self.view = AuditView(theme, remedies)
        self.start.clicked.connect(lambda: self.asked.emit(self.box.currentText()))
        self.cancel.clicked.connect(self.cancelled)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.box, 1)
        row.addWidget(self.start)
        row.addWidget(self.cancel)
        if single:
            self.box.hide()
            row.addStretch(1)
        words = (
            "Reads every row as the model will: what is in the loss, what is truncated, wrong "
            "templates, duplicates, test questions among the training rows, personal data."
        )
        self.body.addWidget(label(words, "muted", wrap=True))
        self.body.addLayout(row)
        self.body.addWidget(self.state)
        self.body.addWidget(self.view)
        self.show_state("", working=False)
        self.hide()

    def offer(self, sources: list[str]) -> None:
        self.setVisible(bool(sources))
        present = self.box.currentText()
        self.box.clear()
        self.box.addItems(sources)
        self.box.setCurrentIndex(max(0, self.box.findText(present)))
        if self._source and self._source not in sources:
            self.forget()

    def begin(self, source: str) -> None:
        """A check of a dataset was started."""
        self._source = source
        self.view.clear()
        self.show_state("Starting", working=True)

    def end(self, failure: Collection[str]) -> None:
        """The check has ended; why and what to do now where it failed."""
        if self._source:
            self.show_state(" ".join(failure).strip(), working=False)

    def forget(self) -> None:
        """Tells nothing of the dataset any more; a check of it that still goes on is cancelled."""
        if not self.start.isEnabled():
            self.cancelled.emit()
        self._source = ""
        self.view.clear()
        self.show_state("", working=False)

    def show_state(self, words: str, *, working: bool) -> None:
        self.state.setText(words)
        self.state.setVisible(bool(words))
        self.start.setEnabled(not working)
        self.cancel.setVisible(working)

    def show_result(self, result: AuditResult) -> None:
        self.view.show_result(result)

    def take(self, event: Event) -> None:
        """Follows what the check's job says."""
        if not self._source:
            return
        match event:
            case Phase(name=name):
                self.show_state(name, working=True)
            case Progress() as progress:
                self.show_state(progress.words, working=True)
            case Inspected(result=result):
                self.show_result(result)
