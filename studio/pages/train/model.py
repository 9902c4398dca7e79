"""Step three: the base model, and how much of it is trained."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QStackedWidget,
    QWidget,
)

from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Choices
from studio.widgets.text import button, label
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

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
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class ModelStep(Step):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.bases = Choices(theme)
        self.methods = Choices(theme)
        for base in BASES:
            self.bases.add(*base)
        for method in METHODS:
            self.methods.add(*method)
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
        self.warning = label("", "muted", wrap=True)
        self.warning.hide()
        self._suggested = "lora"
        self.bases.changed.connect(self._on_base_changed)
        for edited in (self.bases.changed, self.hub.textChanged, self.folder.textChanged,
                       self.runs.currentIndexChanged):  # fmt: skip
            edited.connect(self.changed)
        self.body.addWidget(label("What to start from", "heading"))
        self.body.addWidget(self.bases)
        self.body.addWidget(self._details)
        self.body.addWidget(self.warning)
        self.body.addWidget(label("How to train it", "heading"))
        self.body.addWidget(self.methods)
        self.body.addStretch(1)
        self.bases.choose(["starter"])
        self.methods.choose(["lora"])

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
        """Runs that have trained weights: id and name."""
        present = self.runs.currentData()
        self.runs.clear()
        for run, name in runs:
            self.runs.addItem(f"{name}   {run}", run)
        self.runs.setCurrentIndex(max(0, self.runs.findData(present)))

    def choose_run(self, run: str) -> None:
        self.bases.choose(["run"])
        self.runs.setCurrentIndex(self.runs.findData(run))

    @property
    def base(self) -> str:
        """As a recipe names it."""
        match self.bases.chosen[0]:
            case "hub":
                return self.hub.text().strip()
            case "folder":
                return self.folder.text().strip()
            case "run":
                return f"run:{self.runs.currentData() or ''}"
            case named:
                return named

    def warn(self, text: str) -> None:
        """Says what may go wrong with the base; an empty text says nothing."""
        self.warning.setText(text)
        self.warning.setVisible(bool(text))

    def adapt(self, recipe: Recipe, root: str) -> None:
        """Full training suits a tiny model that learns by trying."""
        tries = recipe.stage in ("grpo", "rlhf")
        suits = "full" if tries and root == "starter" else "lora"
        untouched = self.methods.chosen == [self._suggested]
        self._suggested = suits
        if untouched:
            self.methods.choose([suits])

    def fill(self, recipe: Recipe) -> Recipe:
        model = msgspec.structs.replace(
            recipe.model, base=self.base, method=self.methods.chosen[0]
        )  # fmt: skip
        return msgspec.structs.replace(recipe, model=model)

    def show_recipe(self, recipe: Recipe) -> None:
        base = recipe.model.base
        self.methods.choose([recipe.model.method])
        if base.startswith("run:"):
            run = base.removeprefix("run:")
            if self.runs.findData(run) < 0:
                self.runs.addItem(run, run)
            self.choose_run(run)
        elif base in {key for key, *_ in BASES}:
            self.bases.choose([base])
        elif HUB_ID.fullmatch(base) and not Path(base).exists():
            self.hub.setText(base)
            self.bases.choose(["hub"])
        else:
            self.folder.setText(base)
            self.bases.choose(["folder"])

    def fault(self) -> Refusal | None:
        match self.bases.chosen[0]:
            case "hub" if not HUB_ID.fullmatch(self.hub.text().strip()):
                return Refusal("That is not a model id.", "An id has the form org/name.",
                               "Copy it from the model's page on the hub.")  # fmt: skip
            case "folder" if not (Path(self.folder.text().strip()) / "config.json").is_file():
                return Refusal("That is not a model folder.", "It holds no config.json.",
                               "Choose the folder that holds config.json.")  # fmt: skip
            case "run" if not self.runs.currentData():
                return Refusal("There is no earlier run to go on from.", "No run has ended yet.",
                               "Choose another base model for the first run.")  # fmt: skip
        return None

    def _on_base_changed(self) -> None:
        order = {"hub": 1, "folder": 2, "run": 3}
        chosen = self.bases.chosen[:1]
        self._details.setCurrentIndex(order.get(chosen[0], 0) if chosen else 0)
        self._details.setVisible(self._details.currentIndex() > 0)

    def _on_browse(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Model folder"):
            self.folder.setText(path)
