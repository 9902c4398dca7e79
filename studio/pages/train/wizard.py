"""The wizard of a recipe: its steps around one draft, and what is at fault with them."""

from __future__ import annotations

from studio.draft import STEPS, DraftModel, RecipeDraft, shown_steps
from studio.draft_faults import fault, first_fault, impossible
from studio.jobs import Jobs
from studio.pages.train.advice import AdviceStep
from studio.pages.train.data import DataStep
from studio.pages.train.model import ModelStep
from studio.pages.train.review import ReviewStep
from studio.pages.train.rewards import RewardsStep
from studio.pages.train.settings import SettingsStep
from studio.pages.train.stage import StageStep
from studio.pages.train.step import Step
from studio.records import JobRow
from studio.theme import Theme
from studio.widgets.wizard import Wizard
from workers.protocol.refusal import Refusal
from workers.protocol.stages import talks
from workers.protocol.templates import saved_templates


class RecipeWizard(Wizard):
    """Leads from step to step; a step that is at fault is not left."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        self.draft_model = model = DraftModel(jobs.recipe_of)
        self.advice, self.stage = AdviceStep(model, theme), StageStep(model, theme)
        self.model, self.data = ModelStep(model, theme), DataStep(jobs, model, theme)
        self.rewards, self.settings = (
            RewardsStep(model, theme),
            SettingsStep(model, jobs.root_of, theme),
        )
        self.review = ReviewStep(model, jobs.root_of, theme)
        self.steps: list[Step] = [
            self.advice, self.stage, self.model, self.data, self.rewards, self.settings,
            self.review,
        ]  # fmt: skip
        super().__init__(STEPS, self.steps, "Start training", theme)
        self._jobs = jobs
        self._at_fault: Step | None = None
        """The step whose fault the banner tells."""
        self.entered.connect(self._on_entered)
        self.next_asked.connect(self._on_next)
        self.data.check.refused.connect(self.refuse)
        model.follow(self._on_draft_changed)
        self._on_draft_changed()
        self.show_step(self.advice)

    @property
    def draft(self) -> RecipeDraft:
        return self.draft_model.draft

    def show_step(self, step: Step) -> None:
        self.go_to(self.steps.index(step))

    def use_card(self, memory: int | None, name: str = "", reason: str = "") -> None:
        """The card that runs would be on, by its memory in bytes; None where there is none.

        Args:
            reason: why there is none; empty while that is not known.
        """
        self.draft_model.change(no_card=reason)
        for step in (self.settings, self.review):
            step.memory.use_card(memory, name)

    # Runs to build upon

    def offer_runs(self) -> None:
        self.model.offer_runs([(row.id, row.name) for row in self._trained(talking=True)])
        self._offer_reward_models()
        self.model.template.offer_saved(saved_templates(self._jobs.home.root))

    def _offer_reward_models(self) -> None:
        models = [(f"run:{row.id}", row.name) for row in self._trained(talking=False)]
        self.draft_model.offer_reward_models(models)

    def _trained(self, *, talking: bool) -> list[JobRow]:
        """Runs whose weights are there, the newest first: of models that talk, or that score."""
        rows = [row for row in self._jobs.store.jobs("train") if row.has_weights]
        return [row for row in rows if talks(row.stage) is talking]

    # Faults

    def refuse(self, refusal: Refusal, step: Step | None = None) -> None:
        """Tells why not; a step's own fault is told no longer than it is there."""
        self._at_fault = step
        self.banner.refuse(refusal)

    def refuse_fault(self, step: Step) -> bool:
        """Tells what is wrong with a step, if anything is."""
        found = fault(self.draft, step.name)
        if found is None:
            self._at_fault = None
            self.banner.hide()
            return False
        self.refuse(found, step)
        return True

    def refuse_draft(self) -> bool:
        """Tells what keeps the draft from being started, if anything does, where it is mended."""
        found = first_fault(self.draft)
        if found is None:
            return self._refuse_the_impossible()
        step = self.steps[STEPS.index(found)]
        self.show_step(step)
        return self.refuse_fault(step)

    def _refuse_the_impossible(self) -> bool:
        found = impossible(self.draft)
        if found is not None:
            self.refuse(found)
        return found is not None

    # The way

    def _on_entered(self, place: int) -> None:
        self._at_fault = None
        step = self.steps[place]
        if step is self.rewards:
            self._offer_reward_models()
        if step is self.review:
            self.data.preview.begin()  # the review says how many of the rows will be seen
            self._refuse_the_impossible()
        step.enter()

    def _on_next(self) -> None:
        if not self.refuse_fault(self.steps[self.present]):
            self.go_by(1)

    def _on_draft_changed(self) -> None:
        self.show_only([STEPS.index(step) for step in shown_steps(self.draft)])
        if self._at_fault is not None:
            self.refuse_fault(self._at_fault)
