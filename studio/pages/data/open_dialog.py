"""What can be looked at: files, built-in sets, sets opened before, versions saved before."""

from __future__ import annotations

from pathlib import Path

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.listcard import ListCard
from studio.widgets.text import button, label
from workers.protocol.assets import builtin_datasets
from workers.protocol.browse import Version
from workers.protocol.sources import PATTERNS, short_name

FILES = f"Data ({PATTERNS})"


class OpenDialog(QWidget):
    """`chosen` names a source as a recipe writes it."""

    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.path = QLineEdit()
        self.path.setObjectName("browse-path")
        self.path.setAccessibleName("Dataset")
        self.path.setPlaceholderText("A file, a folder, or org/name[:split] on the hub")
        self.path.returnPressed.connect(self._on_open)
        self.builtins = ListCard("Built-in sets", "database", "None came along.", theme)
        self.recent = ListCard(
            "Opened before", "clock-counter-clockwise", "What you open stands here next time.",
            theme,
        )  # fmt: skip
        self.versions = ListCard(
            "Saved versions", "git-branch",
            "Edited copies of your data stand here. Your own file is never written to.", theme,
        )  # fmt: skip
        cards = QHBoxLayout()
        cards.setSpacing(2 * SPACE)
        for card in (self.builtins, self.recent, self.versions):
            card.opened.connect(self.chosen)
            cards.addWidget(card, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._entrance(theme))
        column.addLayout(cards, 1)

    def _entrance(self, theme: Theme) -> Card:
        card = Card("Open a dataset")
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        go = button("Open", theme, kind="primary", name="open-dataset")
        go.clicked.connect(self._on_open)
        file = button("File…", theme, "file", name="open-data-file")
        file.clicked.connect(self._on_file)
        folder = button("Folder…", theme, "folder-open", name="open-data-folder")
        folder.clicked.connect(self._on_folder)
        row.addWidget(self.path, 1)
        for made in (file, folder, go):
            row.addWidget(made)
        card.body.addLayout(row)
        card.body.addWidget(label(
            "Or drop a file here. You will see its rows, each as the model will read it, mend or "
            "drop what is wrong, and save the result as a new version.", "muted", wrap=True,
        ))  # fmt: skip
        return card

    def offer(self, recent: list[str], versions: list[tuple[Path, Version]]) -> None:
        """Fills the lists anew."""
        self.builtins.offer([(f"builtin:{name}", name, "") for name in builtin_datasets()])
        self.recent.offer([(source, short_name(source), source) for source in recent])
        self.versions.offer(
            [(str(path), f"{path.stem}   {told.rows:,} rows", _history(told))
             for path, told in versions]
        )  # fmt: skip

    def _on_open(self) -> None:
        if source := self.path.text().strip():
            self.chosen.emit(source)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open dataset", "", FILES)
        if path:
            self.chosen.emit(path)

    def _on_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Open a folder of data files"):
            self.chosen.emit(path)


def saved_versions(folder: Path) -> list[tuple[Path, Version]]:
    """Versions in a folder, the newest first; what is torn or gone is passed over."""
    found: list[tuple[Path, Version]] = []
    for sidecar in folder.glob("*.json"):
        path = sidecar.with_suffix(".jsonl")
        try:
            version = msgspec.json.decode(sidecar.read_bytes(), type=Version)
        except (OSError, msgspec.DecodeError):
            continue
        if path.is_file():
            found.append((path, version))
    return sorted(found, key=lambda one: one[1].created, reverse=True)


def _history(version: Version) -> str:
    return (
        f"Of {version.source}, {version.created[:16].replace('T', ' ')}: {version.changed:,} "
        f"changed, {version.dropped:,} dropped, {version.tagged:,} tagged\n{version.path}"
    )
