"""What follows a finished run of a pipeline: its gate decides, and the next stage starts once.

Knows no toolkit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from studio.folders import writing_to
from studio.gate import decide
from studio.store import Store
from workers.protocol import wire
from workers.protocol.jobs import Train
from workers.protocol.pipeline import following
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

NEXT = "next"
"""The file in a run's folder that names the run that followed it; whoever makes it starts that."""
StartTraining = Callable[[Recipe, Sequence[Recipe]], str]
"""Starts a run that others are to follow; returns its id."""


def next_stage(folder: Path) -> str | None:
    """The run that followed a run of a pipeline, once it has been started."""
    path = folder / NEXT
    return path.read_text().strip() or None if path.is_file() else None


def follow_up(folder: Path, store: Store, start: StartTraining) -> None:
    """Starts the next stage after a finished run, if its gate lets it; once, whoever polls.

    What was decided is noted of the run by each who reads its end, so that an index made anew
    has it too.
    """
    asked = wire.read_job(folder)
    if not asked.then or not isinstance(asked.task, Train):
        return
    job, recipe = asked.id, asked.task.recipe
    verdict = decide(store.evaluations(job), recipe.evaluation.gate)
    if verdict.promotes:
        store.set_status(job, "finished", verdict.reason)
    else:
        by_hand = f"Start the next stage by hand with model.base = 'run:{job}'."
        remedy = f"{verdict.remedy} Or: {by_hand}" if verdict.remedy else by_hand
        store.set_status(job, "finished", f"The pipeline ends here. {verdict.reason}", remedy)
    then = following(asked.then, recipe.name, job) if verdict.promotes else []
    try:
        _start_next(folder, then, start)
    except Refusal as refusal:
        cause = f"The next stage could not start. {refusal.what} {refusal.cause}"
        store.set_status(job, "finished", cause, refusal.remedy)


def _start_next(folder: Path, then: Sequence[Recipe], start: StartTraining) -> None:
    """Starts the first of what is to follow a run, and leaves its id in the run's folder."""
    with writing_to(folder):
        try:
            marker = (folder / NEXT).open("x")
        except FileExistsError:
            return
        with marker:
            if then:
                marker.write(start(then[0], then[1:]))
