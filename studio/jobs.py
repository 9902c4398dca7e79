"""Jobs: start, ask, stop, poll, recover. The only writer of the store. Knows no toolkit.

`poll` is called on the owner's clock, the window's timer or the headless loop; it reads what
the workers appended since the last call, hands it to those who follow the jobs (studio/session.py)
and never waits for anything.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from studio.folders import JobFolders, delete_folder, slug, writing_to
from studio.paths import Home
from studio.pipelines import follow_up, next_stage
from studio.process import Rung, StopLadder, Worker, disown, launch
from studio.records import JobRow, Status
from studio.settings import Settings
from studio.store import Store
from studio.tasks import RUN, keep_template, name_of, prepared, run_by_id, with_paths
from workers.protocol import wire
from workers.protocol.checkpoints import last_step
from workers.protocol.jobs import AnyTask, Bench, Job, Train
from workers.protocol.pipeline import Pipeline, chain_of, with_models
from workers.protocol.recipe import Recipe, check_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Pause, Request, Resume, Stop
from workers.protocol.resume import Proposal, changed, rungs

STOP_GRACE_S = 60.0
"""How long a worker may take to save before it is ended."""
SCAN_EVERY_S = 2.0
"""How often the jobs folder is looked at for jobs that another process started."""


class JobUpdate(msgspec.Struct, frozen=True):
    """What one job said, or came to, since the last poll."""

    job: str
    lines: list[wire.Line]
    status: Status
    rung: Rung | None = None
    """Set when a stop went one rung up."""


Receive = Callable[[JobUpdate], None]


class Jobs:
    """Every job under one home, seen from one studio."""

    def __init__(self, home: Home, store: Store, settings: Settings) -> None:
        self.home = home
        self.store = store
        self.settings = settings
        self.folders = JobFolders(home, store)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._workers: dict[str, Worker] = {}
        self._followers: dict[str, wire.Follower[wire.Line]] = {}
        self._ladders: dict[str, StopLadder] = {}
        self._receivers: dict[str | None, list[Receive]] = {}
        self._scanned = float("-inf")

    # Starting

    def train(self, recipe: Recipe, then: Sequence[Recipe] = ()) -> str:
        """Starts a training run, to be followed by others; returns its id."""
        check_recipe(recipe)
        recipe = with_models(recipe, self._run_by_id)
        base = recipe.model.base
        parent = base.removeprefix(RUN) if base.startswith(RUN) else None
        followers = [with_paths(follower) for follower in then]
        return self.start(Train(recipe=recipe), recipe.name, parent, followers)

    def train_all(self, pipeline: Pipeline) -> str:
        """Starts the first stage of a pipeline; polling starts each next one. Returns its id."""
        first, *rest = pipeline.stages
        return self.train(first, rest)

    def recipe_of(self, run: str) -> Recipe | None:
        """What a run was trained by; None for another job. Raises `Refusal` where there is none."""
        task = wire.read_job(self.folder(self.find(run).id)).task
        return task.recipe if isinstance(task, Train) else None

    def root_of(self, base: str) -> str:
        """The model at the beginning of a chain of runs; empty where a run does not say."""
        return chain_of(base, self.recipe_of)[0]

    def bench(self, recipe: Recipe, samples: int = 64) -> str:
        """Starts a try of a recipe's rewards; returns its id."""
        check_recipe(recipe)
        return self.start(Bench(recipe=recipe, samples=samples))

    def _run_by_id(self, model: str) -> str:
        return run_by_id(model, self._id_of)

    def _id_of(self, named: str) -> str:
        return self.find(named).id

    def next_stage(self, job: str) -> str | None:
        """The run that followed a run of a pipeline, once it has been started."""
        return next_stage(self.folder(job))

    def start(
        self, task: AnyTask, name: str = "", parent: str | None = None, then: Sequence[Recipe] = ()
    ) -> str:
        """Writes the job's folder and starts its worker; returns the job's id.

        Raises:
            Refusal: no space, no interpreter for the engine, a folder that cannot be written, or a
                run that the task names is not there.
        """
        task = prepared(task, self._id_of)
        self.home.make().require_space()
        recipe = task.recipe if isinstance(task, Train) else None
        interpreter = self.settings.interpreter_for(recipe)
        job = self._new_job(task, name or name_of(task), parent, list(then), interpreter)
        self._launch(job)
        return job.id

    def resume(self, job: str, settings: Mapping[str, Any] | None = None) -> int:
        """Starts the worker again for a run that is paused, failed or died.

        Args:
            settings: key path to another value than the run had so far.

        Returns:
            The step of the checkpoint that it goes on from; 0 where there is none and it begins
            from the start.
        """
        row = self.find(job)
        if not row.may_resume:
            raise Refusal(
                f"The run {row.id} cannot go on.",
                f"It is {row.status}; only a paused run, or one that failed or whose process died, "
                "can go on."
                if row.kind == "train"
                else f"It is no training run but a job of kind '{row.kind}'.",
                f"Start a new run from it with model.base = 'run:{row.id}'.",
            )
        self.home.require_space()
        folder = self.folder(row.id)
        step = last_step(folder)
        asked = changed(wire.read_job(folder), settings or {}, step)
        limit = self.settings.pause_above_celsius
        asked = msgspec.structs.replace(asked, pause_above_celsius=limit)
        (folder / wire.ALIVE).unlink(missing_ok=True)  # the dead one's
        with writing_to(folder):
            wire.write_job(folder, asked)  # anew, so that other studios wait for the new worker
        self.send(row.id, Resume())
        self._launch(asked)
        self.store.set_status(row.id, "running")
        return step

    def resume_proposal(self, job: str) -> Proposal:
        """What a run would go on from and with; with less memory where that ran out."""
        asked = wire.read_job(self.folder(job))
        assert isinstance(asked.task, Train)
        recipe, row = asked.task.recipe, self.store.job(job)
        short = row is not None and row.short_of_memory
        ways = rungs(recipe, asked.resolved) if short else []
        settings = ways[0].settings if ways else {}
        return Proposal(job, recipe, last_step(self.folder(job)), settings, ways)

    def _new_job(
        self, task: AnyTask, name: str, parent: str | None, then: list[Recipe], interpreter: str
    ) -> Job:
        now = datetime.now(UTC)
        folder = self.folders.create(f"{now:%Y-%m-%dT%H-%M-%S}-{slug(name)}")
        job = Job(
            id=folder.name,
            name=name,
            created=now.isoformat(timespec="seconds"),
            home=str(self.home.root),
            task=task,
            parent=parent,
            then=then,
            interpreter=interpreter,
            pause_above_celsius=self.settings.pause_above_celsius,
        )
        try:
            with writing_to(folder):
                keep_template(task, folder)
                wire.write_job(folder, job)
        except Refusal:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def _launch(self, job: Job) -> None:
        folder = self.folder(job.id)
        try:
            child = launch(folder, job.interpreter)
        except OSError as fault:
            raise Refusal(
                f"The worker could not be started with {job.interpreter}: {fault.strerror}.",
                "That Python may have been moved or removed.",
                "Set the project up again, or mend [interpreters] in settings.toml.",
            ) from fault
        if earlier := self._children.pop(job.id, None):
            disown(earlier)  # a paused worker may still be on its way out
        self._children[job.id] = child
        self._workers[job.id] = Worker(folder, child)
        self.store.add(job)

    def has_child(self, job: str) -> bool:
        """Whether a worker that this studio started is still there, or not yet known to be gone."""
        return job in self._children

    def close(self) -> None:
        """Leaves the workers that still run to themselves: they are meant to outlive us."""
        for child in self._children.values():
            disown(child)
        self._children.clear()

    # Asking

    def send(self, job: str, request: Request) -> None:
        """Asks something of a job; raises `Refusal` where that cannot be written."""
        with writing_to(self.folder(job)):
            wire.append_request(self.folder(job), request)

    def failure(self, job: str) -> tuple[str, str]:
        """Why a job failed and what to do now; both empty where it did not."""
        row = self.store.job(job)
        return (row.cause, row.remedy) if row is not None and row.status == "failed" else ("", "")

    def pause(self, job: str) -> None:
        """Asks a run to rest at a checkpoint; `resume` goes on from there."""
        self.send(job, Pause())

    def stop(self, job: str, grace_s: float = STOP_GRACE_S) -> None:
        """Asks a job to stop; polling then climbs the ladder while it does not.

        Raises:
            Refusal: a training run cannot be asked, and ending it unasked would lose its work. Any
                other job is ended all the same.
        """
        if job in self._ladders:
            return
        try:
            self.send(job, Stop())
        except Refusal:
            row = self.store.job(job)
            if row is not None and row.kind == "train":
                raise
        self._ladders[job] = StopLadder(self._worker(job), grace_s, time.monotonic())

    # Following

    def subscribe(self, job: str | None, receive: Receive) -> Callable[[], None]:
        """Has a function called by `poll` with each update of a job; None means of every job.

        Returns:
            What ends that.
        """
        receivers = self._receivers.setdefault(job, [])
        receivers.append(receive)

        def leave() -> None:
            if receive in receivers:
                receivers.remove(receive)
            if not receivers and self._receivers.get(job) is receivers:
                del self._receivers[job]

        return leave

    def poll(self, limit_bytes: int = 128 * 1024) -> list[JobUpdate]:
        """What was said and what ended since the last call; reads at most so much a job.

        Those who follow a job get its update first, when it is in the store already.
        """
        now = time.monotonic()
        if now - self._scanned >= SCAN_EVERY_S:
            self._scanned = now
            if self.store.in_memory:
                self.folders.return_to_disk()
            self.folders.index_new()
            self.folders.index_restarted()
        live = self.store.live()
        self._reap({row.id for row in live})
        read = [self._read(row, limit_bytes, now) for row in live]
        updates = [update for update in read if update is not None]
        for update in updates:
            for key in (update.job, None):
                for receive in list(self._receivers.get(key, ())):
                    receive(update)
        return updates

    def _reap(self, live: set[str]) -> None:
        """Lets go of children that have ended and whose end is known."""
        for job, child in list(self._children.items()):
            if job not in live and child.poll() is not None:
                del self._children[job]

    def _read(self, row: JobRow, limit_bytes: int, now: float) -> JobUpdate | None:
        lives = self._worker(row.id).lives  # before reading: the last words of the dead are read
        follower = self._follower(row)
        before = follower.cursor
        lines = list(follower.read(limit_bytes))
        if lines or follower.cursor != row.cursor:
            self.store.apply(row.id, lines, follower.cursor)
        rung = self._ladders[row.id].climb(now) if row.id in self._ladders else None
        if not lives and (not follower.behind or follower.cursor == before):
            self._close(row.id)  # what is behind and not read is a line that was cut off
        after = self.store.job(row.id)
        if after is None or not (lines or rung or after.status != row.status):
            return None
        if not after.live:
            self._ladders.pop(row.id, None)
        if after.status == "finished" and row.kind == "train":
            follow_up(self.folder(row.id), self.store, self.train)
        return JobUpdate(row.id, lines, after.status, rung)

    def _close(self, job: str) -> None:
        """Settles the status of a job whose process is gone."""
        row = self.store.job(job)
        if row is None or not row.live:
            return
        ladder = self._ladders.get(job)
        if ladder is not None and ladder.rung is not Rung.ASKED:
            self.store.set_status(job, "stopped", f"The worker {ladder.rung.value}.")
            return
        outcome = self._worker(job).outcome()
        self.store.set_status(job, "failed", outcome.cause, outcome.remedy, outcome.kind)

    def _worker(self, job: str) -> Worker:
        return self._workers.setdefault(job, Worker(self.folder(job), self._children.get(job)))

    def _follower(self, row: JobRow) -> wire.Follower[wire.Line]:
        if row.id not in self._followers:
            self._followers[row.id] = wire.follow_events(self.folder(row.id), row.cursor)
        return self._followers[row.id]

    # Folders

    def folder(self, job: str) -> Path:
        return self.folders.path(job)

    def find(self, named: str) -> JobRow:
        """The job with that id, or the newest with that name or that start of an id."""
        rows = self.store.jobs()
        exact = [row for row in rows if row.id == named]
        by_name = [row for row in rows if named in (row.name, slug(row.name))]
        by_start = [row for row in rows if named and row.id.startswith(named)]
        for found in (exact, [r for r in by_name if r.kind == "train"] or by_name, by_start):
            if found:
                return found[0]
        raise Refusal(
            f"There is no run called '{named}' in {self.home.jobs}.",
            "It may be misspelt, deleted, or under another home.",
            "List the runs with: python -m studio runs",
        )

    def recover(self) -> None:
        """Takes up every job that the folders hold, and forgets those whose folder is gone."""
        self.folders.index_new()
        for gone in self.folders.gone():
            self._forget(gone)

    def rebuild(self) -> int:
        """Makes the index anew from the folders; returns how many jobs it holds."""
        self.store.clear()
        self._followers.clear()
        self.recover()
        self.catch_up()
        return len(self.store.ids())

    @property
    def index_fault(self) -> Refusal | None:
        """Why the index is kept in memory for now; None while it is on the disk."""
        return self.folders.fault

    def catch_up(self) -> None:
        """Reads on until everything said so far is in the store."""
        self.folders.index_restarted()
        while any(self._follower(row).behind for row in self.store.live()):
            self.poll(limit_bytes=8 << 20)
            self.folders.index_restarted()
        self.poll()

    def delete(self, job: str) -> None:
        """Deletes an ended job's folder and all that is in it."""
        row = self.find(job)
        if row.live:
            raise Refusal(
                f"The run {row.id} is still going.", "It writes to its folder.", "Stop it first."
            )
        delete_folder(self.folder(row.id))
        self._forget(row.id)

    def _forget(self, job: str) -> None:
        """Drops all that is known of a job; its folder's name may be used again."""
        self.store.remove(job)
        self._workers.pop(job, None)
        self._followers.pop(job, None)
        self._ladders.pop(job, None)
        if child := self._children.pop(job, None):
            disown(child)
