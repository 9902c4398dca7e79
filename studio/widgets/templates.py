"""A choice of chat templates: the model's own, ours, TRL's, those saved before, or a file."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QFileDialog

from studio.widgets.combo import ComboBox
from workers.protocol.templates import (
    AUTO,
    ENDINGS,
    OURS,
    TRL,
    is_file,
    template_label,
    trl_templates,
)

FILE = ""
"""The entry that asks for a file."""
FILES = f"Jinja templates ({' '.join(f'*{ending}' for ending in ENDINGS)})"


class TemplateBox(ComboBox):
    """`chosen` brings a template as a recipe names it, when a person has chosen it."""

    chosen = Signal(str)

    def __init__(self, name: str, least_letters: int = 0) -> None:
        super().__init__(name, "Chat template", least_letters)
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._saved: list[str] = []
        self._present = AUTO
        self._fill()
        self.activated.connect(self._on_activated)

    @property
    def template(self) -> str:
        """As a recipe names it."""
        return self.currentData() or self._present

    def offer_saved(self, paths: Sequence[str]) -> None:
        """Templates that were saved before; what is chosen stays."""
        present = self.template
        self._saved = list(paths)
        with QSignalBlocker(self):
            self._fill()
        self.choose(present)

    def choose(self, template: str) -> None:
        """Shows a template as chosen, whatever it is."""
        if self.findData(template) < 0:
            self._add(template)
        self._present = template
        with QSignalBlocker(self):
            self.setCurrentIndex(self.findData(template))

    def _fill(self) -> None:
        self.clear()
        for template in (AUTO, *OURS, *self._saved):
            self._add(template)
        self.insertSeparator(self.count())
        for name in trl_templates():
            self._add(f"{TRL}{name}")
        self.insertSeparator(self.count())
        self.addItem("Choose a file…", FILE)

    def _add(self, template: str) -> None:
        """One entry, before those of TRL where it is a file that was not among them."""
        at = self.findData(FILE) if self.findData(FILE) >= 0 else self.count()
        self.insertItem(at, template_label(template), template)
        if is_file(template):
            self.setItemData(at, template, Qt.ItemDataRole.ToolTipRole)

    def _on_activated(self) -> None:
        template = self.currentData()
        if template == FILE:
            template, _ = QFileDialog.getOpenFileName(self, "Chat template", "", FILES)
            self.choose(template or self._present)
            if not template:
                return
        self._present = template
        self.chosen.emit(template)
