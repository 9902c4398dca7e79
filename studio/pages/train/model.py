"""The step that asks for the base model, and how much of it is trained."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QStackedWidget,
    QWidget,
)

from studio.draft import BaseKind, DraftModel, method
from studio.draft_faults import warning
from studio.pages.train.catalogue import CatalogueChooser
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Choices
from studio.widgets.templates import TemplateBox
from studio.widgets.text import button, label

BASES = [
    ("starter", "Starter model", "Our own, 2.6 million weights, made for learning and trying. "
     "Trains in seconds on any laptop.", "lightning"),
    ("smollm2", "SmolLM2 135M Instruct", "Comes with the program, 135 million weights, English. "
     "Trains on any laptop; good to learn with.", "cpu"),
    ("hub", "From the hub", "A model id such as org/name. It is fetched once and kept.",
     "cloud-arrow-down"),
    ("folder", "A folder", "A model on this disk: config.json and .safetensors files.", "folder"),
    ("run", "An earlier run", "Go on from what a finished run has learnt.", "git-branch"),
]  # fmt: skip
METHODS = [
    ("lora", "LoRA", "Trains a small adapter beside the frozen model. Least trouble; start here.",
     "stack"),
    ("qlora", "QLoRA", "LoRA over 4-bit weights: about a quarter of the memory, a little slower.",
     "stack-simple"),
    ("dora", "DoRA", "LoRA that also learns each weight's magnitude; slower, sometimes better.",
     "intersect"),
    ("full", "Full", "Trains every weight. Needs about eight times the memory of LoRA.",
     "circles-four"),
]  # fmt: skip


TEMPLATE = (
    "How a conversation becomes one text. auto is the model's own, chatml where it has none; under "
    "Data you see what each makes of your rows, and write your own."
)
DETAILS: dict[BaseKind, int] = {"hub": 1, "folder": 2, "run": 3}
"""Bases that ask for more, to the place of what asks."""


class ModelStep(Step):
    name = "Model"

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self.bases = Choices(theme)
        self.methods = Choices(theme)
        for choices, cards in ((self.bases, BASES), (self.methods, METHODS)):
            for card in cards:
                choices.add(*card)
        self._details = QStackedWidget()
        self.hub = QLineEdit()
        self.hub.setObjectName("hub-id")
        self.hub.setPlaceholderText("org/name")
        self.hub.setAccessibleName("Model id on the hub")
        self.folder = QLineEdit()
        self.folder.setObjectName("model-folder")
        self.folder.setPlaceholderText("Path of the model folder")
        self.folder.setAccessibleName("Model folder")
        self.runs = QComboBox()
        self.runs.setObjectName("base-run")
        self.runs.setAccessibleName("Earlier run")
        for widget in (QWidget(), self.hub, self._folder_line(theme), self.runs):
            self._details.addWidget(widget)
        self._details.setMaximumHeight(40)
        self.catalogue = CatalogueChooser()
        self.catalogue.chosen.connect(self.hub.setText)
        self.template = TemplateBox("model-template", least_letters=28)
        self.template.chosen.connect(lambda template: model.change(template=template))
        self.warning = label("", "muted", wrap=True)
        self.warning.hide()
        for edited in (self.bases.changed, self.hub.textChanged, self.folder.textChanged,
                       self.runs.currentIndexChanged):  # fmt: skip
            edited.connect(self._on_base_edited)
        self.methods.changed.connect(self._on_method_chosen)
        self.body.addWidget(label("What to start from", "heading"))
        self.body.addWidget(self.bases)
        self.body.addWidget(self._details)
        self.body.addWidget(self.catalogue)
        self.body.addWidget(self.warning)
        self.body.addWidget(label("How to train it", "heading"))
        self.body.addWidget(self.methods)
        self.body.addWidget(label("Chat template", "heading"))
        self.body.addWidget(self.template, 0, Qt.AlignmentFlag.AlignLeft)
        self.body.addWidget(label(TEMPLATE, "muted", wrap=True))
        self.body.addStretch(1)
        self.show_draft()

    def _folder_line(self, theme: Theme) -> QWidget:
        browse = button("Browse…", theme, "folder-open", name="browse-model")
        browse.clicked.connect(self._on_browse)
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(self.folder, 1)
        row.addWidget(browse)
        return line

    def offer_runs(self, runs: list[tuple[str, str]]) -> None:
        """Runs that have trained weights: id and name; the one that is chosen stays."""
        present = self.runs.currentData()
        with QSignalBlocker(self.runs):
            self.runs.clear()
            for run, name in runs:
                self.runs.addItem(f"{name}   {run}", run)
            self.runs.setCurrentIndex(max(0, self.runs.findData(present)))
        if self.draft.base.name == "run:":
            self._on_base_edited()
        self.show_draft()

    @property
    def base(self) -> tuple[BaseKind, str]:
        """What the controls say: where the base comes from, and how a recipe names it."""
        match self.bases.chosen[0]:
            case "hub":
                return "hub", self.hub.text().strip()
            case "folder":
                return "folder", self.folder.text().strip()
            case "run":
                return "run", f"run:{self.runs.currentData() or ''}"
            case "smollm2":
                return "smollm2", "smollm2"
            case _:
                return "starter", "starter"

    def show_draft(self) -> None:
        base, how = self.draft.base, method(self.draft)
        if self.methods.chosen != [how]:
            with QSignalBlocker(self.methods):
                self.methods.choose([how])
        if not self.bases.chosen or self.base != (base.kind, base.name):
            self._show_base(base.kind, base.name)
        self._details.setCurrentIndex(DETAILS.get(base.kind, 0))
        self._details.setVisible(base.kind in DETAILS)
        self.catalogue.setVisible(base.kind == "hub")
        if base.kind == "hub":
            self.catalogue.show_model(base.name)
        if self.template.template != self.draft.template:
            self.template.choose(self.draft.template)
        self.warning.setText(warning(self.draft))
        self.warning.setVisible(bool(self.warning.text()))

    def _show_base(self, kind: BaseKind, name: str) -> None:
        run = name.removeprefix("run:")
        with QSignalBlocker(self.bases), QSignalBlocker(self.hub), \
                QSignalBlocker(self.folder), QSignalBlocker(self.runs):  # fmt: skip
            self.bases.choose([kind])
            if kind == "hub":
                self.hub.setText(name)
            elif kind == "folder":
                self.folder.setText(name)
            elif kind == "run":
                if self.runs.findData(run) < 0:
                    self.runs.addItem(run, run)
                self.runs.setCurrentIndex(self.runs.findData(run))

    def _on_base_edited(self) -> None:
        self.draft_model.choose_base(*self.base)

    def _on_method_chosen(self) -> None:
        self.draft_model.become(self.draft.with_method(self.methods.chosen[0]))  # type: ignore[arg-type]

    def _on_browse(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Model folder"):
            self.folder.setText(path)
