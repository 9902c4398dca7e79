"""A dataset's columns and what each is to us, chosen by hand or found by itself."""

from __future__ import annotations

from typing import get_args

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.combo import ComboBox
from studio.widgets.proposal import ProposalView
from studio.widgets.text import button, label
from workers.protocol.browse import Opening
from workers.protocol.recipe import Column

NOT_USED = "not used"
MOST_COLUMNS = 200
"""Columns that are listed; a wider table is mapped in the recipe."""


class MappingView(QScrollArea):
    """One line a column: theirs, and a choice of ours."""

    mapped = Signal(object)
    """Their columns to ours as they are chosen now; empty asks to find them anew."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("mapping")
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.boxes: dict[str, QComboBox] = {}
        self.by_hand = False
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(2 * SPACE)
        self._grid.setVerticalSpacing(SPACE)
        self._grid.setColumnStretch(0, 1)
        self._grid.setColumnStretch(1, 1)
        self._why = label("", "muted", wrap=True, select=True)
        self.proposal = ProposalView(theme)
        self.proposal.taken.connect(self.mapped)
        self.detect = button("Find the columns again", theme, kind="quiet", name="detect-columns")
        self.detect.clicked.connect(lambda: self.mapped.emit({}))
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(SPACE, 2 * SPACE, SPACE, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._why)
        column.addWidget(self.proposal)
        column.addLayout(self._grid)
        column.addWidget(self.detect, 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch(1)
        self.setWidget(inner)

    def show_opening(self, opening: Opening, *, by_hand: bool) -> None:
        """The columns as a dataset was taken; keeps the boxes where the columns are the same."""
        self.by_hand = by_hand
        self._why.setText(opening.why)
        self.proposal.show_proposal(opening.proposal)
        self.detect.setVisible(by_hand)
        columns = opening.columns[:MOST_COLUMNS]
        if columns != list(self.boxes):
            self._make_boxes(columns)
        for column, box in self.boxes.items():
            box.setCurrentText(opening.mapping.get(column, NOT_USED))

    def _make_boxes(self, columns: list[str]) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self.boxes = {}
        for place, words in enumerate(("Their column", "What it is to us")):
            self._grid.addWidget(label(words, "label"), 0, place)
        for number, column in enumerate(columns, start=1):
            box = ComboBox(f"map:{column}", f"What {column} is to us")
            box.addItems([NOT_USED, *get_args(Column)])
            box.activated.connect(self._on_chosen)
            self.boxes[column] = box
            self._grid.addWidget(label(column, "", wrap=True, select=True), number, 0)
            self._grid.addWidget(box, number, 1)

    @property
    def mapping(self) -> dict[str, str]:
        """As it is chosen in the boxes."""
        chosen = {column: box.currentText() for column, box in self.boxes.items()}
        return {column: ours for column, ours in chosen.items() if ours != NOT_USED}

    def _on_chosen(self) -> None:
        self.mapped.emit(self.mapping)
