"""A mapping of columns that is proposed: why, what three rows would then be, and a button."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import button, label, one_line
from workers.protocol.mapping import Proposal

EXAMPLE = 110
"""Characters of a value."""


class ProposalView(QWidget):
    """Hidden until something is proposed."""

    taken = Signal(object)
    """Their columns to ours."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._proposal: Proposal | None = None
        self.words = label("", "", wrap=True, select=True)
        self._rows = QGridLayout()
        self._rows.setHorizontalSpacing(2 * SPACE)
        self._rows.setVerticalSpacing(SPACE // 2)
        self._rows.setColumnStretch(1, 1)
        self.take = button("Take these columns", theme, kind="primary", name="take-columns")
        self.take.clicked.connect(self._on_taken)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(self.words)
        column.addLayout(self._rows)
        column.addWidget(self.take, 0, Qt.AlignmentFlag.AlignLeft)
        self.hide()

    def show_proposal(self, proposal: Proposal | None) -> None:
        self._proposal = proposal
        self.setVisible(proposal is not None)
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        if proposal is None:
            return
        self.words.setText(proposal.words)
        lines = [pair for example in proposal.examples for pair in example.items()]
        for at, (ours, text) in enumerate(lines):
            self._rows.addWidget(label(ours, "muted"), at, 0, Qt.AlignmentFlag.AlignTop)
            self._rows.addWidget(label(one_line(text, EXAMPLE), "", wrap=True, select=True), at, 1)

    def _on_taken(self) -> None:
        if self._proposal is not None:
            self.taken.emit(dict(self._proposal.mapping))
