"""Jobs: start, tell, stop, poll, recover. The only writer of the store. Knows no toolkit.

`poll` is called on the owner's clock, the window's timer or the headless loop; it reads what
the workers appended since the last call and never waits for anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from studio.paths import Home
from studio.process import Rung, StopLadder, Worker, disown, launch
from studio.settings import Settings
from studio.store import JobRow, Status, Store
from workers.protocol import wire
from workers.protocol.jobs import AnyTask, Job, Train
from workers.protocol.recipe import Recipe, Source, check_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Request

STOP_GRACE_S = 60.0
"""How long a worker may take to save before it is ended."""
SCAN_EVERY_S = 2.0
"""How often the jobs folder is looked at for jobs that another process started."""


class Heard(msgspec.Struct, frozen=True):
    """What one job said, or came to, since the last poll."""

    job: str
    lines: list[wire.Line]
    status: Status
    rung: Rung | None = None
    """Set when a stop went one rung up."""


class Jobs:
    """Every job under one home, seen from one studio."""

    def __init__(self, home: Home, store: Store, settings: Settings) -> None:
        self.home = home
        self.store = store
        self.settings = settings
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._workers: dict[str, Worker] = {}
        self._followers: dict[str, wire.Follower[wire.Line]] = {}
        self._ladders: dict[str, StopLadder] = {}
        self._scanned = float("-inf")

    # Starting

    def train(self, recipe: Recipe) -> str:
        """Starts a training run; returns its id."""
        check_recipe(recipe)
        parent = None
        if recipe.model.base.startswith("run:"):
            parent = self.find(recipe.model.base.removeprefix("run:")).id
            model = msgspec.structs.replace(recipe.model, base=f"run:{parent}")
            recipe = msgspec.structs.replace(recipe, model=model)
        recipe = msgspec.structs.replace(recipe, data=[_absolute(s) for s in recipe.data])
        return self.start(Train(recipe=recipe), recipe.name, parent)

    def start(self, task: AnyTask, name: str, parent: str | None = None) -> str:
        """Writes the job's folder and starts its worker; returns the job's id.

        Raises:
            Refusal: no space, no interpreter for the engine, or a folder that cannot be written.
        """
        self.home.make().require_space()
        engine = task.recipe.model.engine if isinstance(task, Train) else "auto"
        interpreter = self.settings.interpreter_for(engine)
        job = self._new_job(task, name, parent, interpreter)
        self._launch(job)
        return job.id

    def resume(self, job: str) -> None:
        """Starts the worker again for a run that died; it goes on from its last checkpoint."""
        row = self.find(job)
        if row.status != "failed" or wire.ending(wire.read_events(self.folder(row.id))):
            raise Refusal(
                f"The run {row.id} cannot go on.",
                f"It is {row.status}; only a run whose process died can be taken up again.",
                f"Start a new run from it with model.base = 'run:{row.id}'.",
            )
        self.home.require_space()
        (self.folder(row.id) / wire.ALIVE).unlink(missing_ok=True)  # the dead one's
        (self.folder(row.id) / wire.JOB).touch()  # so that other studios wait for the new one
        self._launch(wire.read_job(self.folder(row.id)))
        self.store.set_status(row.id, "running")

    def _new_job(self, task: AnyTask, name: str, parent: str | None, interpreter: str) -> Job:
        now = datetime.now(UTC)
        folder = self._new_folder(f"{now:%Y-%m-%dT%H-%M-%S}-{slug(name)}")
        job = Job(
            id=folder.name,
            name=name,
            created=now.isoformat(timespec="seconds"),
            home=str(self.home.root),
            task=task,
            parent=parent,
            interpreter=interpreter,
        )
        try:
            wire.write_job(folder, job)
        except OSError as fault:
            shutil.rmtree(folder, ignore_errors=True)
            raise Refusal(
                f"The job could not be written to {folder}: {fault.strerror}.",
                "The disk may be full or read-only.",
                "Free some space, or name a folder on another disk with --home DIR.",
            ) from fault
        return job

    def _new_folder(self, stem: str) -> Path:
        for number in range(1, 1000):
            folder = self.home.jobs / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
        raise Refusal(f"{stem} is taken a thousand times.", "", "Choose another name.")

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
        self._children[job.id] = child
        self._workers[job.id] = Worker(folder, child)
        self.store.add(job)

    def close(self) -> None:
        """Leaves the workers that still run to themselves: they are meant to outlive us."""
        for child in self._children.values():
            disown(child)
        self._children.clear()

    # Telling

    def tell(self, job: str, request: Request) -> None:
        wire.append_request(self.folder(job), request)

    def stop(self, job: str, grace_s: float = STOP_GRACE_S) -> None:
        """Asks a job to stop; polling then climbs the ladder while it does not."""
        if job not in self._ladders:
            self._ladders[job] = StopLadder(self._worker(job), grace_s, time.monotonic())

    # Hearing

    def poll(self, limit_bytes: int = 128 * 1024) -> list[Heard]:
        """What was said and what ended since the last call; reads at most so much a job."""
        now = time.monotonic()
        if now - self._scanned >= SCAN_EVERY_S:
            self._scanned = now
            self._find_new_folders()
        live = self.store.live()
        self._reap({row.id for row in live})
        heard = (self._hear(row, limit_bytes, now) for row in live)
        return [news for news in heard if news is not None]

    def _reap(self, live: set[str]) -> None:
        """Lets go of children that have ended and whose end has been told."""
        for job, child in list(self._children.items()):
            if job not in live and child.poll() is not None:
                del self._children[job]

    def _hear(self, row: JobRow, limit_bytes: int, now: float) -> Heard | None:
        lives = self._worker(row.id).lives  # before reading: the last words of the dead are heard
        follower = self._follower(row)
        lines = list(follower.read(limit_bytes))
        if lines or follower.cursor != row.cursor:
            self.store.hear(row.id, lines, follower.cursor)
        rung = self._ladders[row.id].climb(now) if row.id in self._ladders else None
        if not lives and not follower.behind:
            self._close(row.id)
        after = self.store.job(row.id)
        if after is None or not (lines or rung or after.status != row.status):
            return None
        if not after.live:
            self._ladders.pop(row.id, None)
        return Heard(row.id, lines, after.status, rung)

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
        self.store.set_status(job, "failed", outcome.cause, outcome.remedy)

    def _worker(self, job: str) -> Worker:
        return self._workers.setdefault(job, Worker(self.folder(job), self._children.get(job)))

    def _follower(self, row: JobRow) -> wire.Follower[wire.Line]:
        if row.id not in self._followers:
            self._followers[row.id] = wire.follow_events(self.folder(row.id), row.cursor)
        return self._followers[row.id]

    # Folders

    def folder(self, job: str) -> Path:
        return self.home.jobs / job

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
        self._find_new_folders()
        for gone in self.store.ids() - self._folder_names():
            self._forget(gone)

    def rebuild(self) -> int:
        """Makes the index anew from the folders; returns how many jobs it holds."""
        self.store.clear()
        self._followers.clear()
        self.recover()
        self.catch_up()
        return len(self.store.ids())

    def catch_up(self) -> None:
        """Reads on until everything said so far is in the store."""
        while any(self._follower(row).behind for row in self.store.live()):
            self.poll(limit_bytes=8 << 20)
        self.poll()

    def delete(self, job: str) -> None:
        """Deletes an ended job's folder and all that is in it."""
        row = self.find(job)
        if row.live:
            raise Refusal(
                f"The run {row.id} is still going.", "It writes to its folder.", "Stop it first."
            )
        shutil.rmtree(self.folder(row.id))
        self._forget(row.id)

    def _forget(self, job: str) -> None:
        """Drops all that is known of a job; its folder's name may be used again."""
        self.store.remove(job)
        self._workers.pop(job, None)
        self._followers.pop(job, None)
        self._ladders.pop(job, None)
        if child := self._children.pop(job, None):
            disown(child)

    def _folder_names(self) -> set[str]:
        if not self.home.jobs.is_dir():
            return set()
        return {path.name for path in self.home.jobs.iterdir() if (path / wire.JOB).is_file()}

    def _find_new_folders(self) -> None:
        for name in sorted(self._folder_names() - self.store.ids()):
            try:
                self.store.add(wire.read_job(self.folder(name)))
            except Refusal:
                continue  # not a job of ours; `doctor` names it


def slug(name: str) -> str:
    """A name as part of a folder's name: lower case, letters, digits and dashes, 40 at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "job"


def _absolute(source: Source) -> Source:
    """A dataset's path made absolute: the worker's folder is not the user's."""
    path = Path(source.source).expanduser()
    if source.source.startswith("builtin:") or not path.exists():
        return source
    return msgspec.structs.replace(source, source=str(path.absolute()))
