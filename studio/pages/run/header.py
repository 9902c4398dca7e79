"""Where a run stands: its status, its phase and pace, how far it is, its score."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from studio.records import Evaluation, JobRow
from studio.theme import SPACE, Theme
from studio.widgets.notice import StatusPill
from studio.widgets.text import label
from workers.protocol.metrics import METRICS, SCORES

PACE_STEPS = 20
"""The pace is that of so many steps."""


class Pace:
    """How fast the last steps followed one another."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, int]] = []

    def add(self, at: float, step: int) -> None:
        """A step that ended at a time, in seconds since the epoch."""
        self._steps = [*self._steps[1 - PACE_STEPS :], (at, step)]

    def clear(self) -> None:
        self._steps.clear()

    def seconds_left(self, steps: int) -> float | None:
        """How long that many more steps take; None before the third step."""
        if len(self._steps) < 3:
            return None
        (began, first), (now, last) = self._steps[0], self._steps[-1]
        return (now - began) / max(last - first, 1) * steps - (time.time() - now)


class RunHeader(QWidget):
    """One line of words above a bar."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.pace = Pace()
        self.pill = StatusPill(theme)
        self.phase = label("", "muted")
        self.scores = label()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        state = QHBoxLayout()
        state.setSpacing(2 * SPACE)
        state.addWidget(self.pill)
        state.addWidget(self.phase, 1)
        state.addWidget(self.scores)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE + SPACE // 2)
        column.addLayout(state)
        column.addWidget(self.progress)

    def show_row(self, row: JobRow, evaluations: Sequence[Evaluation]) -> None:
        going_on = row.live or row.paused
        self.pill.show_status("waiting" if row.waits else row.status)
        self.phase.setText(self._phase_in_words(row) if going_on else "")
        self.progress.setRange(0, row.total_steps or 0)
        self.progress.setValue(row.steps)
        self.progress.setVisible(going_on)
        self.scores.setText(scores_in_words(evaluations))

    def _phase_in_words(self, row: JobRow) -> str:
        at = f"step {row.steps} of {row.total_steps}" if row.total_steps and row.steps else ""
        if row.paused:
            return at
        words = "  ·  ".join(filter(None, (row.phase or "Starting", at)))
        left_s = self.pace.seconds_left(row.total_steps - row.steps)
        if left_s is not None and row.phase == "Training":
            words += f"  ·  about {_span(left_s)} left"
        return words


def scores_in_words(evaluations: Sequence[Evaluation]) -> str:
    """The most telling score, before and after training or so far."""
    scores = {one.moment: one.scores for one in evaluations}
    for name in SCORES:
        words, form = METRICS[name].score, METRICS[name].score_form
        before, now, after = (scores.get(moment, {}).get(name)
                              for moment in ("before", "during", "after"))  # fmt: skip
        if before is None:
            continue
        words = f"{words} {form.format(before)}"
        if after is not None:
            return f"{words} → {form.format(after)}"
        return f"{words} → {form.format(now)} so far" if now is not None else words
    return ""


def _span(seconds: float) -> str:
    seconds = max(seconds, 0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
