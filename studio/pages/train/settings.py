"""The step of the settings: forms that follow from the recipe's declaration."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtWidgets import QLineEdit

from studio.draft import OPTIONS, TABLES, UNNAMED, DraftModel, defaults, shown_options
from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import Card
from studio.widgets.form import Field, OptionForm
from studio.widgets.text import label
from workers.protocol.options import Option

HEADINGS = {
    "rl": "Learning from its own answers",
    "preference": "Preferences",
    "distill": "Distillation",
}
"""Of the cards with settings that some stages alone look at, by their table."""


class SettingsStep(Step):
    name = "Settings"

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self.run_name = QLineEdit()
        self.run_name.setObjectName("run-name")
        self.run_name.setPlaceholderText(UNNAMED)
        self.run_name.setAccessibleName("Name of the run")
        self.form = OptionForm(_options(TABLES), theme)
        self.own = {table: OptionForm(_options([table]), theme) for table in HEADINGS}
        self.fields: dict[str, Field] = {
            path: field
            for form in (self.form, *self.own.values())
            for path, field in form.fields.items()
        }
        """Every setting by its key path, also those out of sight."""
        named = Card("Name")
        named.body.addWidget(self.run_name)
        named.body.addWidget(label("What the run is called in lists.", "muted"))
        card = Card("Training")
        card.body.addWidget(self.form)
        self.body.addWidget(named)
        self.body.addWidget(card)
        self._cards: dict[str, Card] = {}
        for table, form in self.own.items():
            self._cards[table] = Card(HEADINGS[table])
            self._cards[table].body.addWidget(form)
            self.body.addWidget(self._cards[table])
        self.body.addStretch(1)
        self.show_draft()
        self.run_name.textChanged.connect(lambda text: model.change(name=text))
        for field in self.fields.values():
            field.changed.connect(lambda field=field: self._on_edited(field))

    def show_draft(self) -> None:
        draft, usual = self.draft, defaults(self.draft)
        if self.run_name.text() != draft.name:
            self.run_name.setText(draft.name)
        for path, field in self.fields.items():
            field.set_default(usual[path])
            if path not in draft.option_faults:  # what was typed and cannot be used stays
                field.show_value(draft.options.get(path, usual[path]))
        if not self.isHidden():
            self._place()

    def enter(self) -> None:
        self._place()

    def _place(self) -> None:
        """Shows what applies; to lay out so many fields takes longer than a click may."""
        shown = shown_options(self.draft)
        for form in (self.form, *self.own.values()):
            form.leave_out(set(form.fields) - shown)
        for table, card in self._cards.items():
            card.setVisible(not shown.isdisjoint(self.own[table].fields))

    def _on_edited(self, field: Field) -> None:
        path = field.option.path
        if field.fault:
            self.draft_model.become(self.draft.with_option_fault(path, field.fault))
        else:
            self.draft_model.become(self.draft.with_option(path, field.value))


def _options(tables: Collection[str]) -> list[Option]:
    return [option for path, option in OPTIONS.items() if path.partition(".")[0] in tables]
