"""The Rewards screen: tries a recipe's rewards on adversarial and sampled answers before
training, and lets a trained reward model score answers that are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QProgressBar,
    QSizePolicy,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs
from studio.pages.rewards.score import ScoreView
from studio.session import BRIEF_GRACE_S, Ending, Session
from studio.theme import SPACE, Theme
from studio.widgets.bench import BenchView
from studio.widgets.card import Card
from studio.widgets.combo import ComboBox
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Benched, Failed, Phase, Progress
from workers.protocol.jobs import Bench
from workers.protocol.pipeline import Pipeline, read_pipeline, with_rewards
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import names_of

SAMPLES = [
    ("64 answers of the model", 64),
    ("256 answers of the model", 256),
    ("Adversarial and right answers alone, no model", 0),
]
WIZARD = "The wizard's recipe"


class RewardsPage(Page):
    wizard_asked = Signal()
    """The page was opened and wants to know the wizard's present recipe: see `offer`."""
    new_asked = Signal()
    reward_model_asked = Signal()
    """A reward model is to be trained."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Rewards", "See what rewards pay for before a model learns to earn them.")
        self._jobs = jobs
        self._session: Session | None = None
        """Follows the try that goes on."""
        self._tried = ""
        self._pipelines: list[Pipeline | None] = [None]
        self._make_controls(theme)
        self.banner = Banner(theme)
        self.view = BenchView(theme)
        self.view.hide()
        self._empty = EmptyState(
            "medal", "Nothing to try yet",
            "Choose a ready recipe above, or set rewards up in the wizard.", "Set some up", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.action_row.addWidget(self._open)
        self.score = ScoreView(jobs, theme)
        self.score.train_asked.connect(self.reward_model_asked)
        self._trial = self._make_trial()
        self.body.addWidget(self._make_tabs(), 0)
        self.body.addWidget(self._trial, 1)
        self.body.addWidget(self.score, 1)
        self.body.addStretch(0)
        self._on_tab(0)
        self._show_working(False)

    def _make_tabs(self) -> QTabBar:
        self.tabs = QTabBar()
        self.tabs.setObjectName("rewards-tabs")
        self.tabs.setDrawBase(False)
        self.tabs.setExpanding(False)
        for name in ("Try rewards", "Score answers"):
            self.tabs.addTab(name)
        self.tabs.currentChanged.connect(self._on_tab)
        return self.tabs

    def _make_trial(self) -> QWidget:
        trial = QWidget()
        column = QVBoxLayout(trial)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._make_card())
        column.addWidget(self.banner)
        column.addWidget(self.view)
        column.addWidget(self._empty, 4)
        column.addStretch(1)
        return trial

    def _on_tab(self, at: int) -> None:
        self._trial.setVisible(at == 0)
        self._open.setVisible(at == 0)
        self.score.setVisible(at == 1)
        if at == 0:
            self.score.leave()

    def _make_controls(self, theme: Theme) -> None:
        self.source = _box("bench-source", "Recipe")
        self.source.addItem(WIZARD)
        self.source.currentIndexChanged.connect(self._on_source_chosen)
        self.samples = _box("bench-samples", "Answers to sample")
        for words, number in SAMPLES:
            self.samples.addItem(words, number)
        self.about = label("", "muted", wrap=True)
        self.phase = label("", "muted")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.start = button("Try", theme, "play", kind="primary", name="start-bench")
        self.start.clicked.connect(self._on_start)
        self.cancel = button("Cancel", theme, "stop", name="cancel-bench")
        self.cancel.clicked.connect(self._on_cancel)
        self._open = button("Open recipe…", theme, "folder-open", name="open-bench-recipe")
        self._open.clicked.connect(self._on_open)

    def _make_card(self) -> QWidget:
        card = Card("What to try")
        choices = QHBoxLayout()
        choices.setSpacing(2 * SPACE)
        for words, widget, stretch in (("Recipe", self.source, 2), ("On", self.samples, 1)):
            column = QVBoxLayout()
            column.setSpacing(SPACE // 2)
            column.addWidget(label(words, "label"))
            column.addWidget(widget)
            choices.addLayout(column, stretch)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.start)
        row.addWidget(self.cancel)
        row.addWidget(self.phase, 1)
        card.body.addLayout(choices)
        card.body.addWidget(self.about)
        card.body.addLayout(row)
        card.body.addWidget(self.progress)
        return card

    # What to try

    def showEvent(self, event: Any) -> None:
        if len(self._pipelines) == 1:
            for path in sorted((assets_folder() / "recipes").glob("*.toml")):
                self._add_file(path)
            self._take_up_last()
        self.wizard_asked.emit()
        super().showEvent(event)

    def offer(self, pipeline: Pipeline) -> None:
        """Takes the wizard's present recipe, with the stages that are to follow it."""
        self._pipelines[0] = pipeline
        self._on_source_chosen()

    def receive(self, request: object) -> None:
        if isinstance(request, Recipe):
            self.open_recipe(request)

    def open_recipe(self, recipe: Recipe) -> None:
        """Shows a recipe of the wizard as what is to be tried."""
        self.banner.hide()
        self.tabs.setCurrentIndex(0)
        self.offer(Pipeline(name=recipe.name, stages=[recipe]))
        self.source.setCurrentIndex(0)

    def _add_file(self, path: Path) -> int | None:
        """Offers a file if it has rewards to try; returns its place."""
        try:
            pipeline = read_pipeline(path, root_of=self._jobs.root_of)
            with_rewards(pipeline)
        except Refusal:
            return None
        self._pipelines.append(pipeline)
        self.source.addItem(pipeline.name)
        return self.source.count() - 1

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open recipe", "", "Recipes (*.toml)")
        if path:
            self.open_file(Path(path))

    def open_file(self, path: Path) -> None:
        """Offers a recipe file and chooses it; says why where it has nothing to try."""
        self.banner.hide()
        try:
            with_rewards(read_pipeline(path))
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        if (place := self._add_file(path)) is not None:
            self.source.setCurrentIndex(place)

    @property
    def recipe(self) -> Recipe | None:
        """What would be tried: the chosen recipe's first stage with rewards."""
        pipeline = self._pipelines[max(0, self.source.currentIndex())]
        try:
            return with_rewards(pipeline) if pipeline is not None else None
        except Refusal:
            return None

    def _on_source_chosen(self) -> None:
        recipe = self.recipe
        self.about.setText(in_words(recipe) if recipe else "This recipe has no rewards yet.")
        self.start.setEnabled(recipe is not None and self._session is None)
        self._show_empty()

    def _show_empty(self) -> None:
        nothing = self.recipe is None and self.view.result is None
        self._empty.setVisible(nothing and self._session is None)

    # A try

    def _on_start(self) -> None:
        if self.recipe is None:
            return
        self.banner.hide()
        try:
            job = self._jobs.bench(self.recipe, self.samples.currentData())
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        self._tried = self.recipe.name
        self._follow(job)

    def _follow(self, job: str) -> None:
        self._session = Session(self._jobs, job)
        self._session.on(Phase, self._on_phase).on(Progress, self._on_progress)
        self._session.on(Failed, self._on_failed).on(Benched, self._on_benched)
        self._session.on(Ending, self._on_ended)
        self._show_working(True)

    def _take_up_last(self) -> None:
        """Shows the newest try that any studio made here, or follows it while it goes on."""
        rows = self._jobs.store.jobs("bench")
        row = max(rows, key=lambda row: (row.live, row.created), default=None)
        if row is None or self._session is not None or self.view.result is not None:
            return
        folder = self._jobs.folder(row.id)
        try:
            task = wire.read_job(folder).task
        except Refusal:
            return
        self._tried = task.recipe.name if isinstance(task, Bench) else row.name
        if row.live:
            self._follow(row.id)
            self.phase.setText(row.phase)
        for line in self._jobs.store.lines(row.id):
            if isinstance(line.event, Benched):
                self._on_benched(line.event)

    def _on_cancel(self) -> None:
        if self._session is not None:
            self._session.stop(BRIEF_GRACE_S)
        self.cancel.setEnabled(False)
        self.phase.setText("Stopping")

    def _show_working(self, working: bool) -> None:
        self.progress.setRange(0, 0)
        self.progress.setVisible(working)
        self.cancel.setVisible(working)
        self.cancel.setEnabled(True)
        self.phase.setText("Starting" if working else "")
        for widget in (self.source, self.samples, self._open):
            widget.setEnabled(not working)
        self._on_source_chosen()

    def refresh(self) -> None:
        self.score.refresh()

    def leave(self) -> None:
        self.score.leave()

    def _on_phase(self, phase: Phase) -> None:
        self.progress.setRange(0, 0)
        self.phase.setText(phase.name)

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setRange(0, progress.total)
        self.progress.setValue(progress.done)

    def _on_failed(self, failed: Failed) -> None:
        self.banner.tell(failed.what, failed.cause, failed.remedy)

    def _on_benched(self, benched: Benched) -> None:
        result = benched.result
        self.view.show_result(result, f"{self._tried}: {_extent(result)}")
        self.view.show()

    def _on_ended(self, ending: Ending) -> None:
        self._session = None
        self._show_working(False)
        if ending.status == "failed" and self.banner.isHidden():  # it left no last word
            self.banner.tell("The rewards could not be tried.", ending.cause, ending.remedy)


def _box(name: str, words: str) -> ComboBox:
    box = ComboBox(name, words, least_letters=16)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def in_words(recipe: Recipe) -> str:
    """What a try of the recipe looks at."""
    names = zip(names_of(recipe.rewards), recipe.rewards, strict=True)
    rewards = ", ".join(f"{name} (weight {reward.weight:g})" for name, reward in names)
    sources = [source.source.removeprefix("builtin:") for source in recipe.data]
    data = ", ".join(source.rpartition("/")[2] for source in sources) or "no data yet"
    return f"{recipe.name}: {rewards}; on questions from {data}, answered by {recipe.model.base}."


def _extent(result: Any) -> str:
    probes = f"{len(result.probes)} kinds of adversarial and right answers"
    if not result.samples:
        return f"tried on {probes}."
    return f"tried on {probes} and {result.samples} answers to {result.prompts} questions."
