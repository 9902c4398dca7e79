"""The Train screen: a wizard that ends in a recipe and a started run, and the doors into it.

Steps that have nothing to ask for a stage are passed over. A pipeline's first stage fills the
steps; the others are kept and follow the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog

from studio.advice import Advice
from studio.draft import STEPS, StepName, pipeline, preceded_by_sft, recipe
from studio.importing import PATTERN, Fate, Imported, import_config, is_config, plain_line
from studio.jobs import Jobs
from studio.navigation import NewRun
from studio.pages.train.step import Step
from studio.pages.train.wizard import RecipeWizard
from studio.theme import Theme
from studio.widgets.imported import Group, ImportDialog, Line
from studio.widgets.page import Page
from studio.widgets.text import button
from workers.protocol.pipeline import Pipeline, format_pipeline, read_pipeline
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.protocol.templates import AUTO

FILES = f"Recipes and configs (*.toml {PATTERN})"
LACKING: dict[str, StepName] = {"data": "Data", "rewards": "Rewards"}
"""Where what a config lacks is chosen; the others are of the model."""
FATES: tuple[tuple[Fate, str, str], ...] = (
    ("changed", "Not the same here", ""),
    ("unknown", "Not known", "These keys are left behind."),
    ("carried", "Carried over", ""),
    ("left_out", "Left out there", "That program has values of its own for these; they are taken."),
    ("needless", "Not needed here", ""),
)
"""What becomes of a config's keys, what matters most first: heading and words."""


class TrainPage(Page):
    """Asks step by step; what was entered stays when the page is left."""

    started = Signal(str)
    """The id of a run that was started."""
    rewards_tried = Signal(object)
    """A recipe whose rewards are to be tried."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Train", "From a base model and your data to a model of your own.",
                         scrolls=False)  # fmt: skip
        self._jobs, self._theme = jobs, theme
        self.setAcceptDrops(True)
        self.wizard = wizard = RecipeWizard(jobs, theme)
        self.draft_model, self.banner = wizard.draft_model, wizard.banner
        self.advice, self.stage, self.model = wizard.advice, wizard.stage, wizard.model
        self.data, self.rewards = wizard.data, wizard.rewards
        self.settings, self.review = wizard.settings, wizard.review
        open_file = button("Open recipe…", theme, "folder-open", name="open-recipe")
        open_file.clicked.connect(self._on_open)
        self.action_row.addWidget(open_file)
        self.body.addWidget(wizard)
        wizard.finished.connect(self._on_start)
        self.advice.taken.connect(self._on_advice_taken)
        self.advice.skipped.connect(lambda: self.go_to(self.stage))
        self.stage.ready_chosen.connect(lambda path: self.open_recipe(Path(path)))
        self.rewards.reward_model.begin_asked.connect(self._on_reward_model_asked)
        self.rewards.try_asked.connect(self._on_try_asked)
        self.review.sft_asked.connect(self._on_sft_asked)
        self.review.model_asked.connect(lambda: self.go_to(self.model))
        self.review.save_asked.connect(self._on_save)
        self.data.check.view.length_asked.connect(self.use_length)

    def showEvent(self, event: Any) -> None:
        self.wizard.offer_runs()
        super().showEvent(event)

    def leave(self) -> None:
        self.data.preview.leave()

    def go_to(self, step: Step) -> None:
        self.wizard.show_step(step)

    # What the draft comes to

    def recipe(self) -> Recipe:
        return recipe(self.draft_model.draft)

    def pipeline(self) -> Pipeline:
        """The recipe, and the stages that are to follow it."""
        return pipeline(self.draft_model.draft)

    def _on_start(self) -> None:
        if self.wizard.refuse_draft():
            return
        first, *then = self.pipeline().stages
        try:
            run = self._jobs.train(first, then)
        except Refusal as refusal:
            self.wizard.refuse(refusal)
            return
        self.go_to(self.stage)  # the next run begins there, with what was entered
        self.started.emit(run)

    def _on_try_asked(self) -> None:
        if not self.wizard.refuse_fault(self.rewards):
            self.rewards_tried.emit(self.recipe())

    # Doors

    def receive(self, request: object) -> None:
        match request:
            case NewRun(base=run, name=name) if run:
                self.use_base(run, name)
            case NewRun(source=Source() as source, stage=stage):
                self.use_data(source, stage)
            case NewRun(stage=stage) if stage:
                self.use_stage(stage)
            case Source():
                self.use_source(request)

    def use_base(self, run: str, name: str) -> None:
        """Begins a new run on top of an earlier one."""
        self.draft_model.become(self.draft_model.draft.begun_anew())
        self.model.offer_runs([(run, name)])
        self.draft_model.choose_base("run", f"run:{run}")
        self.go_to(self.model)

    def use_stage(self, stage: str) -> None:
        """Begins a new run of a stage, with what was entered otherwise."""
        self.draft_model.change(stage=stage)
        self.go_to(self.model)

    def use_data(self, source: Source, stage: str = "") -> None:
        """Begins a new run on one dataset, of a stage if one is named."""
        if stage:
            self.draft_model.change(stage=stage)
        self.draft_model.become(self.draft_model.draft.begun_anew().on_data(source))
        self.go_to(self.model)

    def use_source(self, source: Source) -> None:
        """Takes up a dataset as it was looked at, among those that are there."""
        self.data.use(source)
        self.go_to(self.data)

    def use_template(self, template: str) -> None:
        """Takes the chat template that rows were looked at in; the model's own changes nothing."""
        if template != AUTO:
            self.draft_model.change(template=template)

    def use_length(self, tokens: int) -> None:
        """Takes another bound of the examples' length."""
        draft = self.draft_model.draft
        self.draft_model.become(draft.with_option("training.max_length", tokens))

    # What leads from one step to another

    def _on_advice_taken(self, advice: Advice) -> None:
        self.draft_model.change(stage=advice.steps[0])
        if self.advice.chosen == "nothing" and not self.draft_model.draft.sources:
            self.draft_model.choose_base("starter", "starter")
            self.data.add("builtin:arithmetic")
        self.go_to(self.model)

    def _on_reward_model_asked(self) -> None:
        self.use_stage("reward")
        self.banner.inform(
            "First a reward model, from the base that the policy starts from.",
            "It learns from pairs of a better and a worse answer.",
            "When it has ended, choose RLHF again: it is offered there.",
        )

    def _on_sft_asked(self) -> None:
        """Puts supervised fine-tuning before what was to be trained."""
        policy = spec_of(self.draft_model.draft.stage).policy
        self.show_pipeline(preceded_by_sft(self.draft_model.draft))
        if policy:
            self.go_to(self.data)
            self.banner.inform(
                "SFT learns from answers that are written out.",
                "Questions alone, as reinforcement learning takes them, do not serve.",
                "Look whether this data has answers, or choose other examples.",
            )

    # Files

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open recipe", "", FILES)
        if path:
            self.open_recipe(Path(path))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        path = _dropped(event)
        if path is not None:
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()
            QTimer.singleShot(0, self, lambda: self.open_recipe(path))

    def open_recipe(self, path: Path) -> None:
        """Fills the steps from a file, a recipe or a pipeline, and goes to the review.

        Another program's config is shown first, with what became of it.
        """
        if is_config(path):
            self._open_config(path)
            return
        notes: list[str] = []
        try:
            opened = read_pipeline(path, say=notes.append, root_of=self._jobs.root_of)
        except Refusal as refusal:
            self.wizard.refuse(refusal)
            return
        self.show_pipeline(opened, ready=str(path))
        if notes and self.banner.isHidden():  # a refusal counts for more
            self.banner.inform(f"{path.name} was read.", " ".join(notes), "")

    def _open_config(self, path: Path) -> None:
        """Fills the steps from another program's config, when that was agreed to."""
        try:
            imported = import_config(path, root_of=self._jobs.root_of)
        except Refusal as refusal:
            self.wizard.refuse(refusal)
            return
        what = f"{path.name}, a config of {imported.tool}"
        if not ImportDialog.ask(what, _groups(imported), imported.lacks, self._theme, self):
            return
        self.show_pipeline(imported.pipeline)
        if imported.lacks:
            lack = imported.lacks[0]
            self.go_to(self.wizard.steps[STEPS.index(LACKING.get(lack.kind, "Model"))])
            self.banner.inform(lack.what, lack.cause, "Choose it here.")

    def show_recipe(self, recipe: Recipe) -> None:
        self.show_pipeline(Pipeline(name=recipe.name, stages=[recipe]))

    def show_pipeline(self, opened: Pipeline, ready: str = "") -> None:
        """Fills the steps from the first stage and keeps the others."""
        self.draft_model.open(opened, ready)
        self.go_to(self.review)

    def _on_save(self) -> None:
        made = self.pipeline()
        path, _ = QFileDialog.getSaveFileName(
            self, "Save recipe", f"{made.name}.toml", "Recipes (*.toml)"
        )
        if not path:
            return
        try:
            Path(path).write_text(format_pipeline(made), encoding="utf-8")
        except OSError as fault:
            self.wizard.refuse(
                Refusal(
                    f"The recipe could not be saved to {path}.",
                    f"{fault.strerror}.",
                    "Choose another folder.",
                )
            )


def _groups(imported: Imported) -> list[Group]:
    return [
        Group(heading, words, [Line(plain_line(one.key), one.taken) for one in imported.of(fate)])
        for fate, heading, words in FATES
    ]


def _dropped(event: QDropEvent) -> Path | None:
    """The recipe or config that is dropped; None for anything else, and for several files."""
    urls = event.mimeData().urls()
    path = Path(urls[0].toLocalFile()) if len(urls) == 1 else Path()
    return path if path.suffix.lower() == ".toml" or is_config(path) else None
