"""The step of the settings: forms that follow from the recipe's declaration."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from studio.draft import OPTIONS, TABLES, UNNAMED, DraftModel, defaults, recipe, shown_options
from studio.pages.train.memory import MemoryCard
from studio.pages.train.step import Step
from studio.planning import RootOf
from studio.recipe_words import seen
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.form import Field, OptionForm
from studio.widgets.text import label
from workers.protocol.options import Option

HEADINGS = {
    "model": "Model",
    "rl": "Learning from its own answers",
    "preference": "Preferences",
    "distill": "Distillation",
}
"""Of the cards with settings that some stages or models alone look at, by their table."""


class SettingsStep(Step):
    """The forms, once they are looked at: half of the wizard's controls are here."""

    name = "Settings"

    def __init__(self, model: DraftModel, root_of: RootOf, theme: Theme) -> None:
        super().__init__(model)
        self._theme = theme
        self._made: SettingsForms | None = None
        self.memory = MemoryCard(model, root_of, theme)
        self.body.addWidget(self.memory)

    @property
    def forms(self) -> SettingsForms:
        """Made when they are first asked for."""
        if self._made is None:
            self._made = SettingsForms(self.draft_model, self._theme)
            self.body.addWidget(self._made)
            self._made.show()  # at once, where the step is already to be seen
        return self._made

    def show_draft(self) -> None:
        if self._made is not None:
            self._made.show_draft()

    def enter(self) -> None:
        self.forms.place()
        self.memory.refresh()


class SettingsForms(QWidget):
    """The run's name, and every setting by its key path, also those out of sight."""

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__()
        self._model = model
        self.run_name = QLineEdit()
        self.run_name.setObjectName("run-name")
        self.run_name.setPlaceholderText(UNNAMED)
        self.run_name.setAccessibleName("Name of the run")
        self.length = label("", "muted", wrap=True, select=True)
        self.form = OptionForm(_options(TABLES), theme)
        self.own = {table: OptionForm(_options([table]), theme) for table in HEADINGS}
        self.fields: dict[str, Field] = {
            path: field
            for form in (self.form, *self.own.values())
            for path, field in form.fields.items()
        }
        self._lay_out()
        self.show_draft()
        self.run_name.textChanged.connect(lambda text: model.change(name=text))
        for field in self.fields.values():
            field.changed.connect(lambda field=field: self._on_edited(field))

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        named, card = Card("Name"), Card("Training")
        named.body.addWidget(self.run_name)
        named.body.addWidget(label("What the run is called in lists.", "muted"))
        card.body.addWidget(self.length)
        card.body.addWidget(self.form)
        column.addWidget(named)
        column.addWidget(card)
        self._cards = {table: Card(heading) for table, heading in HEADINGS.items()}
        for table, own in self._cards.items():
            own.body.addWidget(self.own[table])
            column.addWidget(own)
        column.addStretch(1)

    def show_draft(self) -> None:
        draft = self._model.draft
        usual = defaults(draft)
        if self.run_name.text() != draft.name:
            self.run_name.setText(draft.name)
        for path, field in self.fields.items():
            field.set_default(usual[path])
            if path not in draft.option_faults:  # what was typed and cannot be used stays
                field.show_value(draft.options.get(path, usual[path]))
        self.length.setText(seen(recipe(draft), draft.rows))
        self.length.setVisible(bool(self.length.text()))
        if self.isVisible():
            self.place()

    def place(self) -> None:
        """Shows what applies; to lay out so many fields takes longer than a click may."""
        shown = shown_options(self._model.draft)
        for form in (self.form, *self.own.values()):
            form.leave_out(set(form.fields) - shown)
        for table, card in self._cards.items():
            card.setVisible(not shown.isdisjoint(self.own[table].fields))

    def _on_edited(self, field: Field) -> None:
        path, draft = field.option.path, self._model.draft
        if field.fault:
            self._model.become(draft.with_option_fault(path, field.fault))
        else:
            self._model.become(draft.with_option(path, field.value))


def _options(tables: Collection[str]) -> list[Option]:
    return [option for path, option in OPTIONS.items() if path.partition(".")[0] in tables]
