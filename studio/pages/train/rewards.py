"""The step of reinforcement learning in which it is said what earns points."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from studio.advice import different_tokenizers
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.combo import ComboBox
from studio.widgets.rewards import RewardEditor
from studio.widgets.text import button, label
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import AnyReward, RewardModel


class RewardModelChoice(NamedTuple):
    """A reward model that can be chosen."""

    model: str
    """As a recipe names it."""
    name: str
    root: str
    """The base model at the beginning of its chain."""


class RewardModelPicker(Card):
    """The reward model that scores a policy's answers; `value` is what a recipe takes."""

    begin_asked = Signal()
    """No reward model is there yet, or another one is wanted."""

    def __init__(self, theme: Theme) -> None:
        super().__init__("The reward model")
        self._given: list[AnyReward] = []
        self._roots: dict[str, str] = {}
        self.box = ComboBox("reward-model", "Reward model", least_letters=24)
        self.none = label(
            "There is no reward model yet. Train one on pairs of a better and a worse answer, from "
            "the same base; then come back here.", "", wrap=True,
        )  # fmt: skip
        self.begin = button("Begin a reward model", theme, "star", name="begin-reward-model")
        self.begin.clicked.connect(self.begin_asked)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.box, 1000)
        row.addWidget(self.begin)
        row.addStretch(1)
        self.body.addWidget(self.none)
        self.body.addLayout(row)
        self.also = label("", "muted", wrap=True)
        self.body.addWidget(self.also)
        self._show()

    def offer(self, choices: list[RewardModelChoice]) -> None:
        """Trained reward models, the newest first; what is chosen stays, whatever it is."""
        chosen = self.chosen
        self._roots = {choice.model: choice.root for choice in choices}
        self.box.clear()
        for choice in choices:
            self.box.addItem(f"{choice.name}   {choice.model.removeprefix('run:')}", choice.model)
        if chosen:
            self._choose(chosen)
        self._show()

    @property
    def chosen(self) -> str:
        """The model as a recipe names it; empty where there is none."""
        return self.box.currentData() or ""

    @property
    def root(self) -> str:
        """The base model that the chosen one was trained from, where that is known."""
        return self._roots.get(self.chosen, "")

    @property
    def value(self) -> list[AnyReward]:
        if not self.chosen:
            return []
        if not any(isinstance(reward, RewardModel) for reward in self._given):
            return [RewardModel(model=self.chosen)]
        return [self._renamed(reward) for reward in self._given]

    def _renamed(self, reward: AnyReward) -> AnyReward:
        first = next(one for one in self._given if isinstance(one, RewardModel))
        return msgspec.structs.replace(first, model=self.chosen) if reward is first else reward

    def set_value(self, rewards: list[AnyReward]) -> None:
        """Takes a recipe's rewards; those beside its first reward model are kept."""
        self._given = list(rewards)
        first = next((one for one in rewards if isinstance(one, RewardModel)), None)
        if first is not None:
            self._choose(first.model)
        self._show()

    def _choose(self, model: str) -> None:
        if self.box.findData(model) < 0:
            self.box.addItem(model, model)
        self.box.setCurrentIndex(self.box.findData(model))

    def _show(self) -> None:
        some = self.box.count() > 0
        self.box.setVisible(some)
        self.none.setVisible(not some)
        self.begin.setText("Another one" if some else "Begin a reward model")
        more = len(self._given) - 1
        self.also.setText(f"The recipe has {more} more, which stay as they are.")
        self.also.setVisible(more > 0)


class RewardsStep(Step):
    try_asked = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._stage = self._root = self._algorithm = ""
        self.editor = RewardEditor(theme)
        self.reward_model = RewardModelPicker(theme)
        self.attempt = button("Try these rewards", theme, "medal", name="try-rewards")
        self.attempt.setToolTip("See what right, wrong and tricky answers would earn")
        self.attempt.clicked.connect(self.try_asked)
        for edited in (self.editor.changed, self.reward_model.box.currentIndexChanged):
            edited.connect(self.changed)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        self._about = label("", "muted", wrap=True)
        words.addWidget(label("What earns points", "heading"))
        words.addWidget(self._about)
        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addLayout(words, 1)
        head.addWidget(self.attempt)
        self.body.addLayout(head)
        self.body.addWidget(self.editor)
        self.body.addWidget(self.reward_model)
        self.body.addStretch(1)

    def serves(self, recipe: Recipe) -> bool:
        return recipe.stage in ABOUT

    def adapt(self, recipe: Recipe, root: str) -> None:
        """Rewards of any kind for checkable answers, a reward model for what people like."""
        self._stage, self._root = recipe.stage, root
        self._algorithm = recipe.rl.algorithm
        by_model = recipe.stage == "rlhf"
        self.editor.setVisible(not by_model)
        self.reward_model.setVisible(by_model)
        self._about.setText(ABOUT.get(recipe.stage, ""))

    def fill(self, recipe: Recipe) -> Recipe:
        part: RewardModelPicker | RewardEditor = (
            self.reward_model if recipe.stage == "rlhf" else self.editor
        )
        return msgspec.structs.replace(recipe, rewards=part.value)

    def show_recipe(self, recipe: Recipe) -> None:
        by_model = recipe.stage == "rlhf"
        self.reward_model.set_value(recipe.rewards if by_model else [])
        self.editor.set_value([] if by_model else recipe.rewards)

    def fault(self) -> Refusal | None:
        return self._fault_of_judge() if self._stage == "rlhf" else self._fault_of_rewards()

    def _fault_of_judge(self) -> Refusal | None:
        if not self.reward_model.chosen:
            return Refusal("There is no reward model.", "RLHF learns from what one thinks of "
                           "answers.", "Begin a reward model, from the same base.")  # fmt: skip
        if self._algorithm == "ppo" and different_tokenizers(self._root, self.reward_model.root):
            return Refusal(
                f"The reward model was trained from {self.reward_model.root}, the policy begins "
                f"with {self._root}.",
                "PPO hands over tokens, and the two do not mean the same by them.",
                "Choose a reward model of the same base, or the algorithm rloo, which hands over "
                "text.",
            )
        return None

    def _fault_of_rewards(self) -> Refusal | None:
        if faults := self.editor.faults:
            return Refusal(faults[0], "That value cannot be used.",
                           "Mend the field that is marked, or remove the reward.")  # fmt: skip
        if not self.editor.cards:
            return Refusal("No reward is chosen.", "Without one there is nothing to reinforce.",
                           "Add one; Math answer suits sums.")  # fmt: skip
        return None


ABOUT = {
    "grpo": "Every answer earns the sum of these, each times its weight. The model does more of "
    "whatever earns most, so try them before training.",
    "rlhf": "The last of three runs: first a model that answers (SFT), then a reward model trained "
    "from it on pairs, now the policy, which does more of what the reward model likes.",
}
"""The stages that have rewards, and what these are there."""
