"""One open dataset: its rows in a table, the chosen one as tokens and as JSON, what was edited.

Says by `asked` what the worker is to do, and takes its answers by `take`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Signal
from superqt.utils import qdebounced

from studio.pages.data.browser_view import BrowserView
from studio.pages.data.edits import UNTOUCHED, EditHistory, stamp_of
from studio.pages.data.template_work import TemplateWork
from studio.theme import Theme
from studio.widgets.rowedit import compact
from workers.protocol.audit import counted
from workers.protocol.browse import Opening, RowView
from workers.protocol.events import (
    Event,
    Note,
    Opened,
    Progress,
    RowsCounted,
    RowsShown,
    TemplateShown,
    TemplateTried,
    TokensShown,
)
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import MapColumns, SaveVersion, ShowRows, ShowTokens
from workers.protocol.sources import short_name
from workers.protocol.stages import likeliest

FROM_CHECK = "Rows of the check"
MOST_AT_ONCE = 10_000
"""Rows that are dropped or tagged in one edit."""
WRITE_AFTER_MS = 500
"""Edits are written to the draft when nothing was typed for so long."""
LONGEST_NAME = 22


class Browser(BrowserView):
    asked = Signal(object)
    """A request for the worker."""
    refused = Signal(object)
    """A `Refusal` to be shown."""
    length_asked = Signal(int)

    def __init__(self, theme: Theme, drafts: Path) -> None:
        super().__init__(theme)
        self._drafts = drafts
        self.templates = TemplateWork(theme, drafts.parent, self.tokens, self._row_to_try)
        self.history = EditHistory()
        self.source = Source(source="builtin:arithmetic")
        self.opening: Opening | None = None
        self.saving = self.counted = False
        self.remark = ""
        """What the worker had to say of the version that it saved."""
        self._bad = 0
        self._shown: int | None = None
        """The row that stands in the editor."""
        self._tokens_due = self._tokens_asked = False
        self._write_soon = qdebounced(self.write, timeout=WRITE_AFTER_MS)
        self._connect()

    def _connect(self) -> None:
        self.stages.chosen.connect(self._on_tokens_changed)
        self.filter.activated.connect(self._on_filter)
        self.go.returnPressed.connect(self._on_go)
        self.table.wanted.connect(self._on_wanted)
        self.table.chosen.connect(self._on_row_chosen)
        self.table.acted.connect(self._on_act)
        self.good.clicked.connect(lambda: self._on_tag("good"))
        self.bad.clicked.connect(lambda: self._on_tag("bad"))
        self.drop.clicked.connect(self._on_drop)
        self.undo.clicked.connect(self._on_undo)
        self.tokens.changed.connect(self._on_tokens_changed)
        self.templates.asked.connect(self.asked)
        self.edit.changed.connect(self._on_changed)
        self.edit.typed.connect(self._on_typed)
        self.mapping.mapped.connect(self._on_mapped)
        self.check.view.rows_asked.connect(self.show_rows)
        self.check.view.drop_asked.connect(self.drop_rows)
        self.check.view.length_asked.connect(self._on_length)
        self.check.view.skip_asked.connect(self._on_skip)
        self.discard.clicked.connect(self._on_discard)
        self.save.clicked.connect(self._on_save)

    def _on_act(self, act: str) -> None:
        match act:
            case "drop":
                self._on_drop()
            case "undo":
                self._on_undo()
            case _:
                self._on_tag(act)

    # Opening

    def start(self, source: Source) -> None:
        """Makes ready for a dataset that is being opened."""
        self.write()
        self.source, self.opening, self.history = source, None, EditHistory()
        self.saving = self.counted = False
        self._bad, self._shown = 0, None
        self._tokens_due = self._tokens_asked = False
        self.templates.forget()
        self.name.setText(_elided(short_name(source.source)))
        self.name.setToolTip(source.source)
        self.facts.setText("Opening")
        self.stages.offer([])
        self.filter.setCurrentIndex(0)
        self.table.forget()
        self.tokens.say("Choose a row to see it as the model will.")
        self.edit.show_row(None, "")
        self.check.forget()
        self.check.offer([source.source])
        self.tabs.setCurrentIndex(0)
        self._show_edits()

    def take(self, event: Event) -> None:
        """What the worker said."""
        match event:
            case Opened(opening=opening):
                self._on_opened(opening)
            case RowsCounted() as counted:
                self._bad, self.counted = counted.bad, counted.complete
                self.table.rows.set_total(counted.rows)
                self._show_facts()
            case RowsShown(first=first, rows=rows):
                self._on_rows(first, rows)
            case TokensShown() as shown:
                self._on_tokens(shown)
            case TemplateShown() | TemplateTried():
                self.templates.take(event)
            case Progress() as progress if self.saving:
                self.words.setText(f"Saving: {progress.words}")
            case Note(level="warning", text=text) if self.saving:
                self.remark = text
            case Note(level=level, text=text) if level != "info":
                self.stop_saving()
                self.refused.emit(Refusal(text, "", ""))

    def _on_opened(self, opening: Opening) -> None:
        new = self.opening is None
        self.opening = opening
        by_hand = bool(self.source.mapping)
        self.mapping.show_opening(opening, by_hand=by_hand)
        first = likeliest(opening.stages) or ""
        self.stages.offer(opening.stages, first)
        self.table.forget(total=self.table.rows.total)
        self._shown = None
        self._show_facts()
        if new:
            self._take_up_draft(opening)
            self.tabs.setCurrentWidget(self.tokens if opening.format else self.mapping)
            if not self.table.rows.total:
                self.table.ask(0)
        self._show_edits()

    def _take_up_draft(self, opening: Opening) -> None:
        stamp = stamp_of(opening.path)
        if self.history.open(self._drafts, opening.source, stamp):
            self.refused.emit(Refusal(
                "Edits from before were set aside.",
                "The file has changed since, so that row numbers may no longer fit.",
                f"They are kept in {self._drafts}.",
            ))  # fmt: skip

    def _show_facts(self) -> None:
        opening, total = self.opening, self.table.rows.total
        if opening is None:
            return
        shape = (opening.format or "unknown shape").replace("_", " ")
        told = counted(total, opening.documents)
        facts = [shape, told if self.counted else f"{total:,} rows so far"]
        if self._bad:
            facts.append(f"{self._bad:,} cannot be used")
        if opening.licence:
            source = f" ({opening.licence_from})" if opening.licence_from else ""
            facts.append(f"{opening.licence}{source}")
        else:
            facts.append("licence unknown")
        if opening.version_of:
            facts.append(f"edited from {short_name(opening.version_of)}")
        # What is missing takes many words; it stands above the columns, where it is mended.
        facts += [opening.why] if opening.why and opening.format else []
        self.facts.setText("  ·  ".join(facts))

    # Rows

    def look(self) -> None:
        """On the page's clock: asks for what is in sight, and for tokens that are due."""
        if self.opening is None:
            return
        self.table.look()
        row = self.table.row
        if row is None and self.table.rows.view(0) is not None and self._shown is None:
            self.table.go_to(0)
        if self._tokens_due and not self._tokens_asked and row is not None:
            self._ask_tokens(row)
        self.templates.look()

    def _on_wanted(self, first: int, count: int) -> None:
        self.asked.emit(ShowRows(first=first, count=count))

    def _on_rows(self, first: int, rows: list[RowView]) -> None:
        if rows:
            self.table.rows.set_total(max(self.table.rows.total, rows[-1].row + 1))
        self.table.put(first, rows)
        row = self.table.row
        if row is not None and self._shown != row:
            self._on_row_chosen(row)

    def _on_row_chosen(self, row: int) -> None:
        self.history.pause()
        self._tokens_due = True
        self._show_row(row)

    def _show_row(self, row: int) -> None:
        view, mark = self.table.rows.view(row), self.history.mark(row)
        self._shown = row if view is not None and view.whole else None
        if self._shown is not None and view is not None:
            self.edit.show_row(view, mark.typed or mark.text or view.text)
            return
        self.edit.show_row(None, "")
        if view is None:
            self.tokens.say("Reading the row.")
        else:
            self.table.ask(row, 1)  # alone it comes whole

    def show_rows(self, rows: list[int]) -> None:
        """Shows these rows alone, and the first of them as tokens."""
        if self.filter.findText(FROM_CHECK) < 0:
            self.filter.addItem(FROM_CHECK)
        self.filter.setItemData(self.filter.findText(FROM_CHECK), sorted(rows))
        self.filter.setCurrentText(FROM_CHECK)
        self._on_filter()
        self.table.go_to(min(rows))

    def _on_filter(self) -> None:
        match self.filter.currentText():
            case "Bad rows seen so far":
                only: list[int] | None = sorted(self.table.rows.bad)
            case "Edited rows":
                only = sorted(self.history.marks)
            case "Rows of the check":
                only = self.filter.currentData()
            case _:
                only = None
        row = self.table.row
        self.table.rows.show_only(only)
        if row is not None:
            self.table.go_to(row)

    def _on_go(self) -> None:
        typed = self.go.text().replace(",", "").strip()
        if typed.isdecimal() and int(typed):
            self.filter.setCurrentIndex(0)
            self._on_filter()
            self.table.go_to(min(int(typed), self.table.rows.total) - 1)
            self.table.setFocus()
        self.go.clear()

    # Tokens

    def _on_tokens_changed(self, *_: object) -> None:
        self._tokens_due = True

    def _ask_tokens(self, row: int) -> None:
        self._tokens_due, self._tokens_asked = False, True
        template = self.tokens.template
        self.asked.emit(ShowTokens(
            row=row, text=self.history.mark(row).text, stage=self.stages.value,
            model=self.tokens.model, template="" if template == "auto" else template,
            max_length=self.tokens.max_length,
        ))  # fmt: skip

    def _row_to_try(self) -> tuple[int, str, str]:
        """The chosen row for the template editor: its number, -1 for none, its edit, the stage."""
        if (row := self.table.row) is None:
            return -1, "", ""
        return row, self.history.mark(row).text, self.stages.value

    def _on_tokens(self, shown: TokensShown) -> None:
        self._tokens_asked = False
        if shown.row != self.table.row:
            return
        if shown.views:
            self.tokens.show_views(shown.views)
        else:
            self.tokens.say(shown.reason or "This row has no tokens.")

    # Columns

    def _on_mapped(self, mapping: dict[str, Any]) -> None:
        self.source = msgspec.structs.replace(self.source, mapping=mapping)
        self.asked.emit(MapColumns(mapping=mapping))
        self._tokens_due = True

    # Editing

    def _on_changed(self, text: str) -> None:
        row = self.table.row
        if row is None or self._shown != row:
            return
        view = self.table.rows.view(row)
        same = view is not None and _same(view.text, text)
        changed = self.history.change(row, text="" if same else text, typed="")
        self.history.put({row: changed}, typing=True)
        self._tokens_due = True
        self._show_edits()

    def _on_typed(self, text: str) -> None:
        row = self.table.row
        if row is not None and self._shown == row:
            self.history.put({row: self.history.change(row, typed=text)}, typing=True)
            self._show_edits()

    def _on_tag(self, tag: str) -> None:
        """Tags the chosen rows; those that all are so already are untagged."""
        rows = self.table.selected(MOST_AT_ONCE)
        given = "" if all(self.history.mark(row).tag == tag for row in rows) else tag
        self._put({row: self.history.change(row, tag=given) for row in rows})

    def _on_drop(self) -> None:
        rows = self.table.selected(MOST_AT_ONCE)
        dropped = not all(self.history.mark(row).dropped for row in rows)
        self._put({row: self.history.change(row, dropped=dropped) for row in rows})

    def drop_rows(self, rows: list[int]) -> None:
        self._put({row: self.history.change(row, dropped=True) for row in rows})

    def _put(self, marks: dict[int, Any]) -> None:
        if marks and not self.saving:
            self.history.put(marks)
            self._show_edits()

    def _on_undo(self) -> None:
        rows = [] if self.saving else self.history.undo()
        if not rows:
            return
        self._show_edits()
        if len(rows) == 1 and self.table.row != rows[0]:
            self.table.go_to(rows[0])
        elif self.table.row in rows:
            self._show_row(self.table.row or 0)
        self._tokens_due = True

    def _on_discard(self) -> None:
        self._put(dict.fromkeys(self.history.marks, UNTOUCHED))
        if self.table.row is not None:
            self._show_row(self.table.row)
        self._tokens_due = True

    def _show_edits(self) -> None:
        self._write_soon()
        self.table.rows.show_edits(self.history.edits)
        words = self.history.words
        self.words.setText(f"{words}." if words else "")
        self.foot.setVisible(bool(words) or self.saving)
        self.undo.setEnabled(self.history.can_undo and not self.saving)
        for made in (self.good, self.bad, self.drop):
            made.setEnabled(self.opening is not None and not self.saving)

    def write(self) -> None:
        """Writes edits that are not on disk yet."""
        self._write_soon.cancel()
        try:
            self.history.write()
        except OSError as fault:
            self.refused.emit(Refusal(
                "Your edits could not be kept on disk.", f"{fault.strerror}.",
                "Free some space, or save them as a new version now.",
            ))  # fmt: skip

    # Saving

    def _on_save(self) -> None:
        if unfinished := self.history.unfinished:
            self.filter.setCurrentIndex(0)
            self._on_filter()
            self.table.go_to(unfinished[0])
            self.tabs.setCurrentWidget(self.edit)
            self.refused.emit(Refusal(
                f"Row {unfinished[0] + 1:,} cannot be saved yet.", "Its text is no JSON object.",
                "Mend it, undo the edit, or drop the row.",
            ))  # fmt: skip
            return
        self.write()
        self.saving, self.remark = True, ""
        self._enable(False)
        self.asked.emit(SaveVersion(edits=self.history.edits, name=self.version.text().strip()))
        self.words.setText("Saving")

    def stop_saving(self) -> None:
        """Lets one edit again, saved or not."""
        if self.saving:
            self.saving = False
            self._enable(True)
            self._show_edits()

    def _enable(self, on: bool) -> None:
        for widget in (self.save, self.discard, self.version, self.edit.editor):
            widget.setEnabled(on)
        self._show_edits()

    # The check's remedies

    def _on_length(self, tokens: int) -> None:
        self.tokens.set_length(tokens)
        self.length_asked.emit(tokens)

    def _on_skip(self) -> None:
        self.source = msgspec.structs.replace(self.source, bad_rows="skip")
        words = 'Bad rows will be left out: "Use in the wizard" takes that along.'
        self.check.show_state(words, working=False)


def _same(one: str, other: str) -> bool:
    """Whether two rows are the same JSON."""
    try:
        return compact(one) == compact(other)
    except msgspec.DecodeError:
        return False


def _elided(name: str) -> str:
    """A name by its ends. superqt's QElidingLabel would show nothing here: it elides to its width,
    and takes the elided text for its size."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"
