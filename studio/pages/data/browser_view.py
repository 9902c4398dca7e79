"""How an open dataset is laid out: facts above, rows at the left, the chosen one at the right.

Knows nothing of what is done with it; see studio/pages/data/browser.py.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QScrollArea,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from studio.theme import SPACE, Theme
from studio.widgets.checkcard import CheckCard
from studio.widgets.chips import Chips
from studio.widgets.mapping import MappingView
from studio.widgets.rowedit import RowEdit
from studio.widgets.rows import RowsTable
from studio.widgets.text import button, label
from studio.widgets.tokenview import TokensView

FILTERS = ("All rows", "Bad rows seen so far", "Edited rows")
REMEDIES = ("rows", "drop", "length", "skip")
"""What can be done about a finding of the check."""


class BrowserView(QWidget):
    """The controls of an open dataset."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._make_head(theme)
        self._make_left(theme)
        self._make_tabs(theme)
        self._make_foot(theme)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(SPACE)
        whole.addLayout(self._head())
        whole.addWidget(self.facts)
        whole.addWidget(self._split(), 1)
        whole.addWidget(self.foot)

    def _make_head(self, theme: Theme) -> None:
        self.name = label("", "heading", select=True)
        self.facts = label("", "muted", wrap=True, select=True)
        self.stages = Chips(theme, "stage")
        self.stages.setToolTip("The stages that can learn from it; tokens are shown for the chosen")

    def _make_left(self, theme: Theme) -> None:
        self.filter = QComboBox()
        self.filter.setObjectName("row-filter")
        self.filter.setAccessibleName("Rows to show")
        self.filter.addItems(list(FILTERS))
        self.go = QLineEdit()
        self.go.setObjectName("go-to-row")
        self.go.setAccessibleName("Go to row")
        self.go.setPlaceholderText("Go to row")
        self.go.setFixedWidth(12 * SPACE)
        self.table = RowsTable(theme)
        self.good = button("Good", theme, "thumbs-up", kind="quiet", name="tag-good")
        self.bad = button("Bad", theme, "thumbs-down", kind="quiet", name="tag-bad")
        self.drop = button("Drop", theme, "trash", kind="quiet", name="drop-row")
        self.undo = button("Undo", theme, "arrow-u-up-left", kind="quiet", name="undo-edit")
        tips = ((self.good, "Tag the chosen rows good  (G)"), (self.bad, "Tag them bad  (B)"),
                (self.drop, "Drop them, or take them back  (Delete)"),
                (self.undo, "Take the last edit back  (Ctrl+Z)"))  # fmt: skip
        for made, tip in tips:
            made.setToolTip(tip)

    def _make_tabs(self, theme: Theme) -> None:
        self.tokens = TokensView(theme)
        self.edit = RowEdit(theme)
        self.mapping = MappingView(theme)
        self.check = CheckCard(theme, REMEDIES, single=True)
        self.check.setProperty("card", False)
        self.check.body.setContentsMargins(SPACE, 2 * SPACE, SPACE, 0)
        checked = QScrollArea()
        checked.setWidgetResizable(True)
        checked.setFrameShape(QFrame.Shape.NoFrame)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.check)
        column.addStretch(1)
        checked.setWidget(inner)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        for page, words in ((self.tokens, "Tokens"), (self.edit, "Edit"),
                            (self.mapping, "Columns"), (checked, "Check")):  # fmt: skip
            self.tabs.addTab(page, words)

    def _make_foot(self, theme: Theme) -> None:
        self.words = label("", "label", wrap=True)
        self.discard = button("Discard", theme, kind="quiet", name="discard-edits")
        self.discard.setToolTip("Forget every edit; Undo brings them back")
        self.version = QLineEdit()
        self.version.setObjectName("version-name")
        self.version.setAccessibleName("Name of the new version")
        self.version.setPlaceholderText("Name, if you like")
        self.version.setMaximumWidth(22 * SPACE)
        self.save = button("Save as new version", theme, "floppy-disk", kind="primary",
                           name="save-version")  # fmt: skip
        self.foot = QWidget()
        row = QHBoxLayout(self.foot)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(self.words, 1)
        for widget in (self.discard, self.version, self.save):
            row.addWidget(widget)
        self.foot.hide()

    def _head(self) -> QHBoxLayout:
        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addWidget(self.name)
        head.addWidget(self.stages)
        head.addStretch(1)
        return head

    def _left(self) -> QWidget:
        finders, actions = QHBoxLayout(), QHBoxLayout()
        finders.setSpacing(SPACE)
        finders.addWidget(self.filter, 1)
        finders.addWidget(self.go)
        actions.setSpacing(SPACE // 2)
        for made in (self.good, self.bad, self.drop, self.undo):
            actions.addWidget(made)
        actions.addStretch(1)
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, SPACE, 0)
        column.setSpacing(SPACE)
        column.addLayout(finders)
        column.addWidget(self.table, 1)
        column.addLayout(actions)
        return left

    def _split(self) -> QSplitter:
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(self._left())
        self.split.addWidget(self.tabs)
        self.split.setChildrenCollapsible(False)
        self.split.setStretchFactor(0, 1)
        self.split.setStretchFactor(1, 1)
        self.split.setSizes([480, 520])
        return self.split
