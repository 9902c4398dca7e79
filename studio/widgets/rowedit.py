"""One row as JSON to be edited; says at once when it is none, and why the row cannot be used."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.code import CodeEditor
from studio.widgets.text import label
from workers.protocol.browse import RowView

LONGEST_EDITED = 200_000
"""Characters; a longer row is shown in part and edited elsewhere."""


class RowEdit(QWidget):
    """`changed` brings a whole row as JSON in one line, `typed` what is no JSON object yet."""

    changed = Signal(str)
    typed = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.where = label("", "muted", wrap=True, select=True)
        self.reason = label("", "fault", wrap=True, select=True)
        self.fault = label("", "fault", wrap=True, select=True)
        self.editor = CodeEditor(theme, lines=4, language="json")
        self.editor.setObjectName("row-json")
        self.editor.setAccessibleName("The row as JSON")
        self.editor.setLineWrapMode(CodeEditor.LineWrapMode.WidgetWidth)
        self.editor.textChanged.connect(self._on_text_changed)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE, 2 * SPACE, 0, 0)
        column.setSpacing(SPACE)
        for widget in (self.where, self.reason):
            column.addWidget(widget)
        column.addWidget(self.editor, 1)
        column.addWidget(self.fault)

    def show_row(self, view: RowView | None, text: str) -> None:
        """A row and its text as edited so far."""
        within = f" of {view.file}" if view is not None and view.file else ""
        self.where.setText(f"Line {view.line:,}{within}" if view is not None else "")
        self._say(self.reason, view.reason if view is not None else "")
        whole = len(text) <= LONGEST_EDITED
        with QSignalBlocker(self.editor):  # nothing was typed
            self.editor.setPlainText(pretty(text[:LONGEST_EDITED]))
        self.editor.setReadOnly(view is None or not whole)
        self._say(self.fault, "" if whole else
                  f"This row has {len(text):,} characters, of which the first "
                  f"{LONGEST_EDITED:,} are shown. Edit it in the file.")  # fmt: skip
        if whole and view is not None:
            self._say(self.fault, fault_of_row(text))

    def _on_text_changed(self) -> None:
        text = self.editor.toPlainText()
        fault = fault_of_row(text)
        self._say(self.fault, fault)
        if fault:
            self.typed.emit(text)
        else:
            self.changed.emit(compact(text))

    def _say(self, where: object, words: str) -> None:
        where.setText(words)  # type: ignore[attr-defined]
        where.setVisible(bool(words))  # type: ignore[attr-defined]


def fault_of_row(text: str) -> str:
    """Why text cannot be a row; empty when it is a JSON object."""
    try:
        row = msgspec.json.decode(text)
    except msgspec.DecodeError as fault:
        return f"This is not valid JSON: {fault}."
    except RecursionError:
        return "This JSON is nested too deeply."
    return "" if isinstance(row, dict) else 'A row is a JSON object, like {"prompt": "..."}.'


def pretty(text: str) -> str:
    """JSON over several lines; what is none stays as it is."""
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text


def compact(text: str) -> str:
    """JSON in one line without spaces between."""
    return msgspec.json.format(text, indent=-1)
