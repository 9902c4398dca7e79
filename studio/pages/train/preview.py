"""The first rows of a dataset of any format, and how many it has: read by the worker that reads it
for training."""

from __future__ import annotations

from typing import Any

import msgspec
from PySide6.QtCore import QTimer, Signal

from studio.jobs import Jobs
from studio.session import Ending, Session
from studio.theme import Theme, set_look
from studio.widgets.card import Card
from studio.widgets.proposal import ProposalView
from studio.widgets.text import label
from workers.protocol.audit import counted as words_for
from workers.protocol.browse import Opening, RowView
from workers.protocol.events import Event, Opened, Phase, RowsCounted, RowsShown
from workers.protocol.jobs import Browse
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import ShowRows
from workers.protocol.sources import on_hub

ROWS = 3
LETTERS = 280
"""Of a row that cannot be used, so much is shown as it stands in the file."""


class Preview(Card):
    """Reads once it is to be seen, and lets the worker go as soon as the rows are counted."""

    counted = Signal()
    opened = Signal(str, object)
    """A dataset, and the `Opening` that says what it was taken for."""
    mapped = Signal(object)
    """The `Source` with the columns that were proposed."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("First rows")
        self.counts: dict[str, int] = {}
        """Rows of every source that was read to its end."""
        self._jobs = jobs
        self._session: Session | None = None
        self._source: Source | None = None
        self._opening: Opening | None = None
        self._due = False
        self._left: set[type[Event]] = set()
        """What the worker is still to say."""
        self.state = label("", "muted", wrap=True, select=True)
        self.rows = label("", "", wrap=True, select=True)
        self.proposal = ProposalView(theme)
        self.proposal.taken.connect(self._on_taken)
        self.body.addWidget(self.state)
        self.body.addWidget(self.proposal)
        self.body.addWidget(self.rows)
        self.show_source(None)

    def show_source(self, source: Source | None) -> None:
        """Shows the first rows of a dataset; None shows nothing."""
        self.setVisible(source is not None)
        if source == self._source:
            return
        self.leave()
        self._source, self._opening = source, None
        self._due = source is not None and not on_hub(source.source)
        self._say("Reading…" if self._due else 'It is on the hub; "Look at it" fetches its rows.')
        self._begin_soon()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._begin_soon()

    def _begin_soon(self) -> None:
        if self._due and self.isVisible():
            QTimer.singleShot(0, self, self.begin)  # what was clicked is painted first

    def begin(self) -> None:
        """Starts reading, though it may not be on the screen: a count is wanted elsewhere too."""
        if not self._due or self._source is None:
            return
        self._due = False
        self._left = {RowsShown, RowsCounted}
        try:
            self._session = Session.start(self._jobs, Browse(source=self._source), temporary=True)
        except Refusal as refusal:
            self._say(str(refusal), fault=True)
            return
        self._session.on(Phase, lambda phase: self._say(f"{phase.name}…"))
        self._session.on(Opened, self._on_opened).on(RowsShown, self._on_rows)
        self._session.on(RowsCounted, self._on_counted).on(Ending, self._on_ended)

    def _on_opened(self, opened: Opened) -> None:
        opening = self._opening = opened.opening
        self._say(_shape(opening), fault=opening.format is None)
        self.proposal.show_proposal(opening.proposal)
        self.opened.emit(opening.source, opening)
        if self._session is None:  # what was opened led to another source
            return
        try:
            self._session.send(ShowRows(first=0, count=ROWS))
        except Refusal as refusal:
            self._say(str(refusal), fault=True)

    def _on_rows(self, shown: RowsShown) -> None:
        self.rows.setText("\n\n".join(_words(row) for row in shown.rows))
        self.rows.setVisible(bool(shown.rows))
        self._done(RowsShown)

    def _on_counted(self, counted: RowsCounted) -> None:
        if counted.complete and self._source is not None:
            if self._opening is not None and self._opening.documents:
                told = words_for(counted.rows, self._opening.documents)
                self.state.setText(f"{self._source.source}: {told}.")
            self.counts[self._source.source] = counted.rows
            self._done(RowsCounted)
            self.counted.emit()

    def _on_ended(self, ending: Ending) -> None:
        self._session = None
        words = f"{ending.cause} {ending.remedy}".strip()
        self._say(words or "It could not be read.", fault=True)

    def _on_taken(self, mapping: dict[str, Any]) -> None:
        if self._source is not None:
            self.mapped.emit(msgspec.structs.replace(self._source, mapping=mapping))

    def _done(self, kind: type[Event]) -> None:
        self._left.discard(kind)
        if not self._left:
            self.leave()

    def _say(self, words: str, *, fault: bool = False) -> None:
        """What the rows are, how far reading is, or why there are none."""
        name = self._source.source if self._source is not None else ""
        self.state.setText(f"{name}: {words}")
        set_look(self.state, role="fault" if fault else "muted")
        self.rows.hide()
        self.proposal.show_proposal(None)

    def leave(self) -> None:
        """Ends the worker."""
        if self._session is not None:
            self._session.close()
        self._session = None


def _shape(opening: Opening) -> str:
    shape = (opening.format or "unknown shape").replace("_", " ")
    split = f" Documents: {opening.documents}." if opening.documents else ""
    return f"{shape}. {opening.why}{split}".strip()


def _words(row: RowView) -> str:
    """What is asked and what is answered; a row that cannot be used, as it stands in the file."""
    if not row.reason:
        return "\n→ ".join(filter(None, (row.prompt, row.answer)))
    text = row.text if len(row.text) <= LETTERS else f"{row.text[: LETTERS - 1]}…"
    return f"{text}\nCannot be used: {row.reason}."
