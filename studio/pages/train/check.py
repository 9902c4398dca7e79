"""The check of a whole dataset before a run, in the wizard: as the draft's stage would read it."""

from __future__ import annotations

from PySide6.QtCore import Signal

from studio.audits import AuditRun
from studio.draft import DraftModel, recipe
from studio.jobs import Jobs
from studio.theme import Theme
from studio.widgets.checkcard import CheckCard
from workers.protocol.jobs import Inspect
from workers.protocol.pipeline import PREVIOUS
from workers.protocol.refusal import Refusal


class DatasetCheck(CheckCard):
    """Checks one of the draft's datasets as the draft's stage would read it."""

    refused = Signal(object)
    """A `Refusal`: the check cannot be started."""

    def __init__(self, jobs: Jobs, model: DraftModel, theme: Theme) -> None:
        super().__init__(theme, ("skip", "length"))
        self._model = model
        self._run = AuditRun(jobs, self)
        self.asked.connect(self._on_asked)
        self.cancelled.connect(self._run.cancel)
        self.view.skip_asked.connect(self._on_skip)

    def _on_asked(self, source: str) -> None:
        task = self._task(source)
        if task is None:
            return
        try:
            self._run.start(task)
        except Refusal as refusal:
            self.refused.emit(refusal)

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
