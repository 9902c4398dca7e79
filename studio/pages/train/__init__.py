"""The Train screen: a wizard whose steps are views of a draft, and end in a started run.

Steps that have nothing to ask for a stage are passed over. A pipeline's first stage fills the
steps; the others are kept and follow the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog

from studio.advice import Advice
from studio.draft import (
    STEPS,
    DraftModel,
    pipeline,
    preceded_by_sft,
    recipe,
    shown_steps,
)
from studio.draft_faults import fault, first_fault, impossible
from studio.jobs import Jobs, JobUpdate
from studio.pages.train.advice import AdviceStep
from studio.pages.train.data import DataStep
from studio.pages.train.model import ModelStep
from studio.pages.train.review import ReviewStep
from studio.pages.train.rewards import RewardsStep
from studio.pages.train.settings import SettingsStep
from studio.pages.train.stage import StageStep
from studio.pages.train.step import Step
from studio.store import JobRow
from studio.theme import Theme
from studio.widgets.page import Page
from studio.widgets.text import button
from studio.widgets.wizard import Wizard
from workers.protocol.pipeline import Pipeline, format_pipeline, read_pipeline
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of


class TrainPage(Page):
    """Asks step by step; what was entered stays when the page is left."""

    started = Signal(str)
    """The id of a run that was started."""
    rewards_tried = Signal(object)
    """A recipe whose rewards are to be tried."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Train", "From a base model and your data to a model of your own.",
                         scrolls=False)  # fmt: skip
        self._jobs = jobs
        self._at_fault: Step | None = None
        """The step whose fault the banner tells."""
        self.draft_model = model = DraftModel(jobs.recipe_of)
        self.advice, self.stage = AdviceStep(model, theme), StageStep(model, theme)
        self.model, self.data = ModelStep(model, theme), DataStep(jobs, model, theme)
        self.rewards, self.settings = RewardsStep(model, theme), SettingsStep(model, theme)
        self.review = ReviewStep(model, theme)
        self.steps: list[Step] = [
            self.advice, self.stage, self.model, self.data, self.rewards, self.settings,
            self.review,
        ]  # fmt: skip
        self.wizard = Wizard(STEPS, self.steps, "Start training", theme)
        self.banner = self.wizard.banner
        self._open = button("Open recipe…", theme, "folder-open", name="open-recipe")
        self.action_row.addWidget(self._open)
        self.body.addWidget(self.wizard)
        self._connect()
        self._on_draft_changed()
        self.go_to(self.advice)

    def _connect(self) -> None:
        self._open.clicked.connect(self._on_open)
        self.wizard.entered.connect(self._on_entered)
        self.wizard.next_asked.connect(self._on_next)
        self.wizard.finished.connect(self._on_start)
        self.draft_model.follow(self._on_draft_changed)
        self.advice.taken.connect(self._on_advice_taken)
        self.advice.skipped.connect(lambda: self.go_to(self.stage))
        self.stage.ready_chosen.connect(lambda path: self.open_recipe(Path(path)))
        self.data.check.refused.connect(self._refuse)
        self.rewards.reward_model.begin_asked.connect(self._on_reward_model_asked)
        self.rewards.try_asked.connect(self._on_try_asked)
        self.review.sft_asked.connect(self._on_sft_asked)
        self.review.save_asked.connect(self._on_save)

    def showEvent(self, event: Any) -> None:
        self.model.offer_runs([(row.id, row.name) for row in self._trained(talks=True)])
        self._offer_reward_models()
        super().showEvent(event)

    def _trained(self, *, talks: bool) -> list[JobRow]:
        """Runs whose weights are there, the newest first: of models that talk, or that score."""
        rows = [row for row in self._jobs.store.jobs("train") if row.has_weights]
        return [row for row in rows if spec_of(row.stage).talks is talks]

    def _offer_reward_models(self) -> None:
        models = [(f"run:{row.id}", row.name) for row in self._trained(talks=False)]
        self.draft_model.offer_reward_models(models)

    def hear(self, news: list[JobUpdate]) -> None:
        self.data.hear(news)

    def leave(self) -> None:
        self.data.preview.leave()

    # The steps

    def go_to(self, step: Step) -> None:
        self.wizard.go_to(self.steps.index(step))

    def _on_entered(self, place: int) -> None:
        self._at_fault = None
        step = self.steps[place]
        if step is self.rewards:
            self._offer_reward_models()
        if step is self.review:
            self.data.preview.begin()  # the review says how many of the rows will be seen
            self._refuse_the_impossible()
        step.enter()

    def _on_draft_changed(self) -> None:
        self.wizard.show_only([STEPS.index(step) for step in shown_steps(self.draft_model.draft)])
        if self._at_fault is not None:
            self._refuse_fault(self._at_fault)

    def _refuse(self, refusal: Refusal, step: Step | None = None) -> None:
        """Tells why not; a step's own fault is told no longer than it is there."""
        self._at_fault = step
        self.banner.tell(refusal.what, refusal.cause, refusal.remedy)

    def _refuse_fault(self, step: Step) -> bool:
        """Tells what is wrong with a step, if anything is."""
        found = fault(self.draft_model.draft, step.name)
        if found is None:
            self._at_fault = None
            self.banner.hide()
            return False
        self._refuse(found, step)
        return True

    def _refuse_the_impossible(self) -> bool:
        found = impossible(self.draft_model.draft)
        if found is not None:
            self._refuse(found)
        return found is not None

    # What the draft comes to

    def recipe(self) -> Recipe:
        return recipe(self.draft_model.draft)

    def pipeline(self) -> Pipeline:
        """The recipe, and the stages that are to follow it."""
        return pipeline(self.draft_model.draft)

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

    def _on_next(self) -> None:
        if not self._refuse_fault(self.steps[self.wizard.present]):
            self.wizard.go_by(1)

    def _on_try_asked(self) -> None:
        if not self._refuse_fault(self.rewards):
            self.rewards_tried.emit(self.recipe())

    def _on_start(self) -> None:
        found = first_fault(self.draft_model.draft)
        if found is not None:
            step = self.steps[STEPS.index(found)]
            self.go_to(step)
            self._refuse_fault(step)
            return
        if self._refuse_the_impossible():
            return
        first, *then = self.pipeline().stages
        try:
            run = self._jobs.train(first, then)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.go_to(self.stage)  # the next run begins there, with what was entered
        self.started.emit(run)

    # Files

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open recipe", "", "Recipes (*.toml)")
        if path:
            self.open_recipe(Path(path))

    def open_recipe(self, path: Path) -> None:
        """Fills the steps from a file, a recipe or a pipeline, and goes to the review."""
        notes: list[str] = []
        try:
            opened = read_pipeline(path, say=notes.append, root_of=self._jobs.root_of)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.show_pipeline(opened, ready=str(path))
        if notes:
            self.banner.inform(f"{path.name} was read.", " ".join(notes), "")

    def show_recipe(self, recipe: Recipe) -> None:
        self.show_pipeline(Pipeline(name=recipe.name, stages=[recipe]))

    def show_pipeline(self, opened: Pipeline, ready: str = "") -> None:
        """Fills the steps from the first stage and keeps the others."""
        self.draft_model.open(opened, ready)
        self.go_to(self.review)

    def _on_save(self) -> None:
        pipeline = self.pipeline()
        path, _ = QFileDialog.getSaveFileName(
            self, "Save recipe", f"{pipeline.name}.toml", "Recipes (*.toml)"
        )
        if not path:
            return
        try:
            Path(path).write_text(format_pipeline(pipeline), encoding="utf-8")
        except OSError as fault:
            self.banner.tell(
                f"The recipe could not be saved to {path}.",
                f"{fault.strerror}.",
                "Choose another folder.",
            )
