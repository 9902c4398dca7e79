"""Told in the wizard: how much GPU memory the draft takes, whether it fits, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.draft import OPTIONS, DraftModel, kind_of_base, recipe
from studio.planning import PARTS, RootOf, gigabytes, more, plan_recipe, summary
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.memory import Band, Mark, MemoryBar, Segment
from studio.widgets.text import button, label
from workers.estimate import GIB, Plan, Suggestion
from workers.protocol.catalogue import CARDS_GB
from workers.protocol.refusal import Refusal
from workers.protocol.stages import TINY

INKS: dict[str, tuple[str, float]] = {
    "weights": ("accent", 1.0),
    "adapter": ("thought", 1.0),
    "gradients": ("thought", 0.7),
    "optimizer": ("thought", 0.4),
    "activations": ("good", 1.0),
    "logits": ("good", 0.65),
    "generation_cache": ("good", 0.4),
    "reference": ("warning", 1.0),
    "reward_model": ("warning", 0.8),
    "value_model": ("warning", 0.6),
    "teacher": ("warning", 0.4),
    "context": ("muted", 1.0),
    "fragmentation": ("muted", 0.5),
}
"""Of each part the palette's colour, and how strong it is."""
MOST = 3
"""Changes that are offered."""


class MemoryCard(Card):
    """Follows the draft while it is to be seen; hidden for models that fit anywhere, and for those
    whose sizes are not known."""

    def __init__(self, model: DraftModel, root_of: RootOf, theme: Theme) -> None:
        super().__init__("GPU memory")
        self._model, self._root_of, self._theme = model, root_of, theme
        self._card: int | None = None
        self._card_name = ""
        self._stale = True
        self.plan: Plan | None = None
        self.words = label("", "", wrap=True, select=True)
        self.bar = MemoryBar(theme)
        self.more = label("", "muted", wrap=True, select=True)
        self._changes = QWidget()
        self._rows = QVBoxLayout(self._changes)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(SPACE)
        for part in (self.words, self.bar, self._changes, self.more):
            self.body.addWidget(part)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)  # several changes of the draft at once are one
        self._later.timeout.connect(self.refresh)
        model.follow(self._on_changed)

    def use_card(self, memory: int | None, name: str = "") -> None:
        """The card that the run would be on; None where there is none."""
        if (memory, name) != (self._card, self._card_name):
            self._card, self._card_name = memory, name
            self._on_changed()

    def _on_changed(self) -> None:
        self._stale = True
        parent = self.parentWidget()
        if parent is not None and parent.isVisible():
            self._later.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._stale:
            self._later.start()

    def refresh(self) -> None:
        """Plans the draft anew, and shows it."""
        self._stale = False
        self.plan = self._planned()
        self.setVisible(self.plan is not None)
        if self.plan is not None:
            self._show(self.plan)

    def _planned(self) -> Plan | None:
        draft = self._model.draft
        if (draft.base.parameters or TINY) < TINY:
            return None
        try:
            return plan_recipe(recipe(draft), self._root_of, self._card)
        except Refusal:
            return None

    def _show(self, made: Plan) -> None:
        self.words.setText(summary(made, self._card_name))
        self.bar.show_parts(
            segments(made), Band(made.low_bytes, made.high_bytes), marks(made, self._card_name)
        )
        self.more.setText(more(made))
        self._offer(made.suggestions[:MOST])

    def _offer(self, suggestions: Sequence[Suggestion]) -> None:
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for number, suggestion in enumerate(suggestions):
            self._rows.addWidget(self._row(number, suggestion))
        self._changes.setVisible(bool(suggestions))

    def _row(self, number: int, suggestion: Suggestion) -> QWidget:
        take = button("Do this", self._theme, "wrench", name=f"memory-change:{number}")
        take.setAccessibleName(suggestion.words)
        take.clicked.connect(lambda: self._take(suggestion.changes))
        told = f"{suggestion.words}: {gigabytes(suggestion.high_bytes)} at most."
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2 * SPACE)
        row.addWidget(take, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(label(told, "", wrap=True), 1)
        return holder

    def _take(self, changes: dict[str, Any]) -> None:
        """Makes a change of the recipe in the draft."""
        draft = self._model.draft
        for path, value in changes.items():
            if path == "model.method":
                draft = draft.with_method(value)
            elif path in OPTIONS:
                draft = draft.with_option(path, value)
        self._model.become(draft)
        if base := changes.get("model.base"):
            self._model.choose_base(kind_of_base(base), base)


def segments(made: Plan) -> list[Segment]:
    """The parts of a plan, in their order."""
    return [
        Segment(title, size, gigabytes(size), *INKS[name])
        for name, title in PARTS.items()
        if (size := made.parts.get(name, 0))
    ]


def marks(made: Plan, name: str) -> list[Mark]:
    """The card, or where none is there the usual ones."""
    if made.card_bytes is not None:
        words = f"{name}, {gigabytes(made.card_bytes)}" if name else gigabytes(made.card_bytes)
        return [Mark(made.card_bytes, words, strong=True)]
    return [Mark(card * GIB, f"{card} GB") for card in CARDS_GB]
