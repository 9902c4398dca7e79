"""The Train screen: a wizard of five steps that ends in a recipe and a started run."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSizePolicy, QStackedWidget

from studio.jobs import Heard, Jobs
from studio.pages.train.data import DataStep
from studio.pages.train.model import ModelStep
from studio.pages.train.review import ReviewStep
from studio.pages.train.settings import SettingsStep
from studio.pages.train.stage import StageStep
from studio.theme import SPACE, Theme
from studio.widgets.notice import Banner
from studio.widgets.page import Page
from studio.widgets.rail import Rail
from studio.widgets.text import button
from workers.protocol.recipe import Recipe, format_recipe, read_recipe
from workers.protocol.refusal import Refusal

NAMES = ["Stage", "Model", "Data", "Settings", "Review"]


class TrainPage(Page):
    """Asks step by step; what was entered stays when the page is left."""

    started = Signal(str)
    """The id of a run that was started."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Train", "From a base model and your data to a model of your own.")
        self._jobs = jobs
        self.stage, self.model, self.data = StageStep(theme), ModelStep(theme), DataStep(theme)
        self.settings, self.review = SettingsStep(theme), ReviewStep(theme)
        self._steps = [self.stage, self.model, self.data, self.settings, self.review]
        self._furthest = 0
        self._rail = Rail(NAMES, theme)
        self._rail.chosen.connect(self.go_to)
        self.banner = Banner(theme)
        self._stack = QStackedWidget()
        for step in self._steps:
            self._stack.addWidget(step)
        self._open = button("Open recipe…", theme, "folder-open", name="open-recipe")
        self._open.clicked.connect(self._on_open)
        self.action_row.addWidget(self._open)
        self.body.addWidget(self._rail)
        self.body.addWidget(self.banner)
        self.body.addWidget(self._stack, 1)
        self.body.addLayout(self._foot(theme))
        self.review.save_asked.connect(self._on_save)
        self.go_to(0)

    def _foot(self, theme: Theme) -> QHBoxLayout:
        self.back = button("Back", theme, name="back")
        self.forward = button("Next", theme, kind="primary", name="next")
        self.start = button("Start training", theme, "play", kind="primary", name="start")
        self.back.clicked.connect(lambda: self.go_to(self._stack.currentIndex() - 1))
        self.forward.clicked.connect(self._on_next)
        self.start.clicked.connect(self._on_start)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.back)
        row.addStretch(1)
        row.addWidget(self.forward)
        row.addWidget(self.start)
        return row

    def showEvent(self, event: object) -> None:
        self.model.offer_runs(
            [(row.id, row.name) for row in self._jobs.store.jobs("train") if row.resting]
        )
        super().showEvent(event)  # type: ignore[arg-type]

    def hear(self, news: list[Heard]) -> None:
        """Nothing here depends on running jobs."""

    def go_to(self, index: int) -> None:
        self.banner.hide()
        self._furthest = max(self._furthest, index)
        for number, step in enumerate(self._steps):
            # Steps out of sight must not make the page taller than the one that is shown.
            tall = QSizePolicy.Policy.Preferred if number == index else QSizePolicy.Policy.Ignored
            step.setSizePolicy(QSizePolicy.Policy.Preferred, tall)
        self._stack.setCurrentIndex(index)
        self._rail.mark(index, self._furthest)
        last = index == len(self._steps) - 1
        self.back.setVisible(index > 0)
        self.forward.setVisible(not last)
        self.start.setVisible(last)
        if last:
            self.review.show_recipe(self.recipe(), self.settings.form.faults)

    def recipe(self) -> Recipe:
        """What the steps say so far."""
        recipe = Recipe()
        for step in self._steps:
            recipe = step.fill(recipe)
        return recipe

    def use_base(self, run: str, name: str) -> None:
        """Begins a new run on top of an earlier one."""
        self.model.offer_runs([(run, name)])
        self.model.choose_run(run)
        self.go_to(1)

    def _on_next(self) -> None:
        index = self._stack.currentIndex()
        fault = self._steps[index].fault()
        if fault is None:
            self.go_to(index + 1)
        else:
            self.banner.tell(fault.what, fault.cause, fault.remedy)

    def _on_start(self) -> None:
        for index, step in enumerate(self._steps):
            if (fault := step.fault()) is not None:
                self.go_to(index)
                self.banner.tell(fault.what, fault.cause, fault.remedy)
                return
        try:
            run = self._jobs.train(self.recipe())
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        self.go_to(0)  # the next run begins at the beginning, with what was entered
        self.started.emit(run)

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open recipe", "", "Recipes (*.toml)")
        if path:
            self.open_recipe(Path(path))

    def open_recipe(self, path: Path) -> None:
        """Fills the steps from a recipe file and goes to the review."""
        try:
            recipe = read_recipe(path)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        self.show_recipe(recipe)

    def show_recipe(self, recipe: Recipe) -> None:
        for step in self._steps:
            step.show_recipe(recipe)
        self.go_to(len(self._steps) - 1)

    def _on_save(self) -> None:
        recipe = self.recipe()
        path, _ = QFileDialog.getSaveFileName(
            self, "Save recipe", f"{recipe.name}.toml", "Recipes (*.toml)"
        )
        if not path:
            return
        try:
            Path(path).write_text(format_recipe(recipe), encoding="utf-8")
        except OSError as fault:
            self.banner.tell(
                f"The recipe could not be saved to {path}.",
                f"{fault.strerror}.",
                "Choose another folder.",
            )
