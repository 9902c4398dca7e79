"""Told in the wizard: the chosen data do not serve the stage, and which they would serve."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QWidget

from studio.draft import DraftModel
from studio.draft_faults import served, unfit, unserving
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.text import button, label
from workers.protocol.stages import likeliest, spec_of

MOST = 3
"""Other stages that are offered."""


class FitCard(Card):
    """Hidden while every dataset serves the stage, as far as their rows were read.

    Why a dataset serves none at all is told where its first rows are shown.
    """

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__("These data do not serve the stage")
        self._model, self._theme = model, theme
        self._told: tuple[str, ...] = ()
        self.words = label("", "", wrap=True, select=True)
        self._buttons = QWidget()
        self._row = QHBoxLayout(self._buttons)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(SPACE)
        self.body.addWidget(self.words)
        self.body.addWidget(self._buttons)
        model.follow(self._show)
        self.hide()

    def _show(self) -> None:
        draft = self._model.draft
        sources = [one for one in unserving(draft) if draft.readings[one].stages]
        self.setVisible(bool(sources))
        if not sources:
            self._told = ()
            return
        stages = _likeliest(served(draft))
        found = unfit(draft, sources[0])
        told = (str(found), *stages)
        if told == self._told:
            return
        self._told = told
        self.words.setText(" ".join(filter(None, (found.what, found.cause, found.remedy))))
        self._offer(stages)

    def _offer(self, stages: list[str]) -> None:
        while (item := self._row.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for stage in stages:
            made = button(f"Switch to {spec_of(stage).short}", self._theme, spec_of(stage).icon,
                          name=f"switch-to:{stage}")  # fmt: skip
            made.clicked.connect(lambda _=False, stage=stage: self._model.change(stage=stage))
            self._row.addWidget(made)
        self._row.addStretch(1)
        self._buttons.setVisible(bool(stages))


def _likeliest(stages: list[str]) -> list[str]:
    """What the data are most likely meant for first."""
    left, found = list(stages), []
    while left and len(found) < MOST:
        first = likeliest(left)
        assert first is not None
        left.remove(first)
        found.append(first)
    return found
