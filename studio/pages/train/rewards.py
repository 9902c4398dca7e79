"""The step of reinforcement learning in which it is said what earns points."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from studio.draft import DraftModel, RewardModelChoice
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.combo import ComboBox
from studio.widgets.rewards import RewardEditor
from studio.widgets.text import button, label
from workers.protocol.stages import spec_of


class RewardModelPicker(Card):
    """The reward model that scores a policy's answers."""

    begin_asked = Signal()
    """No reward model is there yet, or another one is wanted."""

    def __init__(self, theme: Theme) -> None:
        super().__init__("The reward model")
        self._offered: Sequence[RewardModelChoice] = ()
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

    def show_choice(self, offered: Sequence[RewardModelChoice], chosen: str, others: int) -> None:
        """Shows the models to choose from and the chosen one, whatever it is.

        Args:
            others: how many rewards the recipe has besides.
        """
        with QSignalBlocker(self.box):
            if offered != self._offered:
                self._offered = offered
                self.box.clear()
                for choice in offered:
                    words = f"{choice.name}   {choice.model.removeprefix('run:')}"
                    self.box.addItem(words, choice.model)
            if chosen:
                self.choose(chosen)
        some = self.box.count() > 0
        self.box.setVisible(some)
        self.none.setVisible(not some)
        self.begin.setText("Another one" if some else "Begin a reward model")
        self.also.setText(f"The recipe has {others} more, which stay as they are.")
        self.also.setVisible(others > 0)

    @property
    def chosen(self) -> str:
        """The model as a recipe names it; empty where there is none."""
        return self.box.currentData() or ""

    def choose(self, model: str) -> None:
        if self.box.findData(model) < 0:
            self.box.addItem(model, model)
        self.box.setCurrentIndex(self.box.findData(model))


class RewardsStep(Step):
    name = "Rewards"
    try_asked = Signal()

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self.editor = RewardEditor(theme)
        self.reward_model = RewardModelPicker(theme)
        self.attempt = button("Try these rewards", theme, "medal", name="try-rewards")
        self.attempt.setToolTip("See what right, wrong and tricky answers would earn")
        self.attempt.clicked.connect(self.try_asked)
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
        self.show_draft()
        self.editor.changed.connect(self._on_edited)
        self.reward_model.box.currentIndexChanged.connect(
            lambda: model.change(reward_model=self.reward_model.chosen)
        )

    def show_draft(self) -> None:
        """Rewards of any kind for checkable answers, a reward model for what people like."""
        draft, spec = self.draft, spec_of(self.draft.stage)
        by_model = spec.scored_by == "reward_model"
        self.editor.setVisible(not by_model)
        self.reward_model.setVisible(by_model)
        self._about.setText(spec.rewards_words)
        shown = tuple(self.editor.value), tuple(self.editor.faults)
        if shown != (draft.rewards, draft.reward_faults):
            self.editor.set_value(list(draft.rewards))
        others = len(draft.model_rewards) - 1
        self.reward_model.show_choice(draft.reward_models, draft.reward_model, others)

    def _on_edited(self) -> None:
        self.draft_model.change(
            rewards=tuple(self.editor.value), reward_faults=tuple(self.editor.faults)
        )
