"""Tokens of a row with what is said of them: counts and warnings, by which model and template."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIntValidator
from PySide6.QtWidgets import QComboBox, QGridLayout, QLineEdit, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.combo import ComboBox
from studio.widgets.templates import TemplateBox
from studio.widgets.text import button, label
from studio.widgets.tokens import Legend, TokenText, counted
from workers.protocol.browse import TokenView

MODELS = ["starter", "smollm2"]
LONGEST = 1024
OTHER = (
    'The run has to learn with this template too: "Use in the wizard" takes it along; in a recipe '
    "it is model.template."
)


class TokensView(QWidget):
    """`changed` tells that the row is to be read anew, by another model, template or length."""

    changed = Signal()
    edit_asked = Signal()
    """The template is to be edited."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._make_choosers(theme)
        self.warnings = label("", "", wrap=True, select=True)
        self.counts = label("", "label", wrap=True)
        self.mask_told = label("", "muted", wrap=True)
        self.tokens = TokenText(theme)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE, 2 * SPACE, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(self._choosers())
        column.addWidget(self.warnings)
        column.addWidget(self.counts)
        column.addWidget(self.mask_told)
        column.addWidget(self.tokens, 1)
        column.addWidget(Legend(theme), 0, Qt.AlignmentFlag.AlignLeft)
        self.say("Choose a row to see it as the model will.")

    def _make_choosers(self, theme: Theme) -> None:
        self.models = ComboBox("token-model", "Model")
        self.models.setEditable(True)
        self.models.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.models.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.templates = TemplateBox("token-template")
        self.edit_template = button("Edit…", theme, "pencil-simple", kind="quiet",
                                    name="edit-template")  # fmt: skip
        self.edit_template.setToolTip("Write a chat template and see what it makes of a row")
        self.edit_template.clicked.connect(self.edit_asked)
        self.length = QLineEdit(str(LONGEST))
        self.length.setObjectName("token-length")
        self.length.setAccessibleName("Max sequence length, in tokens")
        self.length.setValidator(QIntValidator(8, 1_048_576, self.length))
        self.offer_models([])
        self.models.activated.connect(self.changed)
        line = self.models.lineEdit()
        assert line is not None
        line.editingFinished.connect(self.changed)
        self.templates.chosen.connect(self.changed)
        self.length.editingFinished.connect(self.changed)

    def _choosers(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACE)
        grid.setVerticalSpacing(SPACE // 2)
        parts = [("Model", self.models, 3), ("Template", self.templates, 2),
                 ("", self.edit_template, 0), ("Max sequence length", self.length, 1)]  # fmt: skip
        for column, (words, widget, stretch) in enumerate(parts):
            grid.addWidget(label(words, "muted"), 0, column)
            grid.addWidget(widget, 1, column)
            grid.setColumnStretch(column, stretch)
        return grid

    def offer_models(self, runs: list[tuple[str, str]]) -> None:
        """Models to choose from: those that come along, and runs by id and name."""
        present = self.model
        self.models.clear()
        for name in MODELS:
            self.models.addItem(name, name)
        for run, name in runs:
            self.models.addItem(f"{name}   {run}", f"run:{run}")
        at = self.models.findData(present)
        if at >= 0 or not present:
            self.models.setCurrentIndex(max(0, at))
        else:
            self.models.setEditText(present)

    @property
    def model(self) -> str:
        """A base model as a recipe names it."""
        typed = self.models.currentText().strip()
        at = self.models.findText(typed)
        return self.models.itemData(at) if at >= 0 else typed

    @property
    def template(self) -> str:
        """As a recipe names it."""
        return self.templates.template

    @property
    def max_length(self) -> int:
        return int(self.length.text()) if self.length.hasAcceptableInput() else LONGEST

    def set_length(self, tokens: int) -> None:
        self.length.setText(str(tokens))
        self.changed.emit()

    def show_views(self, views: list[TokenView]) -> None:
        """What the row became: one view, the two sides of a pair, or one for each answer."""
        warnings = list(dict.fromkeys(words for view in views for words in view.warnings))
        if self.template != "auto" and any(view.template for view in views):
            warnings.append(OTHER)
        self._warn(warnings)
        self._tell_mask(dict.fromkeys(view.mask for view in views if view.mask))
        if len(views) == 1:
            self.counts.setText(counted(views[0]))
        else:
            told = f"{sum(view.tokens for view in views):,} tokens in {len(views)} answers"
            self.counts.setText(told if views else "")
        self.tokens.show_views(views)

    def say(self, words: str) -> None:
        """Why there are no tokens."""
        self._warn([])
        self._tell_mask([])
        self.counts.setText("")
        self.tokens.say(words)

    def _tell_mask(self, ways: Iterable[str]) -> None:
        """How it was told which tokens are in the loss."""
        self.mask_told.setText(" ".join(ways))
        self.mask_told.setVisible(bool(self.mask_told.text()))

    def _warn(self, warnings: list[str]) -> None:
        self.warnings.setText("\n".join(f"⚠ {words}" for words in warnings))
        self.warnings.setVisible(bool(warnings))
