"""What became of another program's config, in a dialog, before it fills the wizard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QGridLayout, QWidget

from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.card import Card
from studio.widgets.notice import Banner
from studio.widgets.page import lay_out_dialog
from studio.widgets.text import button, label
from workers.protocol.refusal import Refusal

SIZE = (860, 680)
WORDS_WIDTH = 440
WORDS = "Nothing is started yet. The wizard shows all of it, and everything can be changed there."


class Line(NamedTuple):
    """One key of the config, and what it is here."""

    key: str
    words: str


class Group(NamedTuple):
    """Keys to which the same happened."""

    heading: str
    words: str
    lines: Sequence[Line]


class ImportDialog(QDialog):
    """Groups of keys, each a card; accepted when the recipe is to be opened.

    Args:
        what: the file and its program.
        groups: those without lines are left out.
        lacks: what is still to be chosen.
    """

    def __init__(
        self, what: str, groups: Sequence[Group], lacks: Sequence[Refusal], theme: Theme,
        parent: QWidget | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.setWindowTitle("Open recipe")
        self.setObjectName("import-dialog")
        self.resize(*SIZE)
        self.go = button("Open in the wizard", theme, "arrow-right", kind="primary",
                         name="import-go")  # fmt: skip
        self.leave = button("Cancel", theme, name="import-cancel")
        self.go.clicked.connect(self.accept)
        self.leave.clicked.connect(self.reject)
        self.banners = [Banner(theme) for _ in lacks]
        self.cards = [_card(group) for group in groups if group.lines]
        self._lay_out(what)
        for banner, lack in zip(self.banners, lacks, strict=True):
            banner.inform(lack.what, lack.cause, "Choose it in the wizard.")

    def _lay_out(self, what: str) -> None:
        head = label(what, "heading", wrap=True), label(WORDS, "muted", wrap=True)
        lay_out_dialog(self, (*head, *self.banners, *self.cards), (self.leave, self.go))

    @classmethod
    def ask(
        cls, what: str, groups: Sequence[Group], lacks: Sequence[Refusal], theme: Theme,
        parent: QWidget,
    ) -> bool:  # fmt: skip
        """Whether the recipe is to be opened."""
        dialog = cls(what, groups, lacks, theme, parent)
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        dialog.deleteLater()
        return accepted


def _card(group: Group) -> Card:
    card = Card(f"{group.heading} ({len(group.lines)})")
    if group.words:
        card.body.addWidget(label(group.words, "muted", wrap=True))
    grid = QGridLayout()
    grid.setHorizontalSpacing(2 * SPACE)
    grid.setVerticalSpacing(SPACE // 2)
    grid.setColumnStretch(0, 2)
    grid.setColumnStretch(1, 3)
    for row, line in enumerate(group.lines):
        key = label(line.key, select=True)
        key.setFont(fixed_font())
        words = label(line.words, "", wrap=True, select=True)
        words.setMinimumWidth(WORDS_WIDTH)  # its height is asked for before its width is known
        grid.addWidget(key, row, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(words, row, 1, Qt.AlignmentFlag.AlignTop)
    card.body.addLayout(grid)
    return card
