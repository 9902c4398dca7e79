"""The Train screen: a wizard whose steps end in a recipe and a started run.

Steps that have nothing to ask for a stage are passed over. A pipeline's first stage fills the
steps; the others are kept and follow the run.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from studio.advice import Advice, answers, missing_prerequisite, with_sft_first
from studio.jobs import Jobs, JobUpdate
from studio.pages.train.advice import AdviceStep
from studio.pages.train.data import DataStep
from studio.pages.train.model import ModelStep
from studio.pages.train.review import ReviewStep
from studio.pages.train.rewards import RewardModelChoice, RewardsStep
from studio.pages.train.settings import SettingsStep, with_suggestions
from studio.pages.train.stage import StageStep
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.notice import Banner
from studio.widgets.page import Page
from studio.widgets.stepbar import StepBar
from studio.widgets.text import button
from workers.protocol import wire
from workers.protocol.catalogue import ModelEntry, read_catalogue
from workers.protocol.jobs import Inspect, Train
from workers.protocol.pipeline import (
    PREVIOUS,
    Pipeline,
    format_pipeline,
    parse_pipeline,
    read_pipeline,
)
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal

NAMES = ["Advice", "Stage", "Model", "Data", "Rewards", "Settings", "Review"]


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
        self._opened = Pipeline(name="", stages=[Recipe()])
        self._adapting = False
        self._check = ""
        """The job that looks at a dataset now, or did last."""
        self._at_fault: Step | None = None
        """The step whose fault the banner tells."""
        self.advice = AdviceStep(theme)
        self.stage, self.model = StageStep(theme), ModelStep(theme)
        self.data = DataStep(jobs, theme)
        self.rewards, self.settings = RewardsStep(theme), SettingsStep(theme)
        self.review = ReviewStep(theme)
        self._steps: list[Step] = [
            self.advice, self.stage, self.model, self.data, self.rewards, self.settings,
            self.review,
        ]  # fmt: skip
        self._present, self._furthest = 0, 0
        self._rail = StepBar(NAMES, theme)
        self._rail.chosen.connect(self.go_to)
        self.banner = Banner(theme)
        self._open = button("Open recipe…", theme, "folder-open", name="open-recipe")
        self._open.clicked.connect(self._on_open)
        self.action_row.addWidget(self._open)
        self.body.addWidget(self._rail)
        self.body.addWidget(self.banner)
        self.body.addWidget(self._scrolled_steps(), 1)
        self.body.addLayout(self._foot(theme))
        self._connect()
        self._adapt()
        self.go_to(0)

    def _connect(self) -> None:
        choices = (self.stage.choices, self.model.bases, self.model.methods)
        for changed in (*(c.changed for c in choices), self.model.runs.currentIndexChanged):
            changed.connect(self._adapt)
        self.settings.fields["rl.algorithm"].changed.connect(self._adapt)
        for step in self._steps:
            step.changed.connect(lambda step=step: self._on_step_changed(step))
        self.advice.taken.connect(self._on_advice_taken)
        self.advice.skipped.connect(lambda: self._show_step(self.stage))
        self.rewards.reward_model.begin_asked.connect(self._on_reward_model_asked)
        self.review.sft_asked.connect(self._on_sft_asked)
        self.stage.ready_chosen.connect(lambda path: self.open_recipe(Path(path)))
        self.rewards.try_asked.connect(self._on_try_asked)
        self.data.preview.counted.connect(self._on_counted)
        self.data.check.asked.connect(self._on_check_asked)
        self.data.check.cancelled.connect(self._on_check_cancelled)
        self.review.save_asked.connect(self._on_save)
        self.review.followers_dropped.connect(self._on_followers_dropped)

    def _scrolled_steps(self) -> QScrollArea:
        """The steps alone scroll: faults above and buttons below are always to be seen."""
        inner = QWidget()
        inner.setObjectName("scrolled")
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, SPACE, 0)
        for step in self._steps:
            column.addWidget(step, 1)
        self._area = QScrollArea()
        self._area.setObjectName("scroll")
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setWidget(inner)
        return self._area

    def _foot(self, theme: Theme) -> QHBoxLayout:
        self.back = button("Back", theme, name="back")
        self.forward = button("Next", theme, kind="primary", name="next")
        self.start = button("Start training", theme, "play", kind="primary", name="start")
        self.back.clicked.connect(lambda: self.go_to(self._beside(-1)))
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
        rows = [row for row in self._jobs.store.jobs("train") if row.has_weights]
        talk = [(row.id, row.name) for row in rows if row.stage != "reward"]
        self.model.offer_runs(talk)
        self._offer_judges()
        super().showEvent(event)  # type: ignore[arg-type]

    def _offer_judges(self) -> None:
        rows = [row for row in self._jobs.store.jobs("train") if row.has_weights]
        self.rewards.reward_model.offer([
            RewardModelChoice(f"run:{row.id}", row.name, self._root(f"run:{row.id}"))
            for row in rows if row.stage == "reward"
        ])  # fmt: skip

    # The check of a dataset

    def _on_check_asked(self, source: str) -> None:
        recipe = self.recipe()
        given = next((one for one in recipe.data if one.source == source), None)
        if given is None:
            return
        base = recipe.model.base if recipe.model.base != PREVIOUS else "starter"
        task = Inspect(source=given, model=base, stage=recipe.stage, test=recipe.evaluation.test,
                       max_length=recipe.training.max_length)  # fmt: skip
        try:
            self._check = self._jobs.inspect(task)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.data.check.begin(source)

    def _on_check_cancelled(self) -> None:
        self._jobs.stop(self._check, grace_s=2.0)

    def hear(self, news: list[JobUpdate]) -> None:
        """Follows the check and the preview of a dataset."""
        self.data.preview.hear(news)
        for heard in news:
            if heard.job == self._check:
                self._follow_check(heard)

    def _follow_check(self, heard: JobUpdate) -> None:
        for line in heard.lines:
            self.data.check.take(line.event)
        if heard.status != "running":
            self.data.check.end(self._jobs.failure(self._check))

    def leave(self) -> None:
        self.data.preview.leave()

    # The steps

    def go_to(self, index: int) -> None:
        self._clear_banner()
        self._furthest = max(self._furthest, index)
        self._present = index
        # No stack: its pages out of sight would make it as tall as the tallest.
        for number, step in enumerate(self._steps):
            step.setVisible(number == index)
        self._area.verticalScrollBar().setValue(0)
        self._rail.mark(index, self._furthest)
        if self._steps[index] is self.rewards:
            self._offer_judges()
        last = index == len(self._steps) - 1
        self.back.setVisible(index > 0)
        self.forward.setVisible(not last and index > 0)
        self.start.setVisible(last)
        if last:
            self._show_review()
            self.review.warn(self._warning())
            self._refuse_the_impossible()

    def _show_review(self) -> None:
        """Once more when the rows are counted, of which the review says how many will be seen."""
        self.data.preview.begin()
        self.review.show_pipeline(self.pipeline(), self.data.preview.counts)

    def _on_counted(self) -> None:
        if self._present == len(self._steps) - 1:
            self._show_review()

    def _show_step(self, step: Step) -> None:
        self.go_to(self._steps.index(step))

    def _clear_banner(self) -> None:
        self._at_fault = None
        self.banner.hide()

    def _refuse(self, refusal: Refusal, step: Step | None = None) -> None:
        """Tells why not; a step's own fault is told no longer than it is there."""
        self._at_fault = step
        self.banner.tell(refusal.what, refusal.cause, refusal.remedy)

    def _refuse_faults(self, step: Step) -> bool:
        """Tells what is wrong with a step, if anything is."""
        self._clear_banner()
        if (fault := step.fault()) is None:
            return False
        self._refuse(fault, step)
        return True

    def _on_step_changed(self, step: Step) -> None:
        if step is self._at_fault:
            self._refuse_faults(step)

    def _refuse_the_impossible(self) -> bool:
        """Tells of what does not go together; bounds are checked as a file's would be."""
        try:
            parse_pipeline(format_pipeline(self.pipeline()), "The recipe")
        except Refusal as refusal:
            self._refuse(refusal)
            return True
        return False

    def _shown(self) -> list[int]:
        """The places of the steps that have something to ask."""
        recipe = self.recipe()
        return [at for at, step in enumerate(self._steps) if step.serves(recipe)]

    def _beside(self, by: int) -> int:
        shown = self._shown()
        return shown[shown.index(self._present) + by]

    def _adapt(self, *_: object) -> None:
        """Lets every step follow what the others say."""
        if self._adapting:
            return
        self._adapting = True
        try:
            root = self._root(self.model.base)
            for step in (*self._steps, self.rewards):  # which looks at the settings' algorithm
                step.adapt(self.recipe(), root)
            self.model.warn(self._warning())
            self._rail.show_only(self._shown())
        finally:
            self._adapting = False

    def _root(self, base: str) -> str:
        return self._chain(base)[0]

    def _chain(self, base: str) -> tuple[str, list[str]]:
        """The model at the beginning of a chain of runs, and the stages of the runs in order."""
        stages: list[str] = []
        while base.startswith("run:"):
            try:
                run = self._jobs.find(base.removeprefix("run:")).id
                task = wire.read_job(self._jobs.folder(run)).task
            except Refusal:
                break
            if not isinstance(task, Train):
                return "", stages
            stages.insert(0, task.recipe.stage)
            base = task.recipe.model.base
        return base, stages

    @cached_property
    def _models(self) -> list[ModelEntry]:
        return read_catalogue().models

    def _warning(self) -> str:
        """What goes wrong if the base has not learnt to answer; mostly nothing."""
        recipe = self.recipe()
        return missing_prerequisite(
            recipe.stage, answers(*self._chain(recipe.model.base), self._models)
        )

    def recipe(self) -> Recipe:
        """What the steps say so far; what no step asks for stays as it was opened."""
        recipe = self._opened.stages[0]
        for step in self._steps:
            recipe = step.fill(recipe)
        return recipe

    def pipeline(self) -> Pipeline:
        """The recipe, and the stages that are to follow it."""
        recipe, then = self.recipe(), self._opened.stages[1:]
        if not then:
            return Pipeline(name=recipe.name, stages=[recipe])
        return msgspec.structs.replace(self._opened, stages=[recipe, *then])

    def use_base(self, run: str, name: str) -> None:
        """Begins a new run on top of an earlier one."""
        self._keep(Pipeline(name="", stages=[Recipe()]))
        self.model.offer_runs([(run, name)])
        self.model.choose_run(run)
        self._show_step(self.model)

    def use_stage(self, stage: str) -> None:
        """Begins a new run of a stage, with what was entered otherwise."""
        self.stage.choices.choose([stage])
        self._show_step(self.model)

    def use_data(self, source: Source, stage: str = "") -> None:
        """Begins a new run on one dataset, of a stage if one is named."""
        self._keep(Pipeline(name="", stages=[Recipe()]))
        if stage:
            self.stage.choices.choose([stage])
        self.data.show_recipe(Recipe(data=[source]))
        self._show_step(self.model)

    # What leads from one step to another

    def _on_advice_taken(self, advice: Advice) -> None:
        self.stage.choices.choose([advice.steps[0]])
        if self.advice.chosen == "nothing" and not self.data.lines:
            self.model.bases.choose(["starter"])
            self.data.add("builtin:arithmetic")
        self._furthest = max(self._furthest, self._steps.index(self.model))
        self._show_step(self.model)

    def _on_reward_model_asked(self) -> None:
        self.stage.choices.choose(["reward"])
        self._show_step(self.model)
        self.banner.inform(
            "First a reward model, from the base that the policy starts from.",
            "It learns from pairs of a better and a worse answer.",
            "When it has ended, choose RLHF again: it is offered there.",
        )

    def _on_sft_asked(self) -> None:
        """Puts supervised fine-tuning before what was to be trained."""
        first, then = with_sft_first(self.recipe())
        stages = [with_suggestions(first, self._root(first.model.base)), then]
        stages += self._opened.stages[1:]
        self.show_pipeline(Pipeline(name=then.name, stages=stages))
        if then.stage in ("grpo", "rlhf"):
            self._show_step(self.data)
            self.banner.inform(
                "SFT learns from answers that are written out.",
                "Questions alone, as reinforcement learning takes them, do not serve.",
                "Look whether this data has answers, or choose other examples.",
            )

    def _on_next(self) -> None:
        if not self._refuse_faults(self._steps[self._present]):
            self.go_to(self._beside(1))

    def _on_try_asked(self) -> None:
        if not self._refuse_faults(self.rewards):
            self.rewards_tried.emit(self.recipe())

    def _on_start(self) -> None:
        for index in self._shown():
            if self._steps[index].fault() is not None:
                self.go_to(index)
                self._refuse_faults(self._steps[index])
                return
        if self._refuse_the_impossible():
            return
        pipeline = self.pipeline()
        try:
            run = self._jobs.train(pipeline.stages[0], pipeline.stages[1:])
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._show_step(self.stage)  # the next run begins there, with what was entered
        self.started.emit(run)

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open recipe", "", "Recipes (*.toml)")
        if path:
            self.open_recipe(Path(path))

    def open_recipe(self, path: Path) -> None:
        """Fills the steps from a file, a recipe or a pipeline, and goes to the review."""
        notes: list[str] = []
        try:
            pipeline = read_pipeline(path, say=notes.append, root_of=self._jobs.root_of)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.show_pipeline(pipeline)
        self.stage.mark_ready(path)
        if notes:
            self.banner.inform(f"{path.name} was read.", " ".join(notes), "")

    def show_recipe(self, recipe: Recipe) -> None:
        self.show_pipeline(Pipeline(name=recipe.name, stages=[recipe]))

    def show_pipeline(self, pipeline: Pipeline) -> None:
        """Fills the steps from the first stage and keeps the others."""
        recipe = pipeline.stages[0]
        self._keep(pipeline)
        self._adapting = True
        for step in (self.stage, self.model):
            step.show_recipe(recipe)
        self._adapting = False
        self._adapt()  # before the values come, which count for more than what is suggested
        self._adapting = True
        for step in self._steps:
            step.show_recipe(recipe)
        self._adapting = False
        self.go_to(len(self._steps) - 1)

    def _keep(self, pipeline: Pipeline) -> None:
        self._opened = pipeline
        self.stage.mark_ready(None)

    def _on_followers_dropped(self) -> None:
        self._keep(msgspec.structs.replace(self._opened, stages=self._opened.stages[:1]))
        self._show_review()

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
