"""The check of a whole dataset before a run, in the wizard: its job, from its start to its end."""

from __future__ import annotations

from PySide6.QtCore import Signal

from studio.draft import DraftModel, recipe
from studio.jobs import Jobs
from studio.session import BRIEF_GRACE_S, Ending, Session
from studio.theme import Theme
from studio.widgets.checkcard import CheckCard
from workers.protocol.events import Event
from workers.protocol.jobs import Inspect
from workers.protocol.pipeline import PREVIOUS
from workers.protocol.refusal import Refusal


class DatasetCheck(CheckCard):
    """Checks one of the draft's datasets as the draft's stage would read it."""

    refused = Signal(object)
    """A `Refusal`: the check cannot be started."""

    def __init__(self, jobs: Jobs, model: DraftModel, theme: Theme) -> None:
        super().__init__(theme, ("skip", "length"))
        self._jobs = jobs
        self._model = model
        self._session: Session | None = None
        """Follows the job that looks at a dataset now, or did last."""
        self.asked.connect(self._on_asked)
        self.cancelled.connect(self._on_cancelled)
        self.view.skip_asked.connect(self._on_skip)

    def _on_asked(self, source: str) -> None:
        task = self._task(source)
        if task is None:
            return
        if self._session is not None:
            self._session.close()
        try:
            self._session = Session.start(self._jobs, task)
        except Refusal as refusal:
            self.refused.emit(refusal)
            return
        self.begin(source)
        self._session.on(Event, self.take).on(Ending, self._on_ended)

    def _task(self, source: str) -> Inspect | None:
        asked = recipe(self._model.draft)
        given = next((one for one in asked.data if one.source == source), None)
        base = asked.model.base if asked.model.base != PREVIOUS else "starter"
        return given and Inspect(
            source=given, model=base, stage=asked.stage, test=asked.evaluation.test,
            max_length=asked.training.max_length, too_long=asked.training.too_long,
            template=asked.model.template, thinking=asked.model.thinking,
            reasoning_effort=asked.model.reasoning_effort, reasoning=asked.training.reasoning,
            max_rows=asked.evaluation.max_rows,
        )  # fmt: skip

    def _on_skip(self) -> None:
        """Leaves out rows that cannot be used, instead of refusing them."""
        result = self.view.result
        if result is not None:
            self._model.become(self._model.draft.with_bad_rows_skipped(result.source))

    def _on_cancelled(self) -> None:
        if self._session is not None:
            self._session.stop(BRIEF_GRACE_S)

    def _on_ended(self, ending: Ending) -> None:
        self.end((ending.cause, ending.remedy))
