"""Rows of a dataset in a table of any length: only those in sight are asked for, few are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtGui import QColor, QFont, QKeyEvent, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from studio.theme import SPACE, Theme
from studio.widgets.tablemodel import TableModel
from workers.protocol.browse import Edits, RowView

WIDTHS = [60, 160, 120, 52, 76]
NARROW = 400
"""A table narrower than this leaves the answers to the tokens beside it."""
ROW_HEIGHT = 4 * SPACE
KEPT = 600
"""Rows that are held; those farthest from where one looks go first."""
MARGIN = 25
"""Rows above and below those in sight that are asked for with them."""
MOST_ASKED = 4
"""Requests that may be on their way; with more, those scrolled past would be waited for."""
ANSWER_BYTES = 256 * 1024
"""What one answer should hold at most: where rows are long, fewer are asked for."""
KEYS = {Qt.Key.Key_G: "good", Qt.Key.Key_B: "bad", Qt.Key.Key_Delete: "drop"}
NO_EDITS = Edits()
WAITING = "…"


class _Tagged(msgspec.Struct):
    tag: str = ""


class RowsModel(TableModel):
    """Row numbers from 0 to `total`, or a list of them; the rows themselves come when asked for."""

    @property
    def columns(self) -> Sequence[str]:
        return "Row", "Question", "Answer", "Tag", "State"

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.total = 0
        self.only: list[int] | None = None
        """The rows that alone are shown; None shows all."""
        self.edits = NO_EDITS
        self.bad: set[int] = set()
        """Rows that were seen and cannot be used."""
        self._rows: dict[int, RowView] = {}
        self._tags: dict[int, str] = {}
        self._absent: set[int] = set()
        self._dropped: set[int] = set()

    def clear(self, *, total: int = 0) -> None:
        """Forgets every row, as after another mapping; `total` are known to be there."""
        self.beginResetModel()
        self.total, self.only = total, None
        self.bad.clear()
        self._rows.clear()
        self._tags.clear()
        self._absent.clear()
        self.endResetModel()

    def set_total(self, total: int) -> None:
        """How many rows are known; grows while the file is read on."""
        if self.only is not None or total < self.total:
            self.beginResetModel()
            self.total = total
            self.endResetModel()
        elif total > self.total:
            self.beginInsertRows(QModelIndex(), self.total, total - 1)
            self.total = total
            self.endInsertRows()

    def put(self, first: int, asked: int, rows: list[RowView], centre: int) -> None:
        """Rows that came; `centre` is where one looks now."""
        for view in rows:
            self._rows[view.row] = view
            self._tags[view.row] = _tag_of(view.text)
            if view.reason:
                self.bad.add(view.row)
        self._absent.update(set(range(first, first + asked)) - {view.row for view in rows})
        for row in sorted(self._rows, key=lambda row: -abs(row - centre))[: -KEPT or None]:
            del self._rows[row], self._tags[row]
        self.tell_all_changed()

    def show_only(self, rows: list[int] | None) -> None:
        self.beginResetModel()
        self.only = rows
        self.endResetModel()

    def show_edits(self, edits: Edits) -> None:
        self.edits = edits
        self._dropped = set(edits.dropped)
        self.tell_all_changed()

    def view(self, row: int) -> RowView | None:
        return self._rows.get(row)

    def number(self, place: int) -> int:
        """The row that stands at a place of the table."""
        return place if self.only is None else self.only[place]

    def place(self, row: int) -> int | None:
        """Where a row stands in the table, if it does."""
        if self.only is None:
            return row if 0 <= row < self.total else None
        return self.only.index(row) if row in self.only else None

    def missing(self, first: int, last: int) -> list[int]:
        """Rows at these places that are neither here nor known not to be there."""
        numbers = map(self.number, range(max(0, first), min(last + 1, self.rowCount())))
        return [row for row in numbers if row not in self._rows and row not in self._absent]

    @property
    def usual_bytes(self) -> int:
        """How long a row is, by those that are here."""
        sizes = [len(view.text) for view in self._rows.values()]
        return sum(sizes) // len(sizes) if sizes else 0

    def rowCount(self, parent: Any = None) -> int:
        return self.total if self.only is None else len(self.only)

    def data(self, index: QModelIndex | Any, role: int = 0) -> Any:
        row = self.number(index.row())
        view = self._rows.get(row)
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cell(row, view, index.column())
        if role == Qt.ItemDataRole.ForegroundRole:
            return QColor(getattr(self._theme.palette, self._ink(row, view, index.column())))
        if role == Qt.ItemDataRole.FontRole and row in self._dropped:
            struck = QFont()
            struck.setStrikeOut(True)
            return struck
        if role == Qt.ItemDataRole.ToolTipRole and view is not None:
            return view.reason or None
        return None

    def _cell(self, row: int, view: RowView | None, column: int) -> str:
        if column == 0:
            return f"{row + 1:,}"
        if view is None:
            return "not there" if row in self._absent else WAITING
        return (view.prompt, view.answer, self.tag(row), self.state(row))[column - 1]

    def tag(self, row: int) -> str:
        """good or bad, as it was given now or stands in the file; empty without one."""
        return self.edits.tags.get(row) or self._tags.get(row, "")

    def state(self, row: int) -> str:
        """What is the matter with a row, in a word."""
        if row in self._dropped:
            return "dropped"
        if row in self.edits.changed:
            return "changed"
        view = self._rows.get(row)
        return "bad row" if view is not None and view.reason else ""

    def _ink(self, row: int, view: RowView | None, column: int) -> str:
        if view is None or row in self._dropped:
            return "muted"
        state = self.state(row)
        if state == "bad row":
            return "bad"
        if column == 4 and state:
            return "accent"
        return "muted" if column == 0 else "text"


class RowsTable(QTableView):
    """The table; `look` on the page's clock asks for what is in sight and not here."""

    wanted = Signal(int, int)
    """From this row on so many."""
    chosen = Signal(int)
    acted = Signal(str)
    """What a key asks to be done to the selected rows: good, bad, drop or undo."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.rows = RowsModel(theme)
        self._asked: dict[int, int] = {}
        self.setObjectName("rows")
        self.setAccessibleName("Rows")
        self.setModel(self.rows)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        side = self.verticalHeader()
        side.hide()
        side.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        side.setDefaultSectionSize(ROW_HEIGHT)
        head = self.horizontalHeader()
        head.setHighlightSections(False)
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        head.setMinimumSectionSize(48)
        for column, width in enumerate(WIDTHS):
            self.setColumnWidth(column, width)
        head.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        head.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        self.selectionModel().currentRowChanged.connect(self._on_current)
        theme.changed.connect(self.viewport().update)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.setColumnHidden(2, event.size().width() < NARROW)
        super().resizeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        act = KEYS.get(Qt.Key(event.key())) if not event.modifiers() else None
        if event.matches(QKeySequence.StandardKey.Undo):
            act = "undo"
        if act is None:
            super().keyPressEvent(event)
        else:
            self.acted.emit(act)

    def keyboardSearch(self, search: str) -> None:
        """Letters act on rows here; searching would go through rows that are not here."""

    def _on_current(self, present: QModelIndex) -> None:
        if present.isValid():
            self.chosen.emit(self.rows.number(present.row()))

    @property
    def row(self) -> int | None:
        """The row that is chosen."""
        present = self.currentIndex()
        valid = present.isValid() and present.row() < self.rows.rowCount()
        return self.rows.number(present.row()) if valid else None

    def selected(self, most: int) -> list[int]:
        """The rows that are selected, `most` at most."""
        places: list[int] = []
        chosen = self.selectionModel().selection()
        for part in map(chosen.at, range(chosen.count())):
            room = most - len(places)
            places += range(part.top(), min(part.bottom() + 1, part.top() + room))
        return [self.rows.number(place) for place in sorted(places)]

    def go_to(self, row: int) -> None:
        """Chooses a row and brings it into sight."""
        place = self.rows.place(row)
        if place is not None:
            self.setCurrentIndex(self.rows.index(place, 0))
            self.scrollTo(self.rows.index(place, 0), self.ScrollHint.PositionAtCenter)

    def in_sight(self) -> tuple[int, int]:
        """The first and the last place that are seen."""
        first = max(0, self.rowAt(0))
        last = self.rowAt(self.viewport().height() - 1)
        return first, last if last >= 0 else self.rows.rowCount() - 1

    def look(self) -> None:
        """Asks for rows in sight that are not here; what was scrolled past is not asked for."""
        first, last = self.in_sight()
        if not self.rows.missing(first, last):
            return
        missing = self.rows.missing(first - MARGIN, last + MARGIN)
        most = max(1, min(100, ANSWER_BYTES // max(1, self.rows.usual_bytes)))
        for start, count in _stretches(missing, most):
            if len(self._asked) >= MOST_ASKED:
                return
            if not any(begun <= start < begun + long for begun, long in self._asked.items()):
                self.ask(start, count)

    def ask(self, first: int, count: int = 2 * MARGIN) -> None:
        """Asks for rows although it is not known yet whether they are there."""
        self._asked[first] = count
        self.wanted.emit(first, count)

    def put(self, first: int, rows: list[RowView]) -> None:
        """Rows that came."""
        asked = self._asked.pop(first, len(rows))
        sight = self.in_sight()
        place = min(sum(sight) // 2, self.rows.rowCount() - 1)
        self.rows.put(first, asked, rows, self.rows.number(place) if place >= 0 else 0)

    def forget(self, *, total: int = 0) -> None:
        """Drops every row; those in sight are asked for anew."""
        self._asked.clear()
        self.rows.clear(total=total)


def _stretches(rows: list[int], most: int) -> list[tuple[int, int]]:
    """Row numbers as stretches without gaps: the first, and how many."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and sum(found[-1]) == row and found[-1][1] < most:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((row, 1))
    return found


def _tag_of(text: str) -> str:
    try:
        return msgspec.json.decode(text, type=_Tagged).tag
    except msgspec.DecodeError:
        return ""
