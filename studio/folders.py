"""The job folders of one home, and the index that is made from them. Knows no toolkit.

The folders are the truth: the index may be lost, or lack what was said while the disk was full, and
is made from them again.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from studio.paths import Home
from studio.records import JobRow
from studio.store import Store
from workers.protocol import wire
from workers.protocol.refusal import Refusal


class JobFolders:
    """Finds the folders that the index does not know, and reads on where it lags behind."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store

    def path(self, job: str) -> Path:
        return self._home.jobs / job

    def create(self, stem: str) -> Path:
        """A new folder with that name, or with a number behind it where the name is taken."""
        for number in range(1, 1000):
            folder = self._home.jobs / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
        raise Refusal(f"{stem} is taken a thousand times.", "", "Choose another name.")

    def gone(self) -> set[str]:
        """Jobs of the index that have no folder any more."""
        return self._store.ids() - self._names()

    def index_new(self) -> None:
        """Enters the jobs into the index whose folders it does not know."""
        for name in sorted(self._names() - self._store.ids()):
            try:
                self._store.add(wire.read_job(self.path(name)))
            except Refusal:
                continue  # not a job of ours; `doctor` names it

    def index_restarted(self) -> None:
        """Follows those again that said more since they paused or failed, whoever started them."""
        for row in self._store.halted():
            if next(wire.follow_events(self.path(row.id), row.cursor).read(1), None):
                self._store.set_status(row.id, "running")

    def return_to_disk(self) -> None:
        """Writes the index on where the full disk broke it off, if there is room now."""
        known = {row.id: row for row in self._store.jobs()}
        with self._store.on_disk():
            for gone in self._store.ids() - set(known):
                self._store.remove(gone)
            self.index_new()
            for behind in self._store.jobs():
                row = known.get(behind.id, behind)
                self._apply_again(behind, row.cursor)
                self._store.set_status(row.id, row.status, row.cause, row.remedy, row.fault)

    def _apply_again(self, row: JobRow, until: int) -> None:
        """Gives the store what a job said up to a byte of its events, which the pages know."""
        follower = wire.follow_events(self.path(row.id), row.cursor)
        while follower.cursor < until and (lines := list(follower.read())):
            self._store.apply(row.id, lines, follower.cursor)

    @property
    def fault(self) -> Refusal | None:
        """Why the index is kept in memory for now; None while it is on the disk."""
        if not self._store.in_memory:
            return None
        return Refusal(
            f"The disk that holds {self._home.root} is full.",
            "The list of runs is kept in memory until there is room. A run that cannot write its "
            "checkpoints or events ends.",
            "Free some space; what was said meanwhile is read from the runs' folders.",
        )

    def _names(self) -> set[str]:
        if not self._home.jobs.is_dir():
            return set()
        return {path.name for path in self._home.jobs.iterdir() if (path / wire.JOB).is_file()}


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns a failed write to a job's folder into a refusal."""
    try:
        yield
    except OSError as fault:
        raise Refusal(
            f"{folder} could not be written to: {fault.strerror}.",
            "The disk may be full or read-only.",
            "Free some space, or name a folder on another disk with --home DIR.",
        ) from fault


def delete_folder(folder: Path) -> None:
    """Deletes a folder from which a worker on its way out may still be taking its own files."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def slug(name: str) -> str:
    """A name as part of a folder's name: lower case, letters, digits and dashes, 40 at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "job"
