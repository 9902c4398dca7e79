"""The studio without a window: starts jobs, follows them to their end, and hands on what came out.

The same objects as the window has, on a loop instead of a timer. Knows no toolkit and no verbs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from studio.importing import Fate, Imported, import_config, is_config
from studio.jobs import Jobs
from studio.paths import find_home
from studio.planning import read_config
from studio.records import JobRow
from studio.session import Session
from studio.settings import load_settings
from studio.store import Store
from studio.terminal import Follow, Terminal
from workers.estimate import least_micro, longest_row
from workers.protocol import wire
from workers.protocol.audit import AuditResult
from workers.protocol.batches import checkpointing
from workers.protocol.bench import BenchResult
from workers.protocol.cards import Device
from workers.protocol.events import (
    Answered,
    Artifact,
    Benched,
    Checked,
    Event,
    Inspected,
    Phase,
    Ready,
    StepSimulated,
)
from workers.protocol.exports import differs, read_parity
from workers.protocol.jobs import AnyTask, Chat, Export, Inspect, Simulate
from workers.protocol.pipeline import Pipeline, read_pipeline
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say

POLL_EVERY_S = 0.1
SAID: dict[str, Fate] = {"Not the same here": "changed", "Not known": "unknown"}
"""What is said of a config that is imported, and in which words."""
E = TypeVar("E", bound=Event)


class Headless:
    """One home, one store, one terminal."""

    def __init__(self, jobs: Jobs, terminal: Terminal) -> None:
        self.jobs = jobs
        self.terminal = terminal
        self._in_memory = False

    def read(self, recipe: Path) -> Pipeline:
        """A recipe or a pipeline from its file; says which of its keys have other names now.

        Another program's config is read too; says what is not the same here.
        """
        if is_config(recipe):
            imported = self.import_config(recipe)
            imported.check()
            return imported.pipeline
        return read_pipeline(recipe, say=self.terminal.say, root_of=self.jobs.root_of)

    def import_config(self, path: Path, data: str = "", model: str = "") -> Imported:
        """Another program's config as a recipe; says what is not the same here."""
        imported = import_config(path, data=data, model=model, root_of=self.jobs.root_of)
        self.terminal.say(f"{path.name} is a config of {imported.tool}.")
        if carried := imported.fields()["carried"]:
            self.terminal.say(f"Carried over: {', '.join(carried)}")
        for title, fate in SAID.items():
            for item in imported.of(fate):
                self.terminal.say(f"{title}: {item.words}")
        return imported

    def do(self, task: AnyTask, name: str = "", parent: str | None = None) -> JobRow:
        """Starts a job and follows it to its end."""
        return self.follow(self.jobs.start(task, name, parent))

    def follow(self, job: str) -> JobRow:
        """Shows a job until it ends; see `watch`."""
        return self.watch(Session(self.jobs, job))

    def watch(self, session: Session) -> JobRow:
        """Shows a job until it ends. Ctrl-C asks it to stop; a second one leaves it running."""
        job = session.job
        with contextlib.closing(session), Follow(self.terminal) as show:
            session.on(Event, show.show)
            asked = False
            while True:
                try:
                    self.poll()
                    if not (row := self.row(job)).live:
                        return row
                    time.sleep(POLL_EVERY_S)
                except KeyboardInterrupt:
                    if asked:
                        self.terminal.say(f"Left. The run goes on; see: studio show {job}")
                        raise
                    asked = True
                    self.terminal.say("Stopping; the work so far is saved. Ctrl-C again leaves it.")
                    session.stop()

    def follow_all(self, job: str) -> list[JobRow]:
        """Shows a run and all that follow it in its pipeline; ends at one that did not finish."""
        rows = [self.follow(job)]
        while rows[-1].status == "finished" and (after := self.jobs.next_stage(rows[-1].id)):
            self.terminal.say(f"{rows[-1].cause} Next stage: {after}")
            rows.append(self.follow(after))
        return rows

    def poll(self) -> None:
        """Reads what jobs said. Says once that the index cannot be written, and once that it can
        again."""
        self.jobs.poll()
        fault = self.jobs.index_fault
        if self._in_memory != (fault is not None):
            self._in_memory = fault is not None
            self.terminal.say(str(fault) if fault else "There is room on the disk again.")

    def row(self, job: str) -> JobRow:
        """A job as the index has it; raises `Refusal` when its folder is gone."""
        row = self.jobs.store.job(job)
        if row is None:
            raise Refusal(
                f"The folder of {job} is gone.", "It was deleted while it ran.", "Start it again."
            )
        return row

    # What verbs print

    def story(self, row: JobRow) -> dict[str, Any]:
        """One run as `show` tells it."""
        first, last = self.jobs.store.first_and_last(row.id)
        return {
            "run": row.id,
            "name": row.name,
            "stage": row.stage,
            "status": row.status,
            "phase": row.phase if row.live else "",
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
            "changes": self.changes(row.id),
            "less_memory": self.less_memory(row),
        }

    def changes(self, job: str) -> list[dict[str, Any]]:
        """What was changed when the run went on: `step`, and `settings` with both values."""
        with contextlib.suppress(Refusal):
            return [
                msgspec.to_builtins(one) for one in wire.read_job(self.jobs.folder(job)).changes
            ]
        return []

    def less_memory(self, row: JobRow) -> list[dict[str, Any]]:
        """Of a run that was out of memory what it can still change, the next one first."""
        if not row.short_of_memory:
            return []
        return [msgspec.to_builtins(way) for way in self.jobs.resume_proposal(row.id).rungs]

    def evaluation(self, job: str) -> dict[str, Any] | None:
        """Held-out scores by moment: `before`, `after`, and the last one `during`."""
        found = self.jobs.store.evaluations(job)
        return {one.moment: {**one.scores, "rows": one.rows} for one in found} or None

    def export(self, run: JobRow, targets: list[str]) -> tuple[JobRow, dict[str, Any]]:
        """Exports a run; returns the export job and what it made and found."""
        files: list[Artifact] = []
        checks: list[Checked] = []
        task = Export(run_folder=str(self.jobs.folder(run.id)), targets=targets)
        session = Session.start(self.jobs, task, f"export {run.name}", run.id)
        row = self.watch(session.on(Artifact, files.append).on(Checked, checks.append))
        return row, {
            "run": run.id,
            "ok": row.status == "finished" and all(check.passed for check in checks),
            "files": [{"path": f.path, "kind": f.kind, "bytes": f.bytes} for f in files],
            "parity": [
                {"check": c.check, "passed": c.passed, "detail": c.detail, "remedy": c.remedy}
                for c in checks
            ],
        }

    def bench(self, recipe: Recipe, samples: int) -> tuple[JobRow, BenchResult | None]:
        """Tries a recipe's rewards; returns the job and what it found."""
        found: list[Benched] = []
        session = Session(self.jobs, self.jobs.bench(recipe, samples))
        row = self.watch(session.on(Benched, found.append))
        return row, found[0].result if found else None

    def inspect(self, task: Inspect) -> tuple[JobRow, AuditResult | None]:
        """Audits a dataset; returns the job and what it found."""
        found: list[Inspected] = []
        row = self.watch(Session.start(self.jobs, task).on(Inspected, found.append))
        return row, found[0].result if found else None

    def simulate(self, recipe: Recipe) -> dict[str, int]:
        """Bytes by part of a step with the smallest micro-batch, run by a worker without weights.

        Raises:
            Refusal: the model's config.json cannot be had, or the step cannot be simulated.
        """
        found: list[StepSimulated] = []
        task = Simulate(
            recipe=recipe, config=read_config(recipe.model.base) or {},
            micro=least_micro(recipe), longest=longest_row(recipe),
            checkpointing=checkpointing(recipe, "cuda"),
        )  # fmt: skip
        self.terminal.say(f"The sizes of {recipe.model.base} are not known: a step is simulated.")
        row = self.watch(Session.start(self.jobs, task).on(StepSimulated, found.append))
        if not found:
            raise Refusal(f"{recipe.name} could not be planned.", row.cause, row.remedy)
        return found[-1].parts

    def chat_model(self, named: str, *, adapter: bool) -> Path:
        """The file or folder to talk to: a GGUF named or exported, else the run itself."""
        path = Path(named).expanduser()
        if path.suffix == ".gguf" or (path / "config.json").is_file():
            return path.absolute()
        folder = self.jobs.folder(self.jobs.find(named).id)
        return (None if adapter else self._exported(folder / "exports")) or folder

    def _exported(self, exports: Path) -> Path | None:
        """The newest GGUF that speaks like the run, telling why newer ones are left out."""
        checked = read_parity(exports)
        for path in sorted(exports.glob("*.gguf"), key=lambda p: p.stat().st_mtime, reverse=True):
            reason = differs(checked.get(path.name))
            if not reason:
                return path
            self.terminal.say(f"{path.name} is left out: {reason}")
        return None

    @contextmanager
    def conversation(self, model: Path, device: Device = "auto") -> Iterator[Conversation]:
        """A loaded model to talk to; its job ends with the context."""
        task = Chat(model=str(model), device=device, when_busy=self.jobs.settings.when_busy)
        session = Session.start(self.jobs, task, grace_s=5.0)
        try:
            talk = Conversation(self, session)
            talk.wait_for(Ready)
            yield talk
        finally:
            session.close()
            while self.row(session.job).live:
                self.jobs.poll()
                time.sleep(POLL_EVERY_S)


class Conversation:
    """A chat job that listens."""

    def __init__(self, headless: Headless, session: Session) -> None:
        self._headless = headless
        self._session = session.on(Event, self._on_event)
        self._events: list[Event] = []

    def _on_event(self, event: Event) -> None:
        self._events.append(event)

    def say(self, messages: list[dict[str, str]], **sampling: Any) -> Answered:
        """Asks and waits for the whole answer; its pieces are shown as they come."""
        self._session.send(Say(messages=messages, **sampling))
        return self.wait_for(Answered)

    def wait_for(self, kind: type[E]) -> E:
        """The next event of a kind; raises `Refusal` when the job ends before it."""
        headless, job = self._headless, self._session.job
        with Follow(headless.terminal) as show:
            while True:
                headless.poll()
                events, self._events = self._events, []
                for event in events:
                    show.show(event)
                    if isinstance(event, Phase) and headless.jobs.settings.question(event.name):
                        headless.terminal.say("With --cpu it begins now, slowly.")
                if found := [event for event in events if isinstance(event, kind)]:
                    return found[-1]
                row = headless.row(job)
                if not row.live:
                    raise Refusal(
                        f"The chat ended: {row.cause or row.status}",
                        f"Its log: {headless.jobs.folder(job) / wire.LOG}",
                        row.remedy or "Try again.",
                    )
                time.sleep(POLL_EVERY_S / 2)


@contextmanager
def open_headless(home: Path | None, *, json: bool) -> Iterator[Headless]:
    """Opens home, settings and store for one verb."""
    where = find_home(home).make()
    with contextlib.closing(Store(where.store)) as store:
        jobs = Jobs(where, store, load_settings(where.settings))
        with contextlib.closing(jobs):
            jobs.recover()
            jobs.catch_up()
            yield Headless(jobs, Terminal(json=json))
