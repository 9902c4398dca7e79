"""Step three: the datasets, their weights, a look at the first rows, and what to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from studio.jobs import Jobs
from studio.pages.train.preview import Preview, on_hub
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.checkcard import CheckCard
from studio.widgets.combo import ComboBox
from studio.widgets.mixture import MixtureBar
from studio.widgets.text import button, label
from workers.protocol.assets import builtin_dataset, builtin_datasets
from workers.protocol.catalogue import known_dataset
from workers.protocol.licences import clashes
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal

FILES = "Data (*.jsonl *.json *.csv *.tsv *.parquet *.arrow *.feather *.txt *.gz *.zst)"
PAIRS = {"prompt", "chosen", "rejected"}
NEEDS: dict[str, set[str]] = {
    "sft": {"messages"},
    "cpt": {"text"},
    "dpo": PAIRS,
    "ipo": PAIRS,
    "simpo": PAIRS,
    "orpo": PAIRS,
    "reward": PAIRS,
    "kto": {"prompt", "completion", "label"},
    "grpo": {"prompt", "answer"},
    "rlhf": {"prompt"},
    "distill": {"messages"},
}
"""Keys that a built-in set's rows have where it serves a stage."""
TEST = "-test"
"""How the names of the built-in sets end that are kept for measuring."""


class SourceLine(QWidget):
    """One dataset of the mixture: its weight, most rows and licence; a look at it, a way out."""

    changed = Signal()
    look_asked = Signal()

    def __init__(self, source: Source, theme: Theme) -> None:
        super().__init__()
        self._given = source
        self._known = "" if source.licence else known_licence(source)
        self.source = source.source
        self.weight = _small(f"{source.weight:g}", f"Weight of {source.source}", 7)
        self.limit = _small(str(source.limit or ""), f"Rows at most of {source.source}", 9)
        self.limit.setPlaceholderText("all")
        self.licence = _small(source.licence, f"Licence of {source.source}", 18)
        self.licence.setObjectName(f"licence:{source.source}")
        self.licence.setPlaceholderText(self._known or "licence unknown")
        self.look = button("Look at it", theme, "magnifying-glass", kind="quiet",
                           name=f"look:{source.source}")  # fmt: skip
        self.look.clicked.connect(self.look_asked)
        self.remove = button("Remove", theme, "x", kind="quiet", name=f"remove:{source.source}")
        self._notes = label("", "muted", wrap=True)
        self._lay_out()
        for edit in (self.weight, self.limit, self.licence):
            edit.textChanged.connect(self.changed)
        self._show_notes()

    def _lay_out(self) -> None:
        name, fields = QHBoxLayout(), QHBoxLayout()
        name.addWidget(label(self.source, "label", wrap=True, select=True), 1)
        for widget in (self.look, self.remove):
            name.addWidget(widget)
        parts = (("weight", self.weight), ("rows at most", self.limit), ("licence", self.licence))
        for words, edit in parts:
            fields.addWidget(label(words, "muted"))
            fields.addWidget(edit)
        fields.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, SPACE)
        column.setSpacing(SPACE // 2)
        for row in (name, fields):
            row.setSpacing(SPACE)
            column.addLayout(row)
        column.addWidget(self._notes)

    def _show_notes(self) -> None:
        """What the recipe says of it beyond what is asked for here."""
        given = self._given
        notes = [", ".join(f"{theirs} is {ours}" for theirs, ours in given.mapping.items())]
        notes += ["bad rows are left out"] if given.bad_rows == "skip" else []
        told = "; ".join(note for note in notes if note)
        self._notes.setText(f"{told[:1].upper()}{told[1:]}." if told else "")
        self._notes.setVisible(bool(told))

    def skip_bad_rows(self) -> None:
        """Leaves out rows that cannot be used, instead of refusing them."""
        self._given = msgspec.structs.replace(self._given, bad_rows="skip")
        self._show_notes()

    @property
    def told(self) -> tuple[str, str]:
        """The source and its licence, as far as it is known."""
        return self.source, self.licence.text().strip() or self._known

    @property
    def value(self) -> Source:
        """As it was given, with what was entered."""
        return msgspec.structs.replace(
            self._given, weight=_weight(self) or 1.0, limit=_limit(self) or 0,
            licence=self.licence.text().strip(),
        )  # fmt: skip


def known_licence(source: Source) -> str:
    """A source's licence by the catalogue; built-in sets have the program's own."""
    if source.source.startswith("builtin:"):
        return "Apache-2.0"
    entry = known_dataset(source)
    return entry.licence if entry is not None else ""


def _small(text: str, name: str, units: int) -> QLineEdit:
    made = QLineEdit(text)
    made.setFixedWidth(units * SPACE + 2 * SPACE)
    made.setAccessibleName(name)
    return made


class TestChooser(Card):
    """Which dataset the model is measured on: none of its own, a built-in one, or a file."""

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
        self.offer([])

    @property
    def value(self) -> str:
        return self.box.currentData() or ""

    def offer(self, names: list[str]) -> None:
        """Built-in sets to choose from; what is chosen stays, whatever it is."""
        chosen = self.value
        self.box.clear()
        self.box.addItem("None: keep a share of the data apart", "")
        for name in names:
            self.box.addItem(name, f"builtin:{name}")
        self.choose(chosen)

    def choose(self, source: str) -> None:
        if self.box.findData(source) < 0:
            self.box.addItem(source, source)
        self.box.setCurrentIndex(self.box.findData(source))

    def _on_browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Test set", "", FILES)
        if path:
            self.choose(path)


class DataStep(Step):
    look_asked = Signal(object)
    """A `Source` that is to be seen row by row."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._stage, self._offered = "sft", False
        self.setAcceptDrops(True)
        self.lines: list[SourceLine] = []
        self.builtin = QComboBox()
        self.builtin.setObjectName("builtin")
        self.builtin.setAccessibleName("Built-in dataset")
        self.path = QLineEdit()
        self.path.setObjectName("data-path")
        self.path.setPlaceholderText(
            "A file, a folder, or org/name:split on the hub; or drop files here"
        )
        self.path.setAccessibleName("Dataset file")
        self._list = QVBoxLayout()
        self._empty = label("Nothing chosen yet. Add a built-in set or a file of your own.",
                            "muted", wrap=True)  # fmt: skip
        self.preview = Preview(jobs)
        self.check = CheckCard(theme, ("skip", "length"))
        self.check.view.skip_asked.connect(self._on_skip)
        self.mixture = MixtureBar(theme)
        self.clashes = label("", "", wrap=True, select=True)
        chosen = Card("Training data")
        chosen.body.addWidget(self.mixture)
        chosen.body.addWidget(self._empty)
        chosen.body.addLayout(self._list)
        chosen.body.addWidget(self.clashes)
        self.body.addWidget(label("What to learn from", "heading"))
        self.body.addLayout(self._adders())
        self.body.addWidget(chosen)
        self.body.addWidget(self.preview)
        self.body.addWidget(self.check)
        self.test = TestChooser(theme)
        self.test.box.currentIndexChanged.connect(self.changed)
        self.body.addWidget(self.test)
        self.body.addStretch(1)

    def adapt(self, recipe: Recipe, root: str) -> None:
        """Offers the built-in sets that serve the stage; they are looked at when shown."""
        if recipe.stage != self._stage:
            self._stage = recipe.stage
            self._offered = False
            if self.isVisible():
                self._offer()

    def _offer(self) -> None:
        self._offered = True
        names = [name for name in builtin_datasets() if _serves(name, self._stage)]
        present = self.builtin.currentText()
        self.builtin.clear()
        self.builtin.addItems([name for name in names if not name.endswith(TEST)])
        self.builtin.setCurrentIndex(max(0, self.builtin.findText(present)))
        self.test.offer([name for name in names if name.endswith(TEST)])

    def _adders(self) -> QVBoxLayout:
        add_builtin = button("Add built-in", self._theme, "plus", name="add-builtin")
        add_builtin.clicked.connect(lambda: self.add(f"builtin:{self.builtin.currentText()}"))
        add = button("Add file", self._theme, "plus", name="add-file")
        add.clicked.connect(self._on_add)
        self.path.returnPressed.connect(self._on_add)
        browse = button("Browse…", self._theme, "folder-open", name="browse-data")
        browse.clicked.connect(self._on_browse)
        files, builtins = QHBoxLayout(), QHBoxLayout()
        for widget in (self.path, browse, add):
            files.addWidget(widget, 1 if widget is self.path else 0)
        builtins.addWidget(self.builtin, 1)
        builtins.addWidget(add_builtin)
        column = QVBoxLayout()
        column.setSpacing(SPACE)
        column.addLayout(files)
        column.addLayout(builtins)
        return column

    def showEvent(self, event: Any) -> None:
        if not self._offered:
            self._offer()
        super().showEvent(event)

    # Sources

    def add(self, source: str) -> None:
        self._add(Source(source=source))

    def _add(self, given: Source) -> None:
        source = given.source
        if not source or source in [line.source for line in self.lines]:
            return
        line = SourceLine(given, self._theme)
        line.remove.clicked.connect(lambda: self._on_remove(line))
        line.look_asked.connect(lambda: self.look_asked.emit(line.value))
        line.changed.connect(self._show_mixture)
        line.changed.connect(self.changed)
        self.lines.append(line)
        self._list.addWidget(line)
        self._show_lines()

    def use(self, source: Source) -> None:
        """Takes up a dataset as it was looked at, in place of the same one without that."""
        for line in self.lines:
            if line.source == source.source:
                source = msgspec.structs.replace(
                    source, weight=line.value.weight, limit=line.value.limit
                )
                self._on_remove(line)
                break
        self._add(source)

    def _on_skip(self) -> None:
        for line in self.lines:
            result = self.check.view.result
            if result is not None and line.source == result.source:
                line.skip_bad_rows()

    def _show_mixture(self) -> None:
        self.mixture.show_weights([(line.source, _weight(line) or 0.0) for line in self.lines])
        told = clashes([line.told for line in self.lines])
        self.clashes.setText("\n".join(f"⚠ {words}" for words in told))
        self.clashes.setVisible(bool(told))

    def _on_remove(self, line: SourceLine) -> None:
        self.lines.remove(line)
        self._list.removeWidget(line)
        line.hide()
        line.deleteLater()
        self._show_lines()

    def _on_add(self) -> None:
        self.add(self.path.text().strip())
        self.path.clear()

    def _on_browse(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Datasets", "", FILES)
        for path in paths:
            self.add(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        for url in event.mimeData().urls():
            self.add(url.toLocalFile())
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()

    def _show_lines(self) -> None:
        self._empty.setVisible(not self.lines)
        self._show_mixture()
        last = self.lines[-1].value if self.lines else None
        self.preview.show_source(last and Source(source=last.source, mapping=last.mapping))
        self.check.offer([line.source for line in self.lines])
        self.changed.emit()

    # The recipe

    def fill(self, recipe: Recipe) -> Recipe:
        data = [line.value for line in self.lines]
        evaluation = msgspec.structs.replace(recipe.evaluation, test=self.test.value)
        return msgspec.structs.replace(recipe, data=data, evaluation=evaluation)

    def show_recipe(self, recipe: Recipe) -> None:
        for line in list(self.lines):
            self._on_remove(line)
        for source in recipe.data:
            self._add(source)
        self.test.choose(recipe.evaluation.test)

    def fault(self) -> Refusal | None:
        if not self.lines:
            return Refusal("No data is chosen.", "There is nothing to learn from.",
                           "Add a built-in set or a file of your own.")  # fmt: skip
        for line in self.lines:
            if not _may_be(line.source):
                return Refusal(f"There is no file at {line.source}.", "It may be misspelt or gone.",
                               "Remove it and add the right one.")  # fmt: skip
            if _weight(line) is None:
                return Refusal(
                    f"The weight of {line.source} is not a number above 0.",
                    f"It reads '{line.weight.text()}'.",
                    "Write 1 for an equal share.",
                )
            if _limit(line) is None:
                return Refusal(
                    f"The most rows of {line.source} are not a whole number.",
                    f"It reads '{line.limit.text()}'.",
                    "Write a number, or leave it empty for all rows.",
                )
        if self.test.value and not _may_be(self.test.value):
            return Refusal(f"There is no test set at {self.test.value}.",
                           "It may be misspelt or gone.", "Choose another test set.")  # fmt: skip
        return None


def _may_be(source: str) -> bool:
    """Whether there may be such a dataset; what is on the hub is not asked for from here."""
    if source.startswith("builtin:"):
        return True
    return Path(source).expanduser().exists() or on_hub(source)


def _weight(line: SourceLine) -> float | None:
    try:
        weight = float(line.weight.text())
    except ValueError:
        return None
    return weight if weight > 0 else None


def _limit(line: SourceLine) -> int | None:
    """Rows at most; 0 is all."""
    typed = line.limit.text().replace(",", "").strip()
    return int(typed or 0) if not typed or typed.isdecimal() else None


def _serves(name: str, stage: str) -> bool:
    """Whether a stage can learn from a built-in set."""
    try:
        with builtin_dataset(name).open("rb") as file:
            first = msgspec.json.decode(file.readline())
    except (OSError, Refusal, msgspec.DecodeError):
        return False
    return isinstance(first, dict) and NEEDS.get(stage, set()) <= set(first)
