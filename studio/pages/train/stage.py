"""The step that asks for the kind of training, or for a ready recipe that says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal

from studio.draft import DraftModel
from studio.pages.train.step import Step
from studio.theme import Theme
from studio.widgets.card import ChoiceCard, Choices
from studio.widgets.text import button, label
from workers.protocol.assets import assets_folder
from workers.protocol.pipeline import Pipeline, read_pipeline
from workers.protocol.refusal import Refusal
from workers.protocol.stages import STAGES


class StageStep(Step):
    name = "Stage"
    ready_chosen = Signal(str)
    """The path of a ready recipe."""

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self.choices = Choices(theme)
        self._rare: dict[str, ChoiceCard] = {}
        self._add_stages()
        self.more = button("More ways to train", theme, "caret-down", name="more-stages")
        self.more.clicked.connect(self._on_more)
        self.choices.changed.connect(self._on_chosen)
        self.ready = Choices(theme)
        self.ready.activated.connect(lambda key: self.ready_chosen.emit(str(self._paths[key])))
        self._paths: dict[str, Path] = {}
        self._heading = label("Or begin with a ready recipe", "heading")
        self._heading.hide()
        self.body.addWidget(label("What do you have to teach with?", "heading"))
        self.body.addWidget(self.choices)
        self.body.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.body.addWidget(self._heading)
        self.body.addWidget(self.ready)
        self.body.addStretch(1)
        self.show_draft()

    def _add_stages(self) -> None:
        for stage, spec in STAGES.items():
            card = self.choices.add(stage, spec.title, spec.words, spec.icon)
            if not spec.usual:
                card.hide()
                self._rare[stage] = card

    def show_draft(self) -> None:
        stage = self.draft.stage
        if self.choices.chosen != [stage]:
            with QSignalBlocker(self.choices):
                self.choices.choose([stage])
        if stage in self._rare:  # a recipe may bring a stage whose card is folded away
            self._on_more()
        self.ready.choose(
            [key for key, path in self._paths.items() if str(path) == self.draft.ready]
        )

    def _on_chosen(self) -> None:
        self.draft_model.change(stage=self.choices.chosen[0])

    def _on_more(self) -> None:
        self.more.hide()
        for card in self._rare.values():
            card.show()

    def showEvent(self, event: Any) -> None:
        if not self._paths:
            self._offer_ready()
        super().showEvent(event)

    def _offer_ready(self) -> None:
        for path, pipeline in ready_recipes():
            key = f"recipe:{path.stem}"
            self._paths[key] = path
            words = (pipeline.name, pipeline.summary, "book-open", needs(pipeline))
            self.ready.add(key, *words)
        self._heading.setVisible(bool(self._paths))
        self.show_draft()


def ready_recipes() -> list[tuple[Path, Pipeline]]:
    """What comes with the program, the least hungry first."""
    found: list[tuple[Path, Pipeline]] = []
    for path in sorted((assets_folder() / "recipes").glob("*.toml")):
        try:
            found.append((path, read_pipeline(path)))
        except Refusal:
            continue  # of another version; opening it as a file says what is wrong
    return sorted(found, key=lambda ready: ready[1].gpu_memory_gb)


def needs(pipeline: Pipeline) -> str:
    """What a pipeline asks of the machine, in words."""
    if not pipeline.gpu_memory_gb:
        return "Runs on any laptop"
    return f"Needs a GPU with about {pipeline.gpu_memory_gb:g} GB of memory"
