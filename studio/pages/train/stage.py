"""Step two: what kind of training, or a ready recipe that says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
from PySide6.QtCore import Qt, Signal

from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import ChoiceCard, Choices
from studio.widgets.text import button, label
from workers.protocol.assets import assets_folder
from workers.protocol.pipeline import Pipeline, read_pipeline
from workers.protocol.recipe import Recipe, Stage
from workers.protocol.refusal import Refusal

WORDS = {
    "sft": (
        "Supervised fine-tuning",
        "You have examples of questions with good answers. The model learns to answer like them. "
        "This is where most projects begin.",
        "graduation-cap",
    ),
    "grpo": (
        "Reinforcement learning with checkable answers",
        "You have prompts whose answers can be checked. The model tries, is scored, and does more "
        "of what worked. Best after supervised fine-tuning.",
        "medal",
    ),
    "dpo": (
        "Preferences (DPO)",
        "You have pairs of answers of which one is better. The model learns to prefer the better "
        "kind. Best after supervised fine-tuning.",
        "thumbs-up",
    ),
    "kto": (
        "Thumbs up and down (KTO)",
        "You have single answers that people liked or did not. The model gives more of the one "
        "and less of the other.",
        "thumbs-down",
    ),
    "ipo": (
        "Preferences, cautious (IPO)",
        "As DPO, but it stops pulling once the better answer leads by enough. Good for few or "
        "contradictory pairs.",
        "scales",
    ),
    "simpo": (
        "Preferences, light (SimPO)",
        "As DPO, without a second copy of the model to compare with: less memory, and long answers "
        "are not favoured.",
        "leaf",
    ),
    "orpo": (
        "Examples and preferences at once (ORPO)",
        "Pairs teach both the good answer and to avoid the worse one, in one run from a base "
        "model.",
        "intersect",
    ),
    "cpt": (
        "Continued pretraining",
        "You have plain text, such as manuals or a language that the model knows little of. It "
        "learns to go on from it, not yet to answer.",
        "book",
    ),
    "reward": (
        "Reward model",
        "You have pairs of answers of which one is better. The result does not talk: it scores "
        "answers, to serve as a reward later.",
        "star",
    ),
    "rlhf": (
        "Reinforcement learning from human feedback (RLHF)",
        "You have a reward model and questions without answers. The model tries, the reward model "
        "scores, and it does more of what is liked: PPO, RLOO or GRPO.",
        "users-three",
    ),
    "distill": (
        "Distillation",
        "A larger model with the same tokens teaches a smaller one, word by word, also on the "
        "smaller one's own answers.",
        "student",
    ),
}
"""Stage to title, plain words and icon; only the stages that a recipe accepts are offered."""

USUAL = ("sft", "grpo", "dpo", "kto")
"""The stages that are offered at first sight."""


class StageStep(Step):
    ready_chosen = Signal(str)
    """The path of a ready recipe."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.choices = Choices(theme)
        self._rare: dict[str, ChoiceCard] = {}
        self._add_stages()
        self.more = button("More ways to train", theme, "caret-down", name="more-stages")
        self.more.clicked.connect(self._on_more)
        self.choices.changed.connect(self._on_stage_chosen)
        self.choices.choose(["sft"])
        self.ready = Choices(theme)
        self.ready.activated.connect(lambda key: self.ready_chosen.emit(str(self._paths[key])))
        self._paths: dict[str, Path] = {}
        self._heading = label("Or begin with a ready recipe", "heading")
        self._heading.hide()
        self.body.addWidget(label("What do you have to teach with?", "heading"))
        self.body.addWidget(self.choices)
        self.body.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.body.addWidget(self._heading)
        self.body.addWidget(self.ready)
        self.body.addStretch(1)

    def _add_stages(self) -> None:
        known = get_args(Stage)
        for stage in [*(s for s in WORDS if s in known), *(s for s in known if s not in WORDS)]:
            card = self.choices.add(stage, *WORDS.get(stage, (stage.upper(), "", "circle")))
            if stage not in USUAL:
                card.hide()
                self._rare[stage] = card

    def _on_more(self) -> None:
        self.more.hide()
        for card in self._rare.values():
            card.show()

    def _on_stage_chosen(self) -> None:
        """A recipe may bring a stage whose card is folded away."""
        if set(self.choices.chosen) & set(self._rare):
            self._on_more()

    def showEvent(self, event: Any) -> None:
        if not self._paths:
            self._offer_ready()
        super().showEvent(event)

    def _offer_ready(self) -> None:
        for path, pipeline in ready_recipes():
            key = f"recipe:{path.stem}"
            self._paths[key] = path
            words = (pipeline.name, pipeline.summary, "book-open", needs(pipeline))
            self.ready.add(key, *words)
        self._heading.setVisible(bool(self._paths))

    def mark_ready(self, path: Path | None) -> None:
        """Shows which ready recipe the steps were filled from."""
        self.ready.choose([key for key, ready in self._paths.items() if ready == path])

    def fill(self, recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, stage=self.choices.chosen[0])

    def show_recipe(self, recipe: Recipe) -> None:
        self.choices.choose([recipe.stage])


def ready_recipes() -> list[tuple[Path, Pipeline]]:
    """What comes with the program, the least hungry first."""
    found: list[tuple[Path, Pipeline]] = []
    for path in sorted((assets_folder() / "recipes").glob("*.toml")):
        try:
            found.append((path, read_pipeline(path)))
        except Refusal:
            continue  # of another version; opening it as a file says what is wrong
    return sorted(found, key=lambda ready: ready[1].gpu_memory_gb)


def needs(pipeline: Pipeline) -> str:
    """What a pipeline asks of the machine, in words."""
    if not pipeline.gpu_memory_gb:
        return "Runs on any laptop"
    return f"Needs a GPU with about {pipeline.gpu_memory_gb:g} GB of memory"
