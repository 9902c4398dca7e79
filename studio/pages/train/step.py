"""A step of the wizard: fills its part of the recipe, shows one, and says its fault."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.theme import SPACE
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal


class Step(QWidget):
    """One step. Subclasses fill `body`, and say by `changed` that something was entered."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(2 * SPACE)

    def fill(self, recipe: Recipe) -> Recipe:
        """The recipe with this step's part put in."""
        raise NotImplementedError

    def show_recipe(self, recipe: Recipe) -> None:
        """Takes this step's part from a recipe."""
        raise NotImplementedError

    def serves(self, recipe: Recipe) -> bool:
        """Whether the step has anything to ask for such a recipe."""
        return True

    def adapt(self, recipe: Recipe, root: str) -> None:
        """Follows what other steps say; `root` is the model that the base was trained from."""

    def fault(self) -> Refusal | None:
        """Why one cannot go on from here, if so."""
        return None
