"""What a run goes on with from its last checkpoint: the settings that may change, in a dialog."""

from __future__ import annotations

from typing import Any

import msgspec
from PySide6.QtWidgets import QDialog, QGridLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.form import OptionForm
from studio.widgets.notice import Banner
from studio.widgets.page import lay_out_dialog
from studio.widgets.text import button, label
from workers.protocol.options import Option
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.resume import Proposal, resume_options, settings_of, with_settings
from workers.protocol.stages import applies

SIZE = (720, 620)


class ResumeDialog(QDialog):
    """A form of the settings that a run had so far; `changes` holds what is to be different."""

    def __init__(self, proposal: Proposal, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Resume")
        self.setObjectName("resume-dialog")
        self.resize(*SIZE)
        self._proposal = proposal
        self._theme = theme
        self._so_far = settings_of(proposal.recipe)
        self.form = OptionForm(_options(proposal.recipe, self._so_far), theme)
        self.form.set_values(proposal.settings)
        self.banner = Banner(theme)
        self.go = button("Resume", theme, "play", kind="primary", name="resume-go")
        self.leave = button("Cancel", theme, name="resume-cancel")
        self.go.clicked.connect(self._on_go)
        self.leave.clicked.connect(self.reject)
        self.form.changed.connect(self._on_changed)
        self._lay_out(_words(proposal))

    def _lay_out(self, words: str) -> None:
        head = label("Resume with other settings", "heading"), label(words, "muted", wrap=True)
        ladder = [self._ladder()] if self._proposal.rungs else []
        lay_out_dialog(self, (*head, *ladder, self.banner, self.form), (self.leave, self.go))

    def _ladder(self) -> QWidget:
        """What the run can still change to need less memory; a click puts it into the form."""
        ladder = QWidget()
        grid = QGridLayout(ladder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(2 * SPACE)
        grid.setVerticalSpacing(SPACE)
        grid.setColumnStretch(1, 1)
        for at, rung in enumerate(self._proposal.rungs):
            take = button(rung.name.capitalize(), self._theme, name=f"rung:{rung.name}")
            take.clicked.connect(lambda *_, rung=rung: self.form.set_values(rung.settings))
            grid.addWidget(take, at, 0)
            grid.addWidget(label(rung.words, "muted", wrap=True), at, 1)
        return ladder

    @classmethod
    def ask(cls, proposal: Proposal, theme: Theme, parent: QWidget) -> dict[str, Any] | None:
        """Key path to the new value of what is to change; None where the run is left as it is."""
        dialog = cls(proposal, theme, parent)
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        dialog.deleteLater()
        return dialog.changes if accepted else None

    @property
    def changes(self) -> dict[str, Any]:
        values = self.form.values
        return {path: value for path, value in values.items() if value != self._so_far[path]}

    def _on_changed(self) -> None:
        self.banner.hide()
        self.go.setEnabled(not self.form.faults)

    def _on_go(self) -> None:
        try:
            with_settings(self._proposal.recipe, self.changes, self._proposal.run)
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        self.accept()


def _options(recipe: Recipe, so_far: dict[str, Any]) -> list[Option]:
    """What may change and matters to the stage; its default is what the run had so far."""
    return [
        msgspec.structs.replace(option, default=so_far[path])
        for path, option in resume_options().items()
        if path in so_far and applies(path, recipe.stage, recipe.rl.algorithm)
    ]


def _words(proposal: Proposal) -> str:
    begin = (
        f"The run goes on from its checkpoint of step {proposal.step}."
        if proposal.step
        else "The run has no complete checkpoint and begins from the start."
    )
    less = " Each of these changes needs less memory; the first is made." if proposal.rungs else ""
    return f"{begin}{less} What else the recipe says lives in the checkpoint and stays."
