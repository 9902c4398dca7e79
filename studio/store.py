"""The index of job folders, in SQLite: fast to ask, never the truth, rebuilt from the folders.

Applying the same events twice changes nothing, so a studio and a headless twin can both follow
one job. Where the disk is full it goes on in memory, until `on_disk` finds room again. Knows no
processes and no toolkit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import msgspec

from studio.records import ArtifactRow, Evaluation, FindingRow, JobRow, Series, Status
from workers.protocol.events import (
    Artifact,
    Benched,
    Evaluated,
    Failed,
    Finding,
    FindingCleared,
    Finished,
    Metrics,
    Note,
    Paused,
    Phase,
    Progress,
    Resumed,
    Retried,
    Rollout,
    Sampled,
    Saved,
    Started,
    Stopped,
)
from workers.protocol.jobs import Job, Train
from workers.protocol.wire import Line, decode_event

SCHEMA = 5

_TABLES = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, stage TEXT NOT NULL,
    created TEXT NOT NULL, parent TEXT, status TEXT NOT NULL, cause TEXT NOT NULL DEFAULT '',
    remedy TEXT NOT NULL DEFAULT '', phase TEXT NOT NULL DEFAULT '',
    steps INTEGER NOT NULL DEFAULT 0, total_steps INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, cursor INTEGER NOT NULL DEFAULT 0,
    fault TEXT NOT NULL DEFAULT '', summary TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE metrics (
    job TEXT NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (job, name, step)
) WITHOUT ROWID;
CREATE TABLE evaluations (
    job TEXT NOT NULL, moment TEXT NOT NULL, step INTEGER NOT NULL, rows INTEGER NOT NULL,
    scores TEXT NOT NULL, each TEXT NOT NULL, PRIMARY KEY (job, moment, step)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    job TEXT NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (job, path)
) WITHOUT ROWID;
CREATE TABLE findings (
    job TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,
    level TEXT NOT NULL, metric TEXT NOT NULL, meaning TEXT NOT NULL, remedy TEXT NOT NULL,
    PRIMARY KEY (job, kind, since)
) WITHOUT ROWID;
CREATE TABLE rollouts (
    job TEXT NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY (job, step)
) WITHOUT ROWID;
CREATE TABLE lines (
    job TEXT NOT NULL, n INTEGER NOT NULL, line BLOB NOT NULL, PRIMARY KEY (job, n)
) WITHOUT ROWID;
"""
OF_JOBS = ("metrics", "evaluations", "artifacts", "findings", "rollouts", "lines")
"""The tables whose rows belong to a job."""


READ_AGAIN = (Sampled, Note, Saved, Paused, Resumed, Retried, Evaluated, Benched)
"""Events that are kept whole: pages show them in words, of old runs too."""


def _disk_is_full(fault: sqlite3.OperationalError) -> bool:
    """SQLite tells a full disk as such, or as a failed write where it shares memory."""
    return (fault.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


P = ParamSpec("P")


def _writes(write: Callable[Concatenate[Store, P], None]) -> Callable[Concatenate[Store, P], None]:
    """A write that is done in memory where the disk turns out to be full."""

    @wraps(write)
    def written(store: Store, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            write(store, *args, **kwargs)
        except sqlite3.OperationalError as fault:
            if store.in_memory or store._returning or not _disk_is_full(fault):
                raise
            store._go_into_memory()
            write(store, *args, **kwargs)

    return written


class Store:
    """Open it once and hand it on; close it at the end."""

    def __init__(self, path: Path | str) -> None:
        self._db = self._disk = _connect(path)
        self._returning = False
        self._require_schema()

    @property
    def in_memory(self) -> bool:
        """Whether the disk was full and what is written is kept in memory alone."""
        return self._db is not self._disk

    @contextmanager
    def on_disk(self) -> Iterator[None]:
        """Within, the index on the disk, which may lack what was written since, is the one in use.

        It stays so afterwards, unless the disk is still full: then memory is taken up again.
        """
        memory, self._db, self._returning = self._db, self._disk, True
        try:
            self._require_schema()
            yield
        except sqlite3.OperationalError as fault:
            self._db = memory
            if not _disk_is_full(fault):
                raise
        else:
            memory.close()
        finally:
            self._returning = False

    def _go_into_memory(self) -> None:
        memory = _connect(":memory:")
        self._disk.backup(memory)
        self._db = memory
        self._require_schema()

    def _require_schema(self) -> None:
        if self._db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            self.clear()

    def close(self) -> None:
        self._db.close()
        self._disk.close()

    @_writes
    def clear(self) -> None:
        """Empties the index, giving it the present schema."""
        with self._transaction():
            for table in ("jobs", *OF_JOBS):
                self._db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, _TABLES.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has ended it already
                db.execute("ROLLBACK")
            raise

    # Writing, by studio.jobs alone

    @_writes
    def add(self, job: Job) -> None:
        """Enters a job as running; one that is known already stays as it is."""
        stage = job.task.recipe.stage if isinstance(job.task, Train) else ""
        total = job.task.recipe.training.max_steps if isinstance(job.task, Train) else 0
        self._db.execute(
            "INSERT OR IGNORE INTO jobs (id, kind, name, stage, created, parent, status,"
            " total_steps) VALUES (?, ?, ?, ?, ?, ?, 'running', ?)",
            (job.id, job.kind, job.name, stage, job.created, job.parent, total),
        )

    @_writes
    def remove(self, job: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job,))
            for table in OF_JOBS:
                self._db.execute(f"DELETE FROM {table} WHERE job = ?", (job,))

    @_writes
    def apply(self, job: str, lines: Sequence[Line], cursor: int) -> None:
        """Applies what a job said, and how far its events have been read, in one transaction."""
        with self._transaction():
            for line in lines:
                self._apply(job, line)
                if isinstance(line.event, READ_AGAIN):
                    self._keep(job, line)
            self._set(job, cursor=cursor)

    @_writes
    def set_status(
        self, job: str, status: Status, cause: str = "", remedy: str = "", fault: str = ""
    ) -> None:
        self._set(job, status=status, cause=cause, remedy=remedy, fault=fault)

    def _set(self, job: str, **columns: object) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*columns.values(), job))

    def _keep(self, job: str, line: Line) -> None:
        event = line.event
        if isinstance(event, Evaluated):  # single rows' values have a table of their own
            line = msgspec.structs.replace(line, event=msgspec.structs.replace(event, each={}))
        self._db.execute(
            "INSERT OR REPLACE INTO lines VALUES (?, ?, ?)",
            (job, line.n, msgspec.json.encode(line)),
        )

    def _apply(self, job: str, line: Line) -> None:
        match line.event:
            case Metrics(step=step, values=values, seconds=seconds):
                self._db.executemany(
                    "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)",
                    [(job, name, step, value) for name, value in values.items()],
                )
                self._set(job, steps=step, seconds=seconds)
            case Progress(done=done, total=total, unit="steps"):
                self._set(job, steps=done, total_steps=total)
            case Evaluated(when=when, step=step, rows=rows, values=values, each=each):
                parts = (msgspec.json.encode(part).decode() for part in (values, each))
                self._db.execute(
                    "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?)",
                    (job, when, step, rows, *parts),
                )
            case Artifact(path=path, kind=kind, bytes=size):
                self._db.execute(
                    "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?)", (job, path, kind, size)
                )
            case Finding(kind=kind, level=level, step=step, metric=metric):
                self._db.execute(
                    "INSERT OR REPLACE INTO findings VALUES (?, ?, ?, NULL, ?, ?, ?, ?)",
                    (job, kind, step, level, metric, line.event.meaning, line.event.remedy),
                )
            case FindingCleared(kind=kind, step=step):
                self._db.execute(
                    "UPDATE findings SET until = ? WHERE job = ? AND kind = ? AND until IS NULL",
                    (step, job, kind),
                )
            case Rollout(step=step, path=path):
                self._db.execute(
                    "INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?)", (job, step, path)
                )
            case Started():
                self._set(job, status="running", cause="", remedy="", fault="", phase="Starting")
            case Resumed(step=step):
                for table in ("metrics", "rollouts", "evaluations"):
                    self._db.execute(f"DELETE FROM {table} WHERE job = ? AND step > ?", (job, step))
                self._db.execute("DELETE FROM findings WHERE job = ? AND since > ?", (job, step))
                # The coach begins anew: what held is found again if it still holds.
                self._db.execute(
                    "UPDATE findings SET until = ? WHERE job = ? AND (until IS NULL OR until > ?)",
                    (step, job, step),
                )
                self._set(job, steps=step)
            case Phase(name=name):
                self._set(job, phase=name)
            case Saved(step=step):
                self._set(job, steps=step)
            case Finished() | Stopped() | Failed() | Paused():
                self._end(job, line.event)

    def _end(self, job: str, event: object) -> None:
        match event:
            case Finished(summary=summary):
                text = msgspec.json.encode(summary).decode()
                self._set(job, status="finished", phase="", summary=text)
            case Stopped(detail=detail):
                self._set(job, status="stopped", phase="", cause=detail)
            case Paused(detail=detail):
                remedy = "Resume goes on from there."
                self._set(job, status="paused", phase="", cause=detail, remedy=remedy)
            case Failed(what=what, cause=cause, remedy=remedy, kind=kind):
                said = f"{what} {cause}".strip()
                self._set(job, status="failed", phase="", cause=said, remedy=remedy, fault=kind)

    # Reading

    def jobs(self, kind: str | None = None) -> list[JobRow]:
        """Newest first."""
        where, values = ("WHERE kind = ?", (kind,)) if kind else ("", ())
        rows = self._db.execute(f"SELECT * FROM jobs {where} ORDER BY id DESC", values)
        return [_row(row) for row in rows]

    def job(self, job: str) -> JobRow | None:
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        return _row(row) if row else None

    def halted(self) -> list[JobRow]:
        """Jobs that were paused or failed, and may have been started again."""
        rows = self._db.execute("SELECT * FROM jobs WHERE status IN ('paused', 'failed')")
        return [_row(row) for row in rows]

    def live(self) -> list[JobRow]:
        rows = self._db.execute("SELECT * FROM jobs WHERE status = 'running' ORDER BY id")
        return [_row(row) for row in rows]

    def ids(self) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT id FROM jobs")}

    def metric_names(self, job: str) -> list[str]:
        rows = self._db.execute("SELECT DISTINCT name FROM metrics WHERE job = ?", (job,))
        return [row[0] for row in rows]

    def series(self, job: str, name: str) -> Series:
        rows = self._db.execute(
            "SELECT step, value FROM metrics WHERE job = ? AND name = ? ORDER BY step", (job, name)
        ).fetchall()
        nan = float("nan")
        return Series([row[0] for row in rows], [nan if r[1] is None else r[1] for r in rows])

    def last_value(self, job: str, name: str) -> float | None:
        """The newest value of a metric that was a number."""
        row = self._db.execute(
            "SELECT value FROM metrics WHERE job = ? AND name = ? AND value IS NOT NULL"
            " ORDER BY step DESC LIMIT 1",
            (job, name),
        ).fetchone()
        return row[0] if row else None

    def first_and_last(self, job: str) -> tuple[dict[str, float], dict[str, float]]:
        """Metric name to its first and to its last value that was a number."""
        first: dict[str, float] = {}
        last: dict[str, float] = {}
        rows = self._db.execute(
            "SELECT name, value FROM metrics WHERE job = ? AND value IS NOT NULL ORDER BY step",
            (job,),
        )
        for name, value in rows:
            first.setdefault(name, value)
            last[name] = value
        return first, last

    def evaluations(self, job: str) -> list[Evaluation]:
        rows = self._db.execute(
            "SELECT * FROM evaluations WHERE job = ? ORDER BY step, moment = 'after'", (job,)
        )
        return [
            Evaluation(row["moment"], row["step"], row["rows"],
                       msgspec.json.decode(row["scores"]), msgspec.json.decode(row["each"]))
            for row in rows
        ]  # fmt: skip

    def findings(self, job: str) -> list[FindingRow]:
        """What the health coach noticed, in order of the steps."""
        rows = self._db.execute(
            "SELECT * FROM findings WHERE job = ? ORDER BY since, kind", (job,)
        )  # fmt: skip
        fields = FindingRow.__struct_fields__
        return [FindingRow(**{name: row[name] for name in fields}) for row in rows]

    def rollouts(self, job: str) -> dict[int, str]:
        """Step to the file of its answers, relative to the run's folder."""
        rows = self._db.execute(
            "SELECT step, path FROM rollouts WHERE job = ? ORDER BY step", (job,)
        )  # fmt: skip
        return {row[0]: row[1] for row in rows}

    def lines(self, job: str, after: int = 0, limit: int = -1) -> list[Line]:
        """What a job said that is read again, in order, from behind a line's number on."""
        rows = self._db.execute(
            "SELECT line FROM lines WHERE job = ? AND n > ? ORDER BY n LIMIT ?", (job, after, limit)
        )
        return [decode_event(row[0]) for row in rows]

    def exports_of(self, run: str) -> list[ArtifactRow]:
        """Files that export jobs made of a run, the newest job's first."""
        rows = self._db.execute(
            "SELECT artifacts.* FROM artifacts JOIN jobs ON artifacts.job = jobs.id"
            " WHERE jobs.parent = ? AND jobs.kind = 'export' ORDER BY jobs.id DESC, path",
            (run,),
        )
        return list({row["path"]: ArtifactRow(row["path"], row["kind"], row["bytes"])
                     for row in rows}.values())  # fmt: skip

    def artifacts(self, job: str) -> list[ArtifactRow]:
        rows = self._db.execute("SELECT * FROM artifacts WHERE job = ? ORDER BY path", (job,))
        return [ArtifactRow(row["path"], row["kind"], row["bytes"]) for row in rows]


def _connect(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA busy_timeout=5000")
    with suppress(sqlite3.OperationalError):  # a full disk: what cannot be written is told then
        db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def _row(row: sqlite3.Row) -> JobRow:
    fields = dict(row)
    fields["summary"] = msgspec.json.decode(fields["summary"])
    return JobRow(**fields)
