"""The studio without a window: starts jobs, follows them to their end, and tells what came out.

The same objects as the window has, on a loop instead of a timer. Knows no toolkit and no verbs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from studio.jobs import Jobs
from studio.paths import find_home
from studio.settings import load_settings
from studio.store import JobRow, Store
from studio.terminal import Follow, Terminal
from workers.protocol import wire
from workers.protocol.audit import AuditResult
from workers.protocol.bench import BenchResult
from workers.protocol.events import Answered, Artifact, Benched, Checked, Event, Inspected, Ready
from workers.protocol.jobs import AnyTask, Chat, Export, Inspect
from workers.protocol.pipeline import Pipeline, read_pipeline
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say

POLL_EVERY_S = 0.1
Told = TypeVar("Told", bound=Event)


class Headless:
    """One home, one store, one terminal."""

    def __init__(self, jobs: Jobs, terminal: Terminal) -> None:
        self.jobs = jobs
        self.terminal = terminal
        self._in_memory = False

    def read(self, recipe: Path) -> Pipeline:
        """A recipe or a pipeline from its file; says which of its keys have other names now."""
        return read_pipeline(recipe, say=self.terminal.say, root_of=self.jobs.root_of)

    def do(self, task: AnyTask, name: str, parent: str | None = None) -> JobRow:
        """Starts a job and follows it to its end."""
        return self.follow(self.jobs.start(task, name, parent))

    def follow(self, job: str, heard: Callable[[Event], None] | None = None) -> JobRow:
        """Shows a job until it ends. Ctrl-C asks it to stop; a second one leaves it running."""
        with Follow(self.terminal) as show:
            asked = False
            while True:
                try:
                    for event in self._events(job):
                        show.show(event)
                        if heard is not None:
                            heard(event)
                    if not (row := self._row(job)).live:
                        return row
                    time.sleep(POLL_EVERY_S)
                except KeyboardInterrupt:
                    if asked:
                        self.terminal.say(f"Left. The run goes on; see: studio show {job}")
                        raise
                    asked = True
                    self.terminal.say("Stopping; the work so far is saved. Ctrl-C again leaves it.")
                    self.jobs.stop(job)

    def follow_all(self, job: str) -> list[JobRow]:
        """Shows a run and all that follow it in its pipeline; ends at one that did not finish."""
        rows = [self.follow(job)]
        while rows[-1].status == "finished" and (after := self.jobs.next_stage(rows[-1].id)):
            self.terminal.say(f"{rows[-1].cause} Next stage: {after}")
            rows.append(self.follow(after))
        return rows

    def _events(self, job: str) -> Iterator[Event]:
        heard = self.jobs.poll()
        self._tell_index_fault()
        for news in heard:
            if news.job == job:
                yield from (line.event for line in news.lines)

    def _tell_index_fault(self) -> None:
        """Says once that the index cannot be written, and once that it can again."""
        fault = self.jobs.index_fault
        if self._in_memory != (fault is not None):
            self._in_memory = fault is not None
            self.terminal.say(str(fault) if fault else "There is room on the disk again.")

    def _row(self, job: str) -> JobRow:
        row = self.jobs.store.job(job)
        if row is None:
            raise Refusal(
                f"The folder of {job} is gone.", "It was deleted while it ran.", "Start it again."
            )
        return row

    # What verbs tell

    def story(self, row: JobRow) -> dict[str, Any]:
        """One run as `show` tells it."""
        first, last = self.jobs.store.first_and_last(row.id)
        return {
            "run": row.id,
            "name": row.name,
            "stage": row.stage,
            "status": row.status,
            "cause": row.cause,
            "remedy": row.remedy,
            "steps": row.steps,
            "parent": row.parent,
            "created": row.created,
            "seconds": row.seconds,
            "findings": [msgspec.structs.asdict(one) for one in self.jobs.store.findings(row.id)],
            "folder": str(self.jobs.folder(row.id)),
            "metrics": last,
            "first": first,
            "last": last,
            "evaluation": self.evaluation(row.id),
        }

    def evaluation(self, job: str) -> dict[str, Any] | None:
        """Held-out scores by moment: `before`, `after`, and the last one `during`."""
        found = self.jobs.store.evaluations(job)
        return {one.moment: {**one.scores, "rows": one.rows} for one in found} or None

    def export(self, run: JobRow, targets: list[str]) -> tuple[JobRow, dict[str, Any]]:
        """Exports a run; returns the export job and what it made and found."""
        files: list[dict[str, Any]] = []
        parity: list[dict[str, Any]] = []

        def heard(event: Event) -> None:
            match event:
                case Artifact(path=path, kind=kind, bytes=size):
                    files.append({"path": path, "kind": kind, "bytes": size})
                case Checked(check=check, passed=passed, detail=detail, remedy=remedy):
                    parity.append({"check": check, "passed": passed, "detail": detail,
                                   "remedy": remedy})  # fmt: skip

        task = Export(run_folder=str(self.jobs.folder(run.id)), targets=targets)
        row = self.follow(self.jobs.start(task, f"export {run.name}", run.id), heard)
        ok = row.status == "finished" and all(check["passed"] for check in parity)
        return row, {"run": run.id, "ok": ok, "files": files, "parity": parity}

    def bench(self, recipe: Recipe, samples: int) -> tuple[JobRow, BenchResult | None]:
        """Tries a recipe's rewards; returns the job and what it found."""
        row, told = self._told(self.jobs.bench(recipe, samples), Benched)
        return row, told.result if told else None

    def inspect(self, task: Inspect) -> tuple[JobRow, AuditResult | None]:
        """Audits a dataset; returns the job and what it found."""
        row, told = self._told(self.jobs.inspect(task), Inspected)
        return row, told.result if told else None

    def _told(self, job: str, kind: type[Told]) -> tuple[JobRow, Told | None]:
        """Follows a job to its end; returns its first event of a kind too."""
        found: list[Told] = []

        def heard(event: Event) -> None:
            if isinstance(event, kind):
                found.append(event)

        row = self.follow(job, heard)
        return row, found[0] if found else None

    @contextmanager
    def conversation(self, model: Path) -> Iterator[Conversation]:
        """A loaded model to talk to; its job ends with the context."""
        me = psutil.Process(os.getpid())
        task = Chat(model=str(model), owner_pid=me.pid, owner_started=me.create_time())
        job = self.jobs.start(task, "chat")
        try:
            talk = Conversation(self, job)
            talk.wait_for(Ready)
            yield talk
        finally:
            self.jobs.stop(job, grace_s=5.0)
            while self._row(job).live:
                self.jobs.poll()
                time.sleep(POLL_EVERY_S)


class Conversation:
    """A chat job that listens."""

    def __init__(self, headless: Headless, job: str) -> None:
        self._headless = headless
        self._job = job

    def say(self, messages: list[dict[str, str]], **sampling: Any) -> Answered:
        """Asks and waits for the whole answer; its pieces are shown as they come."""
        self._headless.jobs.tell(self._job, Say(messages=messages, **sampling))
        answered = self.wait_for(Answered)
        assert isinstance(answered, Answered)
        return answered

    def wait_for(self, kind: type[Event]) -> Event:
        """The next event of a kind; raises `Refusal` when the job ends before it."""
        with Follow(self._headless.terminal) as show:
            while True:
                found: Event | None = None
                for event in self._headless._events(self._job):
                    show.show(event)
                    found = event if isinstance(event, kind) else found
                if found is not None:
                    return found
                row = self._headless._row(self._job)
                if not row.live:
                    raise Refusal(
                        f"The chat ended: {row.cause or row.status}",
                        f"Its log: {self._headless.jobs.folder(self._job) / wire.LOG}",
                        row.remedy or "Try again.",
                    )
                time.sleep(POLL_EVERY_S / 2)


@contextmanager
def open_headless(home: Path | None, *, json: bool) -> Iterator[Headless]:
    """Opens home, settings and store for one verb."""
    where = find_home(home).make()
    store = Store(where.store)
    try:
        jobs = Jobs(where, store, load_settings(where.settings))
        jobs.recover()
        jobs.catch_up()
        yield Headless(jobs, Terminal(json=json))
        jobs.close()
    finally:
        store.close()
