"""The check of a dataset as a job: one at a time, followed from its start to its end."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from studio.jobs import Jobs
from studio.session import BRIEF_GRACE_S, Ending, Session
from workers.protocol.events import Event
from workers.protocol.jobs import Inspect


class Shown(Protocol):
    """What tells of a check."""

    def begin(self, source: str) -> None: ...
    def take(self, event: Event) -> None: ...
    def end(self, failure: Collection[str]) -> None: ...


class AuditRun:
    """Starts checks and hands on what the last one says."""

    def __init__(self, jobs: Jobs, shown: Shown) -> None:
        self._jobs, self._shown = jobs, shown
        self._session: Session | None = None

    def start(self, task: Inspect) -> None:
        """Checks a dataset, instead of the one before; raises `Refusal` where no job starts."""
        if self._session is not None:
            self._session.close()
        self._session = Session.start(self._jobs, task)
        self._shown.begin(task.source.source)
        self._session.on(Event, self._shown.take).on(Ending, self._on_ended)

    def cancel(self) -> None:
        if self._session is not None:
            self._session.stop(BRIEF_GRACE_S)

    def _on_ended(self, ending: Ending) -> None:
        self._shown.end((ending.cause, ending.remedy))
