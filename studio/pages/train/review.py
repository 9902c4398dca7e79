"""The last step: what will happen, in sentences, and the recipe that says so to the program."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QPushButton

from studio.draft import DraftModel, by_epochs, pipeline
from studio.draft_faults import few_rows, too_large_for_cpu, warning
from studio.pages.train.memory import MemoryCard
from studio.pages.train.step import Step
from studio.planning import RootOf
from studio.recipe_words import in_words, seen
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.pipeline import format_pipeline


class ReviewStep(Step):
    name = "Review"
    save_asked = Signal()
    sft_asked = Signal()
    """The base is to be fine-tuned to answer first."""
    model_asked = Signal()
    """Another base is to be chosen."""

    def __init__(self, model: DraftModel, root_of: RootOf, theme: Theme) -> None:
        super().__init__(model)
        self.memory = MemoryCard(model, root_of, theme)
        self._words = label("", "", wrap=True, select=True)
        self.toml = QPlainTextEdit()
        self.toml.setReadOnly(True)
        self.toml.setFont(fixed_font())
        self.toml.setAccessibleName("Recipe")
        self.toml.setMinimumHeight(240)
        plain = Card("What will happen")
        plain.body.addWidget(self._words)
        self.early = self._make_early(theme)
        self.cpu = self._make_cpu(theme)
        self.few = self._make_few(theme)
        self.afterwards = self._make_afterwards(theme)
        file = Card("The recipe")
        file.body.addWidget(label("The same, as a file: run it anywhere with python -m studio "
                                  "train FILE.", "muted", wrap=True))  # fmt: skip
        file.body.addWidget(self.toml)
        file.body.addLayout(self._buttons(theme))
        self.body.addWidget(self.early)
        self.body.addWidget(self.cpu)
        self.body.addWidget(self.few)
        self.body.addWidget(plain)
        self.body.addWidget(self.memory)
        self.body.addWidget(self.afterwards)
        self.body.addWidget(file, 1)

    def _make_early(self, theme: Theme) -> Card:
        self.warning = label("", "", wrap=True, select=True)
        first = button("Begin with SFT", theme, "graduation-cap", name="begin-with-sft")
        first.clicked.connect(self.sft_asked)
        return _beside("This may come too early", self.warning, first)

    def _make_cpu(self, theme: Theme) -> Card:
        self.no_card = label("", "", wrap=True, select=True)
        other = button("Choose another model", theme, "cube", name="choose-smaller-model")
        other.clicked.connect(self.model_asked)
        return _beside("No GPU for a model of this size", self.no_card, other)

    def _make_few(self, theme: Theme) -> Card:
        self.few_rows = label("", "", wrap=True, select=True)
        whole = button("Train one epoch", theme, "rows", name="train-one-epoch")
        whole.clicked.connect(lambda: self.draft_model.become(by_epochs(self.draft)))
        return _beside("Most rows will not be seen", self.few_rows, whole)

    def _make_afterwards(self, theme: Theme) -> Card:
        self.then = label("", "", wrap=True, select=True)
        drop = button("Only the first stage", theme, "x", name="drop-stages")
        drop.clicked.connect(lambda: self.draft_model.become(self.draft.without_followers()))
        return _beside("Afterwards", self.then, drop)

    def _buttons(self, theme: Theme) -> QHBoxLayout:
        copy = button("Copy", theme, "copy", name="copy-recipe")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.toml.toPlainText()))
        save = button("Save recipe…", theme, "floppy-disk", name="save-recipe")
        save.clicked.connect(self.save_asked)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(copy)
        row.addWidget(save)
        row.addStretch(1)
        return row

    def enter(self) -> None:
        self._show()
        self.memory.refresh()

    def show_draft(self) -> None:
        if not self.isHidden():
            self._show()

    def _show(self) -> None:
        """The first stage in words, the others by name, all of it as a file."""
        whole = pipeline(self.draft)
        first, *then = whole.stages
        few = few_rows(self.draft)
        words = (in_words(first), "" if few else seen(first, self.draft.rows))
        self._words.setText("\n\n".join(filter(None, words)))
        self.then.setText("\n".join(f"Then: {r.name} ({r.stage.upper()})" for r in then))
        self.afterwards.setVisible(bool(then))
        self.toml.setPlainText(format_pipeline(whole))
        self.warning.setText(warning(self.draft))
        self.early.setVisible(bool(self.warning.text()))
        self.no_card.setText(too_large_for_cpu(self.draft))
        self.cpu.setVisible(bool(self.no_card.text()))
        self.few_rows.setText(few)
        self.few.setVisible(bool(few))


def _beside(title: str, words: QLabel, does: QPushButton) -> Card:
    """A card, hidden as yet, with words and what can be done about them."""
    card = Card(title)
    row = QHBoxLayout()
    row.setSpacing(2 * SPACE)
    row.addWidget(words, 1)
    row.addWidget(does, 0, Qt.AlignmentFlag.AlignTop)
    card.body.addLayout(row)
    card.hide()
    return card
