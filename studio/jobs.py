"""Jobs: start, tell, stop, poll, recover. The only writer of the store. Knows no toolkit.

`poll` is called on the owner's clock, the window's timer or the headless loop; it reads what
the workers appended since the last call and never waits for anything.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from studio.gate import decide
from studio.paths import Home
from studio.process import Rung, StopLadder, Worker, disown, launch
from studio.settings import Settings
from studio.store import JobRow, Status, Store
from workers.protocol import wire
from workers.protocol.checkpoints import last_step
from workers.protocol.jobs import AnyTask, Bench, Browse, Change, Inspect, Job, Train
from workers.protocol.pipeline import Pipeline, chain_of, following, with_models
from workers.protocol.recipe import Recipe, Source, check_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Pause, Request, Resume, Stop
from workers.protocol.resume import Proposal, differences, for_less_memory, with_settings

STOP_GRACE_S = 60.0
"""How long a worker may take to save before it is ended."""
NEXT = "next"
"""The file in a run's folder that names the run that followed it; whoever makes it starts that."""
SCAN_EVERY_S = 2.0
"""How often the jobs folder is looked at for jobs that another process started."""


class JobUpdate(msgspec.Struct, frozen=True):
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

    def train(self, recipe: Recipe, then: Sequence[Recipe] = ()) -> str:
        """Starts a training run, to be followed by others; returns its id."""
        check_recipe(recipe)
        recipe = with_models(recipe, self._by_id)
        base = recipe.model.base
        parent = base.removeprefix("run:") if base.startswith("run:") else None
        followers = [_with_paths(follower) for follower in then]
        return self.start(Train(recipe=_with_paths(recipe)), recipe.name, parent, followers)

    def train_all(self, pipeline: Pipeline) -> str:
        """Starts the first stage of a pipeline; polling starts each next one. Returns its id."""
        first, *rest = pipeline.stages
        return self.train(first, rest)

    def _by_id(self, model: str) -> str:
        """A run that is given by its name, given by its id; any other model as it is."""
        if not model.startswith("run:"):
            return model
        return f"run:{self.find(model.removeprefix('run:')).id}"

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
        task = Bench(recipe=_with_paths(with_models(recipe, self._by_id)), samples=samples)
        return self.start(task, f"rewards of {recipe.name}")

    def inspect(self, task: Inspect) -> str:
        """Starts the audit of a dataset; returns its id."""
        if task.test:
            task = msgspec.structs.replace(task, test=_absolute(Source(source=task.test)).source)
        model, source = self._absolute_model(task.model), _absolute(task.source)
        task = msgspec.structs.replace(task, model=model, source=source)
        return self.start(task, f"look at {Path(task.source.source).stem}")

    def browse(self, task: Browse) -> str:
        """Opens a dataset to be looked at row by row; returns the job's id."""
        model, source = self._absolute_model(task.model), _absolute(task.source)
        task = msgspec.structs.replace(task, model=model, source=source)
        return self.start(task, f"rows of {Path(task.source.source).stem}")

    def _absolute_model(self, model: str) -> str:
        """A model's folder made absolute, a run given by its id, any other name as it is."""
        folder = Path(model).expanduser()
        return str(folder.absolute()) if folder.is_dir() else self._by_id(model)

    def next_stage(self, job: str) -> str | None:
        """The run that followed a run of a pipeline, once it has been started."""
        path = self.folder(job) / NEXT
        return path.read_text().strip() or None if path.is_file() else None

    def _follow_up(self, job: str) -> None:
        """Starts the next stage after a finished run, if its gate lets it; once, whoever polls.

        What was decided is told of the run by each who hears its end, so that an index made anew
        tells it too.
        """
        asked = wire.read_job(self.folder(job))
        if not asked.then or not isinstance(asked.task, Train):
            return
        verdict = decide(self.store.evaluations(job), asked.task.recipe.evaluation.gate)
        if verdict.promotes:
            self.store.set_status(job, "finished", verdict.reason)
        else:
            by_hand = f"Start the next stage by hand with model.base = 'run:{job}'."
            remedy = f"{verdict.remedy} Or: {by_hand}" if verdict.remedy else by_hand
            cause = f"The pipeline ends here. {verdict.reason}"
            self.store.set_status(job, "finished", cause, remedy)
        try:
            self._start_next(job, asked.task.recipe, asked.then if verdict.promotes else [])
        except Refusal as refusal:
            cause = f"The next stage could not start. {refusal.what} {refusal.cause}"
            self.store.set_status(job, "finished", cause, refusal.remedy)

    def _start_next(self, job: str, recipe: Recipe, then: Sequence[Recipe]) -> None:
        """Starts the first of what is to follow a run, and leaves its id in the run's folder."""
        folder = self.folder(job)
        with _writing_to(folder):
            try:
                marker = (folder / NEXT).open("x")
            except FileExistsError:
                return
            with marker:
                if then:
                    first, *rest = following(then, recipe.name, job)
                    marker.write(self.train(first, rest))

    def start(
        self, task: AnyTask, name: str, parent: str | None = None, then: Sequence[Recipe] = ()
    ) -> str:
        """Writes the job's folder and starts its worker; returns the job's id.

        Raises:
            Refusal: no space, no interpreter for the engine, or a folder that cannot be written.
        """
        self.home.make().require_space()
        engine = task.recipe.model.engine if isinstance(task, Train) else "auto"
        interpreter = self.settings.interpreter_for(engine)
        job = self._new_job(task, name, parent, list(then), interpreter)
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
        asked = _changed(wire.read_job(folder), settings or {}, step)
        (folder / wire.ALIVE).unlink(missing_ok=True)  # the dead one's
        with _writing_to(folder):
            wire.write_job(folder, asked)  # anew, so that other studios wait for the new worker
        self.tell(row.id, Resume())
        self._launch(asked)
        self.store.set_status(row.id, "running")
        return step

    def resume_proposal(self, job: str) -> Proposal:
        """What a run would go on from and with; with less memory where that ran out."""
        asked = wire.read_job(self.folder(job))
        assert isinstance(asked.task, Train)
        recipe, row = asked.task.recipe, self.store.job(job)
        short = row is not None and row.fault == "out_of_memory"
        settings = for_less_memory(recipe) if short else {}
        return Proposal(job, recipe, last_step(self.folder(job)), settings)

    def _new_job(
        self, task: AnyTask, name: str, parent: str | None, then: list[Recipe], interpreter: str
    ) -> Job:
        now = datetime.now(UTC)
        folder = self._new_folder(f"{now:%Y-%m-%dT%H-%M-%S}-{slug(name)}")
        job = Job(
            id=folder.name,
            name=name,
            created=now.isoformat(timespec="seconds"),
            home=str(self.home.root),
            task=task,
            parent=parent,
            then=then,
            interpreter=interpreter,
        )
        try:
            with _writing_to(folder):
                wire.write_job(folder, job)
        except Refusal:
            shutil.rmtree(folder, ignore_errors=True)
            raise
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
        if earlier := self._children.pop(job.id, None):
            disown(earlier)  # a paused worker may still be on its way out
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
        """Asks something of a job; raises `Refusal` where that cannot be written."""
        with _writing_to(self.folder(job)):
            wire.append_request(self.folder(job), request)

    def failure(self, job: str) -> tuple[str, str]:
        """Why a job failed and what to do now; both empty where it did not."""
        row = self.store.job(job)
        return (row.cause, row.remedy) if row is not None and row.status == "failed" else ("", "")

    def pause(self, job: str) -> None:
        """Asks a run to rest at a checkpoint; `resume` goes on from there."""
        self.tell(job, Pause())

    def stop(self, job: str, grace_s: float = STOP_GRACE_S) -> None:
        """Asks a job to stop; polling then climbs the ladder while it does not.

        Raises:
            Refusal: a training run cannot be asked, and ending it unasked would lose its work. Any
                other job is ended all the same.
        """
        if job in self._ladders:
            return
        try:
            self.tell(job, Stop())
        except Refusal:
            row = self.store.job(job)
            if row is not None and row.kind == "train":
                raise
        self._ladders[job] = StopLadder(self._worker(job), grace_s, time.monotonic())

    # Hearing

    def poll(self, limit_bytes: int = 128 * 1024) -> list[JobUpdate]:
        """What was said and what ended since the last call; reads at most so much a job."""
        now = time.monotonic()
        if now - self._scanned >= SCAN_EVERY_S:
            self._scanned = now
            if self.store.in_memory:
                self._return_to_disk()
            self._find_new_folders()
            self._take_up_restarted()
        live = self.store.live()
        self._reap({row.id for row in live})
        heard = (self._hear(row, limit_bytes, now) for row in live)
        return [news for news in heard if news is not None]

    def _reap(self, live: set[str]) -> None:
        """Lets go of children that have ended and whose end has been told."""
        for job, child in list(self._children.items()):
            if job not in live and child.poll() is not None:
                del self._children[job]

    def _hear(self, row: JobRow, limit_bytes: int, now: float) -> JobUpdate | None:
        lives = self._worker(row.id).lives  # before reading: the last words of the dead are heard
        follower = self._follower(row)
        before = follower.cursor
        lines = list(follower.read(limit_bytes))
        if lines or follower.cursor != row.cursor:
            self.store.hear(row.id, lines, follower.cursor)
        rung = self._ladders[row.id].climb(now) if row.id in self._ladders else None
        if not lives and (not follower.behind or follower.cursor == before):
            self._close(row.id)  # what is behind and not read is a line that was cut off
        after = self.store.job(row.id)
        if after is None or not (lines or rung or after.status != row.status):
            return None
        if not after.live:
            self._ladders.pop(row.id, None)
        if after.status == "finished" and row.kind == "train":
            self._follow_up(row.id)
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

    @property
    def index_fault(self) -> Refusal | None:
        """Why the index is kept in memory for now; None while it is on the disk."""
        if not self.store.in_memory:
            return None
        return Refusal(
            f"The disk that holds {self.home.root} is full.",
            "The list of runs is kept in memory until there is room. A run that cannot write its "
            "checkpoints or events ends.",
            "Free some space; what was said meanwhile is read from the runs' folders.",
        )

    def _return_to_disk(self) -> None:
        """Writes the index on where the full disk broke it off, if there is room now."""
        known = {row.id: row for row in self.store.jobs()}
        with self.store.on_disk():
            for gone in self.store.ids() - set(known):
                self.store.remove(gone)
            self._find_new_folders()
            for behind in self.store.jobs():
                row = known.get(behind.id, behind)
                self._hear_again(behind, row.cursor)
                self.store.set_status(row.id, row.status, row.cause, row.remedy)

    def _hear_again(self, row: JobRow, until: int) -> None:
        """Tells the store what a job said up to a byte of its events, which the pages know."""
        follower = wire.follow_events(self.folder(row.id), row.cursor)
        while follower.cursor < until and (lines := list(follower.read())):
            self.store.hear(row.id, lines, follower.cursor)

    def catch_up(self) -> None:
        """Reads on until everything said so far is in the store."""
        self._take_up_restarted()
        while any(self._follower(row).behind for row in self.store.live()):
            self.poll(limit_bytes=8 << 20)
            self._take_up_restarted()
        self.poll()

    def delete(self, job: str) -> None:
        """Deletes an ended job's folder and all that is in it."""
        row = self.find(job)
        if row.live:
            raise Refusal(
                f"The run {row.id} is still going.", "It writes to its folder.", "Stop it first."
            )
        _remove(self.folder(row.id))
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

    def _take_up_restarted(self) -> None:
        """Follows those again that said more since they paused or failed, whoever started them."""
        for row in self.store.halted():
            if next(wire.follow_events(self.folder(row.id), row.cursor).read(1), None):
                self.store.set_status(row.id, "running")

    def _find_new_folders(self) -> None:
        for name in sorted(self._folder_names() - self.store.ids()):
            try:
                self.store.add(wire.read_job(self.folder(name)))
            except Refusal:
                continue  # not a job of ours; `doctor` names it


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turns a failed write to a job's folder into a refusal."""
    try:
        yield
    except OSError as fault:
        raise Refusal(
            f"{folder} could not be written to: {fault.strerror}.",
            "The disk may be full or read-only.",
            "Free some space, or name a folder on another disk with --home DIR.",
        ) from fault


def _remove(folder: Path) -> None:
    """Deletes a folder from which a worker on its way out may still be taking its own files."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def slug(name: str) -> str:
    """A name as part of a folder's name: lower case, letters, digits and dashes, 40 at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "job"


def _changed(job: Job, settings: Mapping[str, Any], step: int) -> Job:
    """The job with other settings from a step on, and a note of what they were."""
    if not settings or not isinstance(job.task, Train):
        return job
    recipe = with_settings(job.task.recipe, settings, job.id)
    differs = differences(job.task.recipe, recipe)
    changes = [*job.changes, Change(step, differs)] if differs else job.changes
    return msgspec.structs.replace(job, task=Train(recipe=recipe), changes=changes)


def _with_paths(recipe: Recipe) -> Recipe:
    """The recipe with its datasets' paths made absolute."""
    evaluation = recipe.evaluation
    if evaluation.test:
        test = _absolute(Source(source=evaluation.test)).source
        evaluation = msgspec.structs.replace(evaluation, test=test)
    data = [_absolute(source) for source in recipe.data]
    return msgspec.structs.replace(recipe, data=data, evaluation=evaluation)


def _absolute(source: Source) -> Source:
    """A dataset's path made absolute: the worker's folder is not the user's."""
    path = Path(source.source).expanduser()
    if source.source.startswith("builtin:") or not path.exists():
        return source
    return msgspec.structs.replace(source, source=str(path.absolute()))
