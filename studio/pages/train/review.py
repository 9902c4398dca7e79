"""Step five: what will happen, in sentences, and the recipe that says so to the program."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit

from studio.pages.train.step import Step
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.recipe import Recipe, format_recipe

METHODS = {
    "lora": "a LoRA adapter of rank {rank} is trained beside its frozen weights",
    "qlora": "its weights are held in 4 bits and a LoRA adapter of rank {rank} is trained",
    "dora": "a DoRA adapter of rank {rank} is trained beside its frozen weights",
    "full": "all of its weights are trained",
}


class ReviewStep(Step):
    save_asked = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._words = label("", "", wrap=True, select=True)
        self.toml = QPlainTextEdit()
        self.toml.setReadOnly(True)
        self.toml.setFont(fixed_font())
        self.toml.setAccessibleName("Recipe")
        self.toml.setMinimumHeight(240)
        plain = Card("What will happen")
        plain.body.addWidget(self._words)
        file = Card("The recipe")
        file.body.addWidget(label("The same, as a file: run it anywhere with python -m studio "
                                  "train FILE.", "muted", wrap=True))  # fmt: skip
        file.body.addWidget(self.toml)
        file.body.addLayout(self._buttons(theme))
        self.body.addWidget(plain)
        self.body.addWidget(file, 1)

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

    def show_recipe(self, recipe: Recipe, faults: dict[str, str] | None = None) -> None:
        self._words.setText(in_words(recipe))
        self.toml.setPlainText(format_recipe(recipe))

    def fill(self, recipe: Recipe) -> Recipe:
        return recipe


def in_words(recipe: Recipe) -> str:
    """A recipe as a few sentences."""
    options, held = recipe.training, recipe.evaluation
    names = ", ".join(source.source.rpartition("/")[2] for source in recipe.data) or "no data yet"
    each = options.batch_size * options.gradient_accumulation
    length = (
        f"{options.max_steps} steps of {each} examples"
        if options.max_steps
        else f"{options.epochs:g} passes over the data, {each} examples a step"
    )
    how = METHODS[recipe.model.method].format(rank=recipe.lora.rank)
    what = "The answers alone are learnt" if options.assistant_only else "Every token is learnt"
    measured = (
        f"{held.holdout:.0%} of the rows are kept apart, and the model is measured on them before "
        "and after."
        if held.holdout
        else "No rows are kept apart, so there is no measure of what was learnt."
    )
    return (
        f"{recipe.model.base} is the base, and {how}. It learns from {names} for {length}, with a "
        f"learning rate of {options.learning_rate:g} and seed {options.seed}. {what}; examples "
        f"longer than {options.max_length} tokens are cut. {measured}"
    )
