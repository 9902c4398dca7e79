"""The datasets of the mixture, a line each, and the test set."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from studio.draft_source import DraftSource
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.combo import ComboBox
from studio.widgets.text import button, label
from workers.protocol.catalogue import catalogued_licence
from workers.protocol.recipe import Documents, Source
from workers.protocol.sources import BUILTIN, PATTERNS, kind_of_file

FILES = f"Data ({PATTERNS})"
DOCUMENTS: dict[Documents, str] = {
    "auto": "as the file says",
    "blank_lines": "end at blank lines",
    "endoftext": "end at <|endoftext|>",
    "lines": "one a line",
    "file": "one a file",
}
"""Where a text file's documents end, in words."""


class SourceLine(QWidget):
    """One dataset of the mixture: its weight, most rows and licence; a look at it, a way out."""

    edited = Signal(str, str)
    """The name of a field of `DraftSource`, and what was typed."""
    look_asked = Signal()
    documents_chosen = Signal(str)
    """The rule by which a text file is split."""

    def __init__(self, draft: DraftSource, theme: Theme) -> None:
        super().__init__()
        self._draft = draft
        self._catalogued = "" if draft.given.licence else catalogued_licence(draft.given)
        self.source = draft.source
        self.weight = _small(draft.weight, f"Weight of {self.source}", 7)
        self.limit = _small(draft.limit, f"Rows at most of {self.source}", 9)
        self.limit.setPlaceholderText("all")
        self.licence = _small(draft.licence, f"Licence of {self.source}", 18)
        self.licence.setObjectName(f"licence:{self.source}")
        self.licence.setPlaceholderText(self._catalogued or "licence unknown")
        self._edits = {"weight": self.weight, "limit": self.limit, "licence": self.licence}
        self.look = button("Look at it", theme, "magnifying-glass", kind="quiet",
                           name=f"look:{self.source}")  # fmt: skip
        self.look.clicked.connect(self.look_asked)
        self.remove = button("Remove", theme, "x", kind="quiet", name=f"remove:{self.source}")
        self._notes = label("", "muted", wrap=True)
        self.documents = self._documents_box()
        self._lay_out()
        for field, edit in self._edits.items():
            edit.textChanged.connect(lambda text, field=field: self.edited.emit(field, text))
        self.show_source(draft)

    def _documents_box(self) -> ComboBox | None:
        """Where a text file's documents end; no other file has any."""
        if kind_of_file(Path(self.source)) != "text":
            return None
        box = ComboBox(f"documents:{self.source}", f"Documents of {self.source}")
        for rule, words in DOCUMENTS.items():
            box.addItem(words, rule)
        box.activated.connect(lambda: self.documents_chosen.emit(box.currentData()))
        return box

    def _lay_out(self) -> None:
        name, fields = QHBoxLayout(), QHBoxLayout()
        name.addWidget(label(self.source, "label", wrap=True, select=True), 1)
        for widget in (self.look, self.remove):
            name.addWidget(widget)
        parts = (("weight", self.weight), ("rows at most", self.limit), ("licence", self.licence))
        for words, edit in parts:
            fields.addWidget(label(words, "muted"))
            fields.addWidget(edit)
        if self.documents is not None:
            fields.addWidget(label("documents", "muted"))
            fields.addWidget(self.documents)
        fields.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, SPACE)
        column.setSpacing(SPACE // 2)
        for row in (name, fields):
            row.setSpacing(SPACE)
            column.addLayout(row)
        column.addWidget(self._notes)

    def show_source(self, draft: DraftSource) -> None:
        """The same dataset, with what was typed of it."""
        self._draft = draft
        for edit, text in zip(
            self._edits.values(), (draft.weight, draft.limit, draft.licence), strict=True
        ):
            if edit.text() != text:
                with QSignalBlocker(edit):
                    edit.setText(text)
        if self.documents is not None:
            self.documents.setCurrentIndex(self.documents.findData(draft.given.documents))
        self._show_notes()

    def _show_notes(self) -> None:
        """What the recipe says of it beyond what is asked for here."""
        given = self._draft.given
        mapped = ", ".join(f"{theirs} is {ours}" for theirs, ours in given.mapping.items())
        notes = [f"columns: {mapped}"] if mapped else []
        notes += ["bad rows are left out"] if given.bad_rows == "skip" else []
        words = "; ".join(notes)
        self._notes.setText(f"{words[:1].upper()}{words[1:]}." if words else "")
        self._notes.setVisible(bool(words))

    @property
    def licensed(self) -> tuple[str, str]:
        """The source and its licence, as far as it is known."""
        return self.source, self._draft.licence.strip() or self._catalogued

    @property
    def value(self) -> Source:
        return self._draft.value


def _small(text: str, name: str, units: int) -> QLineEdit:
    made = QLineEdit(text)
    made.setFixedWidth(units * SPACE + 2 * SPACE)
    made.setAccessibleName(name)
    return made


class TestChooser(Card):
    """Which dataset the model is measured on: none of its own, a built-in one, or a file."""

    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__("Test set")
        self.box = ComboBox("test-set", "Test set")
        browse = button("Browse…", theme, "folder-open", name="browse-test")
        browse.clicked.connect(self._on_browse)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.box, 1)
        row.addWidget(browse)
        self.body.addLayout(row)
        self.body.addWidget(label("What the model is measured on before and after. Without one, "
                                  "a share of the training data is kept apart.",
                                  "muted", wrap=True))  # fmt: skip
        self.box.currentIndexChanged.connect(lambda: self.chosen.emit(self.value))
        self.offer([])

    @property
    def value(self) -> str:
        return self.box.currentData() or ""

    def offer(self, names: list[str]) -> None:
        """Built-in sets to choose from; what is chosen stays, whatever it is."""
        present = self.value
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItem("None: keep a share of the data apart", "")
            for name in names:
                self.box.addItem(name, f"{BUILTIN}{name}")
            self.choose(present)

    def choose(self, source: str) -> None:
        if self.box.findData(source) < 0:
            self.box.addItem(source, source)
        self.box.setCurrentIndex(self.box.findData(source))

    def _on_browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Test set", "", FILES)
        if path:
            self.choose(path)
