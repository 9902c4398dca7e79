"""Step three: the datasets, their weights, and a look at the first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.assets import builtin_dataset, builtin_datasets
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal

PREVIEW_BYTES = 64 * 1024
PREVIEW_ROWS = 3
ACCEPTED = (
    'Accepted are JSON lines or a JSON array of rows with "messages", with "prompt" and '
    '"completion", or with "instruction" and "output" (Alpaca).'
)


class SourceLine(QWidget):
    """One dataset of the mixture: its name, its weight, and a button that takes it out."""

    def __init__(self, source: Source, theme: Theme) -> None:
        super().__init__()
        self.source = source.source
        self.weight = QLineEdit(f"{source.weight:g}")
        self.weight.setFixedWidth(72)
        self.weight.setAccessibleName(f"Weight of {source.source}")
        self.remove = button("Remove", theme, "x", kind="quiet", name=f"remove:{source.source}")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(label(source.source, "", select=True), 1)
        row.addWidget(label("weight", "muted"))
        row.addWidget(self.weight)
        row.addWidget(self.remove)


class DataStep(Step):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setAcceptDrops(True)
        self.lines: list[SourceLine] = []
        self.builtin = QComboBox()
        self.builtin.setObjectName("builtin")
        self.builtin.setAccessibleName("Built-in dataset")
        self.path = QLineEdit()
        self.path.setObjectName("data-path")
        self.path.setPlaceholderText("Path of a .jsonl or .json file, or drop files here")
        self.path.setAccessibleName("Dataset file")
        self._list = QVBoxLayout()
        self._empty = label("Nothing chosen yet. Add a built-in set or a file of your own.",
                            "muted", wrap=True)  # fmt: skip
        self._preview = Card("First rows")
        self._shape = label("", "muted", wrap=True)
        self._rows = label("", "", wrap=True, select=True)
        self._preview.body.addWidget(self._shape)
        self._preview.body.addWidget(self._rows)
        self._preview.hide()
        chosen = Card("Training data")
        chosen.body.addWidget(self._empty)
        chosen.body.addLayout(self._list)
        self.body.addWidget(label("What to learn from", "heading"))
        self.body.addLayout(self._adders())
        self.body.addWidget(chosen)
        self.body.addWidget(self._preview)
        self.body.addStretch(1)

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
        if not self.builtin.count():
            self.builtin.addItems([name for name in builtin_datasets() if _teaches(name)])
        super().showEvent(event)

    # Sources

    def add(self, source: str, weight: float = 1.0) -> None:
        if not source or source in [line.source for line in self.lines]:
            return
        line = SourceLine(Source(source=source, weight=weight), self._theme)
        line.remove.clicked.connect(lambda: self._on_remove(line))
        self.lines.append(line)
        self._list.addWidget(line)
        self._show(source)

    def _on_remove(self, line: SourceLine) -> None:
        self.lines.remove(line)
        self._list.removeWidget(line)
        line.deleteLater()
        self._show(self.lines[-1].source if self.lines else "")

    def _on_add(self) -> None:
        self.add(self.path.text().strip())
        self.path.clear()

    def _on_browse(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Datasets", "", "Data (*.jsonl *.json)")
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

    def _show(self, source: str) -> None:
        self._empty.setVisible(not self.lines)
        self._preview.setVisible(bool(source))
        if source:
            shape, rows = look(source)
            self._shape.setText(f"{source}: {shape}")
            self._rows.setText("\n\n".join(rows))
            self._rows.setVisible(bool(rows))

    # The recipe

    def fill(self, recipe: Recipe) -> Recipe:
        data = [Source(source=line.source, weight=_weight(line) or 1.0) for line in self.lines]
        return msgspec.structs.replace(recipe, data=data)

    def show_recipe(self, recipe: Recipe) -> None:
        for line in list(self.lines):
            self._on_remove(line)
        for source in recipe.data:
            self.add(source.source, source.weight)

    def fault(self) -> Refusal | None:
        if not self.lines:
            return Refusal("No data is chosen.", "There is nothing to learn from.",
                           "Add a built-in set or a file of your own.")  # fmt: skip
        for line in self.lines:
            if not line.source.startswith("builtin:") and not Path(line.source).is_file():
                return Refusal(f"There is no file at {line.source}.", "It may be misspelt or gone.",
                               "Remove it and add the right one.")  # fmt: skip
            if _weight(line) is None:
                return Refusal(
                    f"The weight of {line.source} is not a number above 0.",
                    f"It reads '{line.weight.text()}'.",
                    "Write 1 for an equal share.",
                )
        return None


def _weight(line: SourceLine) -> float | None:
    try:
        weight = float(line.weight.text())
    except ValueError:
        return None
    return weight if weight > 0 else None


def _teaches(name: str) -> bool:
    """Whether a built-in set holds worked conversations and is not kept for testing."""
    return not name.endswith("-test") and look(f"builtin:{name}")[0] == "chat"


def look(source: str) -> tuple[str, list[str]]:
    """The shape of a dataset and its first rows as text, from its first bytes alone."""
    try:
        builtin = source.startswith("builtin:")
        path = builtin_dataset(source.removeprefix("builtin:")) if builtin else Path(source)
        with path.open("rb") as file:
            text = file.read(PREVIEW_BYTES).decode("utf-8-sig", "replace")
    except (OSError, Refusal) as fault:
        return f"cannot be read ({fault})", []
    rows = _first_rows(text)
    if not rows:
        return f"no rows were found. {ACCEPTED}", []
    keys = set(rows[0]) if isinstance(rows[0], dict) else set()
    for shape, needed in (
        ("chat", {"messages"}),
        ("prompt and completion", {"prompt", "completion"}),
        ("Alpaca", {"instruction", "output"}),
    ):
        if needed <= keys:
            return shape, [_short(row) for row in rows]
    return f"unknown shape. {ACCEPTED}", [_short(row) for row in rows]


def _first_rows(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return list(msgspec.json.decode(text))[:PREVIEW_ROWS]
        except msgspec.DecodeError:
            return []  # longer than the preview: the job reads it whole
    rows = []
    for line in text.splitlines()[: PREVIEW_ROWS * 2]:
        try:
            rows.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            continue
    return rows[:PREVIEW_ROWS]


def _short(row: Any, width: int = 280) -> str:
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        turns = [f"{m.get('role')}: {m.get('content')}" for m in row["messages"]
                 if isinstance(m, dict)]  # fmt: skip
        text = "\n".join(turns)
    else:
        text = msgspec.json.encode(row).decode()
    return text if len(text) <= width else text[: width - 1] + "…"
