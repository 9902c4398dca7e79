"""The first rows of a dataset of any format, and how many it has: read by the worker that reads it
for training."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QTimer, Signal

from studio.browse import OpenDataset
from studio.jobs import Jobs, JobUpdate
from studio.theme import set_look
from studio.widgets.card import Card
from studio.widgets.text import label
from workers.protocol.browse import Opening, RowView
from workers.protocol.events import Event, Opened, Phase, RowsCounted, RowsShown
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Request, ShowRows
from workers.protocol.sources import on_hub

ROWS = 3
LETTERS = 280
"""Of a row that cannot be used, so much is shown as it stands in the file."""


class Preview(Card):
    """Reads once it is to be seen, and lets the worker go as soon as the rows are counted."""

    counted = Signal()

    def __init__(self, jobs: Jobs) -> None:
        super().__init__("First rows")
        self.counts: dict[str, int] = {}
        """Rows of every source that was read to its end."""
        self._dataset = OpenDataset(jobs)
        self._source: Source | None = None
        self._due = False
        self._left: set[type[Event]] = set()
        """What the worker is still to tell."""
        self.state = label("", "muted", wrap=True, select=True)
        self.rows = label("", "", wrap=True, select=True)
        self.body.addWidget(self.state)
        self.body.addWidget(self.rows)
        self.show_source(None)

    def show_source(self, source: Source | None) -> None:
        """Shows the first rows of a dataset; None shows nothing."""
        self.setVisible(source is not None)
        if source == self._source:
            return
        self._dataset.close()
        self._source = source
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
            self._dataset.open(self._source)
        except Refusal as refusal:
            self._say(str(refusal), fault=True)

    def hear(self, news: list[JobUpdate]) -> None:
        for heard in self._dataset.hear(news):
            for line in heard.lines:
                self._take(line.event)
            if heard.status != "running" and self._dataset.job:
                told = " ".join(self._dataset.end()).strip()
                self._say(told or "It could not be read.", fault=True)

    def _take(self, event: Event) -> None:
        match event:
            case Phase(name=name):
                self._say(f"{name}…")
            case Opened(opening=opening):
                self._say(_shape(opening), fault=opening.format is None)
                self._ask(ShowRows(first=0, count=ROWS))
            case RowsShown(rows=rows):
                self.rows.setText("\n\n".join(_words(row) for row in rows))
                self.rows.setVisible(bool(rows))
                self._done(RowsShown)
            case RowsCounted(rows=count, complete=True) if self._source is not None:
                self.counts[self._source.source] = count
                self._done(RowsCounted)
                self.counted.emit()

    def _ask(self, request: Request) -> None:
        try:
            self._dataset.ask(request)
        except Refusal as refusal:
            self._say(str(refusal), fault=True)

    def _done(self, told: type[Event]) -> None:
        self._left.discard(told)
        if not self._left:
            self._dataset.close()

    def _say(self, words: str, *, fault: bool = False) -> None:
        """What the rows are, how far reading is, or why there are none."""
        name = self._source.source if self._source is not None else ""
        self.state.setText(f"{name}: {words}")
        set_look(self.state, role="fault" if fault else "muted")
        self.rows.hide()

    def leave(self) -> None:
        """Ends the worker."""
        self._dataset.close()


def _shape(opening: Opening) -> str:
    shape = (opening.format or "unknown shape").replace("_", " ")
    return f"{shape}. {opening.why}".strip()


def _words(row: RowView) -> str:
    """What is asked and what is answered; a row that cannot be used, as it stands in the file."""
    if not row.reason:
        return "\n→ ".join(filter(None, (row.prompt, row.answer)))
    text = row.text if len(row.text) <= LETTERS else f"{row.text[: LETTERS - 1]}…"
    return f"{text}\nCannot be used: {row.reason}."
