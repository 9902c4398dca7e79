"""The step of reinforcement learning in which it is said what earns points."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.rewards import RewardEditor
from studio.widgets.text import button, label
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal


class RewardsStep(Step):
    try_asked = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.editor = RewardEditor(theme)
        self.attempt = button("Try these rewards", theme, "medal", name="try-rewards")
        self.attempt.setToolTip("See what right, wrong and tricky answers would earn")
        self.attempt.clicked.connect(self.try_asked)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(label("What earns points", "heading"))
        words.addWidget(label("Every answer earns the sum of these, each times its weight. The "
                              "model does more of whatever earns most, so try them before "
                              "training.", "muted", wrap=True))  # fmt: skip
        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addLayout(words, 1)
        head.addWidget(self.attempt)
        self.body.addLayout(head)
        self.body.addWidget(self.editor)
        self.body.addStretch(1)

    def serves(self, recipe: Recipe) -> bool:
        return recipe.stage == "grpo"

    def fill(self, recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, rewards=self.editor.value)

    def show_recipe(self, recipe: Recipe) -> None:
        self.editor.set_value(recipe.rewards)

    def fault(self) -> Refusal | None:
        if faults := self.editor.faults:
            return Refusal(faults[0], "That value cannot be used.",
                           "Mend the field that is marked, or remove the reward.")  # fmt: skip
        if not self.editor.cards:
            return Refusal("No reward is chosen.", "Without one there is nothing to reinforce.",
                           "Add one; Math answer suits sums.")  # fmt: skip
        return None
