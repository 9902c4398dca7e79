"""Step one: what kind of training."""

from __future__ import annotations

from typing import get_args

import msgspec

from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import Choices
from studio.widgets.text import label
from workers.protocol.recipe import Recipe, Stage

WORDS = {
    "sft": (
        "Supervised fine-tuning",
        "You have examples of questions with good answers. The model learns to answer like them. "
        "This is where most projects begin.",
        "graduation-cap",
    ),
    "dpo": (
        "Preferences",
        "You have pairs of answers of which one is better. The model learns to prefer the better "
        "kind. Best after supervised fine-tuning.",
        "thumbs-up",
    ),
    "grpo": (
        "Reinforcement learning with checkable answers",
        "You have prompts whose answers can be checked. The model tries, is scored, and does more "
        "of what worked. Best after supervised fine-tuning.",
        "medal",
    ),
}
"""Stage to title, plain words and icon; only the stages that a recipe accepts are offered."""


class StageStep(Step):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.choices = Choices(theme)
        for stage in get_args(Stage):
            if stage in WORDS:
                self.choices.add(stage, *WORDS[stage])
        self.choices.choose(["sft"])
        self.body.addWidget(label("What do you have to teach with?", "heading"))
        self.body.addWidget(self.choices)
        self.body.addStretch(1)

    def fill(self, recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, stage=self.choices.chosen[0])

    def show_recipe(self, recipe: Recipe) -> None:
        self.choices.choose([recipe.stage])
