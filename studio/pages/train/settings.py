"""How long, how fast, how large: forms that follow from the recipe's declaration."""

from __future__ import annotations

from typing import Any

import msgspec
from PySide6.QtWidgets import QLineEdit

from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import Card
from studio.widgets.form import Field, OptionForm
from studio.widgets.text import label
from workers.protocol.options import Option, options_of
from workers.protocol.recipe import Recipe, sections
from workers.protocol.refusal import Refusal

TABLES = ("training", "lora", "evaluation")
OWN = {
    "rl": ({"grpo", "rlhf", "distill"}, "Learning from its own answers"),
    "preference": ({"dpo", "ipo", "simpo", "orpo", "kto", "reward"}, "Preferences"),
    "distill": ({"distill"}, "Distillation"),
}
"""Tables that some stages alone look at: the stages, and the heading of their card."""
ONLY = {
    "training.packing": {"sft", "cpt"},
    "training.assistant_only_loss": {"sft"},
    "preference.beta": {"dpo", "ipo", "simpo", "orpo", "kto"},
    "preference.loss": {"dpo"},
    "preference.label_smoothing": {"dpo", "ipo"},
    "preference.rpo_alpha": {"dpo", "ipo"},
    "preference.simpo_gamma": {"simpo"},
    "preference.center_rewards_coefficient": {"reward"},
}
"""Options that some stages alone look at."""
OF_PPO = {"rl.value_coefficient", "rl.gae_lambda"}
OF_GROUPS = {
    "rl.group_size", "rl.clip_epsilon_high", "rl.scale_rewards", "rl.mask_truncated_completions",
    "rl.top_p", "rl.fast_generation",
}  # fmt: skip
"""Options that PPO looks at, and those that only algorithms which compare groups look at."""
OF_DISTILL = {"rl.max_completion_tokens"}
"""All that distillation looks at in that table."""
ELSEWHERE = {"evaluation.test"}
"""Asked for in another step."""


class SettingsStep(Step):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._stage = ""
        self.name = QLineEdit()
        self.name.setObjectName("run-name")
        self.name.setPlaceholderText("my-first-run")
        self.name.setAccessibleName("Name of the run")
        self.form = OptionForm(_options(TABLES), theme)
        self.own = {
            table: OptionForm(_options([table]), theme) for table in OWN if table in sections()
        }
        for form in (self.form, *self.own.values()):
            form.changed.connect(self.changed)
        named = Card("Name")
        named.body.addWidget(self.name)
        named.body.addWidget(label("What the run is called in lists.", "muted"))
        card = Card("Training")
        card.body.addWidget(self.form)
        self.body.addWidget(named)
        self.body.addWidget(card)
        self._cards: dict[str, Card] = {}
        for table, form in self.own.items():
            self._cards[table] = Card(OWN[table][1])
            self._cards[table].body.addWidget(form)
            self._cards[table].hide()
            self.body.addWidget(self._cards[table])
        self.body.addStretch(1)

    @property
    def fields(self) -> dict[str, Field]:
        """Every option's field by its key path, also those out of sight."""
        forms = (self.form, *self.own.values())
        return {path: field for form in forms for path, field in form.fields.items()}

    def adapt(self, recipe: Recipe, root: str) -> None:
        """Suggests what suits the stage and the model, and hides what does not apply."""
        self._stage = recipe.stage
        suits = suggested(recipe, root)
        for path, field in self.fields.items():
            field.suggest(suits.get(path, field.option.default))
        hidden = {path for path, stages in ONLY.items() if recipe.stage not in stages}
        hidden |= self._hidden_rl()
        if recipe.model.method == "full":
            hidden |= {path for path in self.form.fields if path.startswith("lora.")}
        for form in (self.form, *self.own.values()):
            form.leave_out(hidden & set(form.fields))
        for table, card in self._cards.items():
            card.setVisible(recipe.stage in OWN[table][0])

    def _hidden_rl(self) -> set[str]:
        fields = self.own["rl"].fields
        if self._stage == "distill":
            return set(fields) - OF_DISTILL
        return OF_GROUPS if fields["rl.algorithm"].value == "ppo" else OF_PPO

    def fill(self, recipe: Recipe) -> Recipe:
        tables: dict[str, dict[str, Any]] = {table: {} for table in (*TABLES, *self.own)}
        for path, field in self.fields.items():
            table, _, key = path.partition(".")
            if not field.fault:
                tables[table][key] = field.value
        filled = {
            table: msgspec.structs.replace(getattr(recipe, table), **values)
            for table, values in tables.items()
        }
        return msgspec.structs.replace(recipe, name=self._name(), **filled)

    def _name(self) -> str:
        return self.name.text().strip() or self.name.placeholderText()

    def show_recipe(self, recipe: Recipe) -> None:
        self.name.setText(recipe.name)
        fields = self.fields
        for table in (*TABLES, *self.own):
            for key, value in msgspec.structs.asdict(getattr(recipe, table)).items():
                if (field := fields.get(f"{table}.{key}")) is not None:
                    field.set_value(value)

    def fault(self) -> Refusal | None:
        for field in self.fields.values():
            if field.fault:
                return Refusal(f"{field.option.label}: {field.fault}",
                               "That value cannot be used.",
                               "Mend the field that is marked, or reset it.")  # fmt: skip
        if self._stage == "distill" and not self.fields["distill.teacher"].value:
            return Refusal("No teacher is named.", "There is nobody to learn from.",
                           "Name a larger model with the same tokens: run:ID, a folder or a hub "
                           "id.")  # fmt: skip
        return None


PAIRED = ("dpo", "ipo", "simpo", "kto")
USUAL: dict[str, dict[str, Any]] = {
    "ipo": {"preference.beta": 1.0},
    "simpo": {"preference.beta": 2.0},
    "rlhf": {"rl.num_iterations": 4},
}
"""What suits a stage on any model; of answers' means, IPO's target is 1 / (2 beta) nats a token."""
TINY: dict[str, dict[str, Any]] = {
    "sft": {"training.learning_rate": 4e-3, "training.batch_size": 16},
    "cpt": {"training.learning_rate": 1e-3, "training.batch_size": 16},
    "dpo": {"preference.rpo_alpha": 1.0},
    "ipo": {"preference.rpo_alpha": 1.0},
    "orpo": {"training.learning_rate": 2e-3, "training.batch_size": 16},
    "kto": {"training.batch_size": 32},
    "reward": {"training.learning_rate": 5e-4, "training.batch_size": 16, "training.max_steps": 80},
    "distill": {"training.learning_rate": 1e-3, "training.batch_size": 16},
    "rlhf": {"training.learning_rate": 1e-3, "training.batch_size": 32, "training.max_steps": 24},
    "grpo": {"training.batch_size": 64},
}
"""What teaches the starter model within two minutes, measured; an adapter on so small a model
learns little at the usual rates."""


def suggested(recipe: Recipe, root: str) -> dict[str, Any]:
    """What suits a stage and a model better than the declared defaults, by key path."""
    stage, tiny, whole = recipe.stage, root == "starter", recipe.model.method == "full"
    values: dict[str, Any] = dict(USUAL.get(stage, {}))
    if stage in PAIRED:
        values["training.learning_rate"] = 1e-6 if whole else 1e-5  # TRL's, times ten with LoRA
    if stage in ("grpo", "rlhf"):
        values["training.learning_rate"] = 2e-4 if tiny and whole else 1e-5
    if stage == "rlhf":
        # The value model beside the policy cannot be trained over 4-bit weights.
        values["rl.algorithm"] = "rloo" if recipe.model.method == "qlora" else "ppo"
    if tiny:
        if stage in PAIRED:
            values |= {"training.learning_rate": 1e-3, "training.batch_size": 16}
        values |= TINY.get(stage, {})
        if whole and stage in (*PAIRED, "rlhf"):
            values["training.learning_rate"] = 3e-4
        elif whole and stage in ("sft", "cpt", "orpo", "distill"):
            values["training.learning_rate"] = 5e-4
    if tiny and stage in ("grpo", "rlhf", "distill"):
        values |= {"rl.max_completion_tokens": 56, "evaluation.max_completion_tokens": 56}
    return values


def with_suggestions(recipe: Recipe, root: str) -> Recipe:
    """The recipe with what suits its stage and model put in."""
    for path, value in suggested(recipe, root).items():
        table, _, key = path.partition(".")
        changed = msgspec.structs.replace(getattr(recipe, table), **{key: value})
        recipe = msgspec.structs.replace(recipe, **{table: changed})
    return recipe


def _options(tables: Any) -> list[Option]:
    known = sections()
    return [
        option
        for table in tables
        for option in options_of(known[table], f"{table}.")
        if option.path not in ELSEWHERE
    ]
