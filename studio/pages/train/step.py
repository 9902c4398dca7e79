"""A step of the wizard: a view of the draft, which it changes and follows."""

from __future__ import annotations

from typing import ClassVar

from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.draft import DraftModel, RecipeDraft, StepName
from studio.draft_faults import fault
from studio.theme import SPACE
from workers.protocol.refusal import Refusal


class Step(QWidget):
    """One step. Subclasses fill `body`, and `show_draft` once that is done."""

    name: ClassVar[StepName]

    def __init__(self, model: DraftModel) -> None:
        super().__init__()
        self.draft_model = model
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(2 * SPACE)
        model.follow(self.show_draft)

    @property
    def draft(self) -> RecipeDraft:
        return self.draft_model.draft

    def show_draft(self) -> None:
        """Shows the draft's part that is asked for here."""

    def enter(self) -> None:
        """Called whenever the step becomes the present one."""

    def fault(self) -> Refusal | None:
        """Why one cannot go on from here, if so."""
        return fault(self.draft, self.name)
