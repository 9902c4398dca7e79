"""The last step: what will happen, in sentences, and the recipe that says so to the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit

from studio.pages.train.step import Step
from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.coverage import coverage
from workers.protocol.pipeline import Pipeline, format_pipeline
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import RewardModel, names_of

METHODS = {
    "lora": "a LoRA adapter of rank {rank} is trained beside its frozen weights",
    "qlora": "its weights are held in 4 bits and a LoRA adapter of rank {rank} is trained",
    "dora": "a DoRA adapter of rank {rank} is trained beside its frozen weights",
    "full": "all of its weights are trained",
}

_PAIRS = "Of each pair, the better answer is made likelier than the worse"
LEARNT = {
    "cpt": "Every token is learnt",
    "dpo": _PAIRS,
    "ipo": _PAIRS,
    "simpo": _PAIRS,
    "orpo": f"The good answers are learnt. {_PAIRS}",
    "kto": "Answers that were liked are made likelier, the others less likely",
    "reward": "Of each pair, the better answer is to get the higher score",
    "distill": "Every word of the answers is to be as likely as the teacher thinks it",
}
"""What a stage does with its examples."""
TOO_LONG = {"cpt": "are split, without loss", "reward": "are left out"}
"""What becomes of examples that are too long, where they are not cut."""
WITH_REFERENCE = ("dpo", "ipo", "kto", "grpo", "rlhf")
"""Stages that hold the model to where it started."""


class ReviewStep(Step):
    save_asked = Signal()
    followers_dropped = Signal()
    sft_asked = Signal()
    """The base is to be fine-tuned to answer first."""

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
        self.early = self._make_early(theme)
        self.afterwards = self._make_afterwards(theme)
        file = Card("The recipe")
        file.body.addWidget(label("The same, as a file: run it anywhere with python -m studio "
                                  "train FILE.", "muted", wrap=True))  # fmt: skip
        file.body.addWidget(self.toml)
        file.body.addLayout(self._buttons(theme))
        self.body.addWidget(self.early)
        self.body.addWidget(plain)
        self.body.addWidget(self.afterwards)
        self.body.addWidget(file, 1)

    def _make_early(self, theme: Theme) -> Card:
        card = Card("This may come too early")
        self.warning = label("", "", wrap=True, select=True)
        first = button("Begin with SFT", theme, "graduation-cap", name="begin-with-sft")
        first.clicked.connect(self.sft_asked)
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.warning, 1)
        row.addWidget(first, 0, Qt.AlignmentFlag.AlignTop)
        card.body.addLayout(row)
        card.hide()
        return card

    def warn(self, text: str) -> None:
        """Says what may go wrong with the base; an empty text says nothing."""
        self.warning.setText(text)
        self.early.setVisible(bool(text))

    def _make_afterwards(self, theme: Theme) -> Card:
        card = Card("Afterwards")
        self.then = label("", "", wrap=True, select=True)
        drop = button("Only the first stage", theme, "x", name="drop-stages")
        drop.clicked.connect(self.followers_dropped)
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.then, 1)
        row.addWidget(drop, 0, Qt.AlignmentFlag.AlignTop)
        card.body.addLayout(row)
        return card

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

    def show_recipe(self, recipe: Recipe) -> None:
        self.show_pipeline(Pipeline(name=recipe.name, stages=[recipe]))

    def show_pipeline(self, pipeline: Pipeline, counts: Mapping[str, int] | None = None) -> None:
        """The first stage in words, the others by name, all of it as a file.

        Args:
            counts: rows of each source, as far as they are known.
        """
        recipe, *then = pipeline.stages
        told = (in_words(recipe), seen(recipe, counts or {}))
        self._words.setText("\n\n".join(filter(None, told)))
        self.then.setText("\n".join(f"Then: {r.name} ({r.stage.upper()})" for r in then))
        self.afterwards.setVisible(bool(then))
        self.toml.setPlainText(format_pipeline(pipeline))

    def fill(self, recipe: Recipe) -> Recipe:
        return recipe


def in_words(recipe: Recipe) -> str:
    """A recipe as a few sentences."""
    how = METHODS[recipe.model.method].format(rank=recipe.lora.rank)
    base = f"{recipe.model.base} is the base, and {how}."
    if recipe.stage == "rlhf" and recipe.rl.algorithm == "ppo":
        what = _pursues(recipe)
    else:
        what = _tries(recipe) if recipe.stage in ("grpo", "rlhf") else _reads(recipe)
    return " ".join(filter(None, (base, what, _held_in_memory(recipe), _measured(recipe))))


def seen(recipe: Recipe, counts: Mapping[str, int]) -> str:
    """What share of its rows the run will see; nothing while a source is not counted."""
    if not recipe.data or any(source.source not in counts for source in recipe.data):
        return ""
    rows = sum(min(counts[one.source], one.limit or counts[one.source]) for one in recipe.data)
    held_out = 0.0 if recipe.evaluation.test else recipe.evaluation.holdout
    return coverage(recipe, round(rows * (1 - held_out))).words("rows to learn from")


def _held_in_memory(recipe: Recipe) -> str:
    """How many models stand in memory, where it is not one."""
    full = recipe.model.method == "full"
    if recipe.stage == "distill":
        return f"Two models are in memory: this one, and {recipe.distill.teacher or 'a teacher'}."
    if recipe.stage == "rlhf" and recipe.rl.algorithm == "ppo":
        number, reference = ("Four", ", reference") if full else ("Three", "")
        off = "" if full else ": the reference is the policy with its adapter off"
        return f"{number} models are in memory, policy{reference}, value and reward model{off}."
    tries = recipe.stage in ("grpo", "rlhf")
    if recipe.stage not in WITH_REFERENCE or (tries and not recipe.rl.kl_coefficient):
        return ""
    if full:
        return "The reference, where it started, is a second copy in memory."
    return "The reference is the base with the adapter off: no second copy is in memory."


def _names(recipe: Recipe) -> str:
    return (
        ", ".join(s.source.removeprefix("builtin:").rpartition("/")[2] for s in recipe.data)
        or "no data yet"
    )


def _each(recipe: Recipe) -> int:
    return recipe.training.batch_size * recipe.training.gradient_accumulation


def _reads(recipe: Recipe) -> str:
    options = recipe.training
    length = (
        f"{options.max_steps} steps of {_each(recipe)} examples"
        if options.max_steps
        else f"{options.epochs:g} passes over the data, {_each(recipe)} examples a step"
    )
    alone = (
        "The answers alone are learnt" if options.assistant_only_loss else "Every token is learnt"
    )
    what = LEARNT.get(recipe.stage, alone)
    long = TOO_LONG.get(recipe.stage, "are cut")
    return (
        f"It learns from {_names(recipe)} for {length}, with a learning rate of "
        f"{options.learning_rate:g} and seed {options.seed}. {what}; examples longer than "
        f"{options.max_length} tokens {long}."
    )


def _tries(recipe: Recipe) -> str:
    options, rl = recipe.training, recipe.rl
    prompts = max(1, _each(recipe) // rl.group_size)
    length = f"{options.max_steps} steps" if options.max_steps else f"{options.epochs:g} passes"
    return (
        f"For {length}, it is asked {_count(prompts, 'question')} from {_names(recipe)} at a time "
        f"and tries {rl.group_size} answers to each, of at most {rl.max_completion_tokens} tokens. "
        f"An answer is scored by {_scored(recipe)}; what scored above the average of its group "
        f"becomes likelier. {_held(rl.kl_coefficient)} The learning rate is "
        f"{options.learning_rate:g}, the seed {options.seed}."
    )


def _pursues(recipe: Recipe) -> str:
    options, rl = recipe.training, recipe.rl
    length = f"{options.max_steps} steps" if options.max_steps else f"{options.epochs:g} passes"
    return (
        f"For {length}, it answers {_count(_each(recipe), 'question')} from {_names(recipe)} at a "
        f"time, with at most {rl.max_completion_tokens} tokens. Answers are scored by "
        f"{_judges(recipe)}; a value model foresees the score, and what does better than foreseen "
        f"becomes likelier (PPO). {_held(rl.kl_coefficient)} The learning rate is "
        f"{options.learning_rate:g}, the seed {options.seed}."
    )


def _judges(recipe: Recipe) -> str:
    models = [one.model for one in recipe.rewards if isinstance(one, RewardModel)]
    return _joined([f"the reward model {model}" for model in models]) or "no reward model yet"


def _scored(recipe: Recipe) -> str:
    parts = [
        f"{name} (weight {reward.weight:g})"
        for name, reward in zip(names_of(recipe.rewards), recipe.rewards, strict=True)
    ]
    return _joined(parts) or "no reward yet"


def _held(coefficient: float) -> str:
    if not coefficient:
        return "Nothing holds it to where it started (KL 0)."
    return f"It is held to where it started with a KL coefficient of {coefficient:g}."


def _measured(recipe: Recipe) -> str:
    held = recipe.evaluation
    if held.test:
        name = held.test.removeprefix("builtin:").replace("\\", "/").rpartition("/")[2]
        return f"It is measured on the test set {name} before and after."
    if held.holdout:
        return (
            f"{held.holdout:.0%} of the rows are kept apart, and the model is measured on them "
            "before and after."
        )
    return "No rows are kept apart, so there is no measure of what was learnt."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)
