"""The reward editor: what earns points, each part with its weight and its options."""

from __future__ import annotations

import inspect
import re
from typing import Any, cast

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QPlainTextEdit, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme, fixed_font
from studio.widgets.card import Card
from studio.widgets.code import CodeEditor, fault_of_code
from studio.widgets.form import Check, OptionForm
from studio.widgets.text import button, label
from workers.protocol.options import options_of
from workers.protocol.rewards import KINDS, AnyReward, Reward, kind_of

TITLES = {"json_schema": "JSON schema", "python": "Your own Python"}
"""Where the kind's own words do not read well."""
TEMPLATE = '''\
def reward(prompt, completion, answer):
    """How good a completion is. All three are text; answer is the row's own."""
    return 1.0 if answer and answer in completion else 0.0
'''


def title_of(kind: str) -> str:
    return TITLES.get(kind, kind.replace("_", " ").capitalize())


def summary_of(kind: str) -> str:
    """The first line of what the kind's declaration says."""
    return (inspect.getdoc(KINDS[kind]) or "").partition("\n")[0].replace("`", "")


class RewardCard(Card):
    """One reward: what it is, its options, and buttons to move it and take it out."""

    changed = Signal()

    def __init__(self, kind: str, number: int, theme: Theme) -> None:
        super().__init__()
        self.kind = kind
        self.number = number
        self.setObjectName(f"reward:{number}")
        self.up = self._button("Move up", "arrow-up", theme)
        self.down = self._button("Move down", "arrow-down", theme)
        self.remove = button("Remove", theme, "x", kind="quiet", name=f"remove-reward:{number}")
        self.form = OptionForm(
            options_of(KINDS[kind], f"rewards.{number}."), theme, _editors(kind, theme), CHECKS
        )
        if kind == "python":
            self.form.set_values({f"rewards.{number}.code": TEMPLATE})
        self.form.changed.connect(self.changed)
        head = QHBoxLayout()
        head.setSpacing(SPACE // 2)
        head.addWidget(label(title_of(kind), "heading"), 1)
        for made in (self.up, self.down, self.remove):
            head.addWidget(made)
        self.body.addLayout(head)
        self.body.addWidget(label(summary_of(kind), "muted", wrap=True))
        self.body.addWidget(self.form)

    def _button(self, name: str, icon: str, theme: Theme) -> Any:
        made = button("", theme, icon, kind="quiet", name=f"{icon}:{self.number}")
        made.setAccessibleName(name)
        made.setToolTip(name)
        return made

    @property
    def value(self) -> AnyReward:
        """As a recipe has it; a field at fault has its default."""
        values = {
            field.option.key: field.value
            for field in self.form.fields.values()
            if not field.fault or field.needed
        }
        return cast(AnyReward, KINDS[self.kind](**values))

    def show_value(self, reward: Reward) -> None:
        values = msgspec.structs.asdict(reward)
        self.form.set_values({f"rewards.{self.number}.{k}": v for k, v in values.items()})

    @property
    def faults(self) -> list[str]:
        return [
            f"{title_of(self.kind)}, {field.option.label}: {field.fault}"
            for field in self.form.fields.values()
            if field.fault
        ]


class RewardEditor(QWidget):
    """A list of rewards. `value` is what a recipe takes; `faults` says what cannot be used."""

    changed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._numbers = 0
        self.cards: list[RewardCard] = []
        self._list = QVBoxLayout()
        self._list.setSpacing(SPACE + SPACE // 2)
        self._empty = label(
            "No reward yet. Math answer pays for being right and suits sums; Format pays for the "
            "form of an answer.", "muted", wrap=True,
        )  # fmt: skip
        self.menu = self._make_menu()
        self.adder = button("Add a reward", theme, "plus", name="add-reward")
        self.adder.setMenu(self.menu)
        row = QHBoxLayout()
        row.addWidget(self.adder)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._empty)
        column.addLayout(self._list)
        column.addLayout(row)

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setObjectName("reward-kinds")
        for kind in KINDS:
            action = menu.addAction(f"{title_of(kind)}\t{summary_of(kind).rstrip('.')}")
            action.setObjectName(f"add:{kind}")
            action.triggered.connect(lambda _=False, kind=kind: self.add(kind))
        return menu

    @property
    def value(self) -> list[AnyReward]:
        return [card.value for card in self.cards]

    @property
    def faults(self) -> list[str]:
        return [fault for card in self.cards for fault in card.faults]

    def set_value(self, rewards: list[AnyReward]) -> None:
        for card in list(self.cards):
            self._drop(card)
        self._numbers = 0
        for reward in rewards:
            self._append(kind_of(reward)).show_value(reward)
        self._on_changed()

    def add(self, kind: str) -> None:
        """Adds a reward of that kind with its defaults."""
        self._append(kind)
        self._on_changed()

    def _append(self, kind: str) -> RewardCard:
        card = RewardCard(kind, self._numbers, self._theme)
        self._numbers += 1
        card.changed.connect(self.changed)
        card.remove.clicked.connect(lambda: self._on_remove(card))
        card.up.clicked.connect(lambda: self._move(card, -1))
        card.down.clicked.connect(lambda: self._move(card, 1))
        self.cards.append(card)
        self._list.addWidget(card)
        return card

    def _drop(self, card: RewardCard) -> None:
        self.cards.remove(card)
        self._list.removeWidget(card)
        card.hide()
        card.deleteLater()

    def _on_remove(self, card: RewardCard) -> None:
        self._drop(card)
        self._on_changed()

    def _move(self, card: RewardCard, by: int) -> None:
        at = self.cards.index(card)
        self.cards.insert(at + by, self.cards.pop(at))
        self._list.removeWidget(card)
        self._list.insertWidget(at + by, card)
        self._on_changed()

    def _on_changed(self) -> None:
        self._empty.setVisible(not self.cards)
        for at, card in enumerate(self.cards):
            card.up.setVisible(len(self.cards) > 1)
            card.down.setVisible(len(self.cards) > 1)
            card.up.setEnabled(at > 0)
            card.down.setEnabled(at < len(self.cards) - 1)
        self.changed.emit()


def _editors(kind: str, theme: Theme) -> dict[str, QPlainTextEdit]:
    """Room for options that are longer than a line."""
    if kind == "python":
        return {"code": CodeEditor(theme)}
    return {key: _long_text(key == "schema") for key in LONG.get(kind, ())}


LONG = {"json_schema": ("schema",), "judge": ("rubric",)}


def _long_text(fixed: bool) -> QPlainTextEdit:
    editor = QPlainTextEdit()
    if fixed:
        editor.setFont(fixed_font())
    editor.setTabChangesFocus(True)
    editor.setFixedHeight(4 * editor.fontMetrics().lineSpacing() + 3 * SPACE)
    return editor


def _fault_of_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as fault:
        return f"Not a regular expression: {fault}."
    return ""


def _fault_of_schema(schema: str) -> str:
    if not schema.strip():
        return ""
    try:
        msgspec.json.decode(schema, type=dict[str, Any])
    except msgspec.DecodeError as fault:
        return f"Not a JSON object: {fault}."
    return ""


CHECKS: dict[str, Check] = {
    "pattern": _fault_of_pattern,
    "schema": _fault_of_schema,
    "code": fault_of_code,
}
"""What can be said of a value before anything is run, by the option's key."""
