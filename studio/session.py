"""Following one job: what it says comes to typed handlers, on the clock of whoever polls the jobs.

    session = Session.start(jobs, Chat(model=path))
    session.on(Token, show_piece).on(Ending, show_end)
    session.send(Say(messages=messages))
    session.close()

Knows no toolkit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
import psutil

from studio.jobs import STOP_GRACE_S, Jobs, JobUpdate
from studio.records import Status
from workers.protocol.jobs import AnyTask, OwnedTask
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Request

BRIEF_GRACE_S = 2.0
"""How long a job that has nothing to save may take to end."""
T = TypeVar("T")


class Ending(NamedTuple):
    """How a job ended, or that it was paused."""

    status: Status
    cause: str
    """Why it failed; empty where it did not."""
    remedy: str


class Session:
    """One job, from now on.

    Handlers are called within `Jobs.poll`, when the store has what they are called with. A session
    ends by itself with its job, unless that may be resumed.
    """

    def __init__(self, jobs: Jobs, job: str) -> None:
        """Follows a job that somebody has started; closing leaves it running."""
        self.job = job
        self._jobs = jobs
        self._handlers: dict[type, list[Callable[[Any], None]]] = {}
        self._grace_s: float | None = None
        self._temporary = False
        self._leave = jobs.subscribe(job, self._on_update)

    @classmethod
    def start(
        cls, jobs: Jobs, task: AnyTask, name: str = "", parent: str | None = None, *,
        grace_s: float = BRIEF_GRACE_S, temporary: bool = False,
    ) -> Self:  # fmt: skip
        """Starts a job and follows it. An `OwnedTask` ends when the session is closed, or when this
        process is gone.

        Args:
            grace_s: how long an owned job may take to end when the session is closed.
            temporary: the job's folder is deleted once it has ended.

        Raises:
            Refusal: no worker can be started.
        """
        if isinstance(task, OwnedTask):
            me = psutil.Process(os.getpid())
            task = msgspec.structs.replace(task, owner_pid=me.pid, owner_started=me.create_time())
        session = cls(jobs, jobs.start(task, name, parent))
        session._grace_s = grace_s if isinstance(task, OwnedTask) else None
        session._temporary = temporary
        return session

    def on(self, kind: type[T], handler: Callable[[T], None]) -> Self:
        """Has a handler called with what the job says of a kind.

        Args:
            kind: a type of event, or `Event` for all of them; `wire.Line` for each event with its
                number and time; `Rung` for how far a stop went; `Ending`.
        """
        self._handlers.setdefault(kind, []).append(handler)
        return self

    def send(self, request: Request) -> None:
        """Asks something of the job; raises `Refusal` where that cannot be written."""
        self._jobs.send(self.job, request)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Asks the job to stop and goes on following it; see `Jobs.stop`."""
        self._jobs.stop(self.job, grace_s)

    def close(self) -> None:
        """Calls no handler any more, and ends a job that is owned."""
        self._handlers.clear()
        if self._grace_s is not None:
            self.stop(self._grace_s)
        if not self._temporary:
            self._leave()

    def _on_update(self, update: JobUpdate) -> None:
        for line in update.lines:
            self._call(line)
            self._call(line.event)
        if update.rung is not None:
            self._call(update.rung)
        if update.status != "running":
            self._end(update.status)

    def _call(self, said: object) -> None:
        for kind in type(said).__mro__:
            for handler in list(self._handlers.get(kind, ())):
                handler(said)

    def _end(self, status: Status) -> None:
        row = self._jobs.store.job(self.job)
        ending = Ending(status, *self._jobs.failure(self.job))
        self._grace_s = None
        if row is None or not row.may_resume:
            self._leave()
        if self._temporary:
            _delete(self._jobs, self.job)
        self._call(ending)


def delete_ended(jobs: Jobs, kind: str) -> None:
    """Deletes the folders of a kind of job that ended after their studio was gone."""
    for row in jobs.store.jobs(kind):
        if not row.live:
            _delete(jobs, row.id)


def _delete(jobs: Jobs, job: str) -> None:
    with contextlib.suppress(Refusal, OSError):
        jobs.delete(job)
