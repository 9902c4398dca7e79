"""Step four: how long, how fast, how large; a form that follows from the recipe's declaration."""

from __future__ import annotations

from typing import Any

import msgspec
from PySide6.QtWidgets import QLineEdit

from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import Card
from studio.widgets.form import OptionForm
from studio.widgets.text import label
from workers.protocol.options import Option, options_of
from workers.protocol.recipe import Evaluation, Lora, Recipe, Section, Training
from workers.protocol.refusal import Refusal

TABLES: dict[str, type[Section]] = {"training": Training, "lora": Lora, "evaluation": Evaluation}


class SettingsStep(Step):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.name = QLineEdit()
        self.name.setObjectName("run-name")
        self.name.setPlaceholderText("my-first-run")
        self.name.setAccessibleName("Name of the run")
        self.form = OptionForm(_options(), theme)
        named = Card("Name")
        named.body.addWidget(self.name)
        named.body.addWidget(label("What the run is called in lists.", "muted"))
        card = Card("Training")
        card.body.addWidget(self.form)
        self.body.addWidget(named)
        self.body.addWidget(card)
        self.body.addStretch(1)

    def fill(self, recipe: Recipe) -> Recipe:
        parts: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        for path, field in self.form.fields.items():
            table, _, key = path.partition(".")
            if not field.fault:
                parts[table][key] = field.value
        tables = {table: TABLES[table](**values) for table, values in parts.items()}
        return msgspec.structs.replace(recipe, name=self._name(), **tables)

    def _name(self) -> str:
        return self.name.text().strip() or self.name.placeholderText()

    def show_recipe(self, recipe: Recipe) -> None:
        self.name.setText(recipe.name)
        for table in TABLES:
            values = msgspec.structs.asdict(getattr(recipe, table))
            self.form.set_values({f"{table}.{key}": value for key, value in values.items()})

    def fault(self) -> Refusal | None:
        for path, fault in self.form.faults.items():
            named = self.form.fields[path].option.label
            return Refusal(f"{named}: {fault}", "That value cannot be used.",
                           "Mend the field that is marked, or reset it.")  # fmt: skip
        return None


def _options() -> list[Option]:
    return [option for table, kind in TABLES.items() for option in options_of(kind, f"{table}.")]
