"""One dataset that is open to be looked at: its job, from the start to the deletion of its folder.

Knows no toolkit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import psutil

from studio.jobs import Jobs, JobUpdate
from workers.protocol.jobs import Browse
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Request

STOP_GRACE_S = 2.0
"""Nothing is to be saved: edits are on this side."""


class OpenDataset:
    """At most one at a time; the folders of those before it are deleted once they have ended."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._job = ""
        self._closing: set[str] = set()

    @property
    def job(self) -> str:
        """The job's id; empty while nothing is open."""
        return self._job

    def open(self, source: Source, model: str = "starter", max_length: int = 1024) -> None:
        """Starts the worker, in place of the one that is there.

        Raises:
            Refusal: no worker can be started.
        """
        self.close()
        me = psutil.Process(os.getpid())
        self._job = self._jobs.browse(Browse(
            source=source, owner_pid=me.pid, owner_started=me.create_time(), model=model,
            max_length=max_length,
        ))  # fmt: skip

    def ask(self, request: Request) -> None:
        if self._job:
            self._jobs.tell(self._job, request)

    def close(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        if self._job:
            self._jobs.stop(self._job, STOP_GRACE_S)
            self._closing.add(self._job)
        self._job = ""

    def hear(self, news: Sequence[JobUpdate]) -> list[JobUpdate]:
        """What is news of the open dataset."""
        for heard in news:
            if heard.job in self._closing and heard.status != "running":
                self._closing.discard(heard.job)
                self._delete(heard.job)
        return [heard for heard in news if self._job and heard.job == self._job]

    def end(self) -> tuple[str, str]:
        """Lets go of a job that has ended: why it failed and what to do, empty if it did not."""
        failure = self._jobs.failure(self._job)
        self._delete(self._job)
        self._job = ""
        return failure

    def tidy(self) -> None:
        """Deletes what was left by looks that ended with an earlier window."""
        for row in self._jobs.store.jobs("browse"):
            if not row.live:
                self._delete(row.id)

    def _delete(self, job: str) -> None:
        """Nobody wants to look at an ended look again."""
        with contextlib.suppress(Refusal, OSError):
            self._jobs.delete(job)
