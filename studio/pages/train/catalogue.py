"""Models of the catalogue by the GPU that there is, and datasets by the stage that they serve."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.planning import least_for
from studio.theme import SPACE, Theme
from studio.widgets.combo import ComboBox
from studio.widgets.text import button, label
from workers.protocol.catalogue import (
    CARDS_GB,
    DatasetEntry,
    ModelEntry,
    read_catalogue,
    source_of,
    words_of,
)

NONE_CHOSEN = "Choose from the catalogue…"


class CatalogueChooser(QWidget):
    """The catalogue is read when it is first to be seen."""

    chosen = Signal(str)
    """A model's id."""

    def __init__(self) -> None:
        super().__init__()
        self._models: list[ModelEntry] = []
        self._present = ""
        self.card = ComboBox("catalogue-card", "Memory of the GPU")
        self.card.addItem("Any GPU", 0)
        for gigabytes in CARDS_GB:
            self.card.addItem(f"Fits {gigabytes} GB", gigabytes)
        self.box = ComboBox("catalogue-model", "Model of the catalogue")
        self.facts = label("", "muted", wrap=True, select=True)
        self.limits = label("", "", wrap=True, select=True)
        self.card.currentIndexChanged.connect(self._offer)
        self.box.activated.connect(self._on_activated)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.card)
        row.addWidget(self.box, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(row)
        column.addWidget(self.facts)
        column.addWidget(self.limits)
        self._show_facts()

    def show_model(self, model: str) -> None:
        """Shows a model as chosen, in the catalogue or not."""
        self._present = model
        if not self._models:
            self._models = read_catalogue().models
            self._offer()
        with QSignalBlocker(self.box):
            self.box.setCurrentIndex(max(0, self.box.findData(model)))
        self._show_facts()

    def _offer(self) -> None:
        """Offers the models that can be trained on the card; what is chosen stays."""
        room = self.card.currentData()
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItem(NONE_CHOSEN, "")
            for entry in self._models:
                if not room or min(least_for(entry)) <= room:
                    self.box.addItem(entry.id, entry.id)
            self.box.setCurrentIndex(max(0, self.box.findData(self._present)))

    def _on_activated(self) -> None:
        if model := self.box.currentData():
            self.chosen.emit(model)

    def _show_facts(self) -> None:
        entry = next((one for one in self._models if one.id == self._present), None)
        words = words_of(entry, least_for(entry)) if entry else ""
        self.facts.setText(words[:1].upper() + words[1:])
        self.facts.setVisible(entry is not None)
        self.limits.setText(f"⚠ {entry.limits}" if entry else "")
        self.limits.setVisible(bool(entry and entry.limits))


class HubSets(QWidget):
    """Datasets of the catalogue that a stage can learn from; out of sight where there are none."""

    added = Signal(str)
    """A dataset as a recipe's source names it."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.box = ComboBox("catalogue-set", "Dataset on the hub")
        add = button("Add from the hub", theme, "plus", name="add-hub-set")
        add.clicked.connect(lambda: self.added.emit(self.box.currentData()))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box, 1)
        row.addWidget(add)

    def offer(self, stage: str) -> None:
        self.box.clear()
        for entry in read_catalogue().datasets:
            if stage in entry.stages:
                self.box.addItem(_set_words(entry), source_of(entry))
        self.setVisible(self.box.count() > 0)


def _set_words(entry: DatasetEntry) -> str:
    rows = f"{entry.rows:,} rows" if entry.rows else ""
    return ", ".join(filter(None, (entry.id, *entry.topics, rows, entry.licence)))
