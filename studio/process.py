"""One detached worker: start it, see whether it lives, how it ended, and the ladder that stops it.

How a worker ended is a value, `Outcome`, apart from the process. Knows no store and no toolkit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import psutil

from workers.protocol import wire
from workers.protocol.faults import kind_of_words

STARTUP_GRACE_S = 30.0
"""A folder that nobody has taken is thought to be starting for so long after it was made."""
LOG_TAIL_BYTES = 16_384
ALLOCATOR = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}
"""The names under which PyTorch's allocator is configured; what a user has set stays."""


@dataclass(frozen=True)
class Outcome:
    """How a worker that left no last word ended."""

    cause: str
    remedy: str
    kind: str = ""
    """out_of_memory or disk_full, where its last words tell."""

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


def launch(folder: Path, interpreter: str) -> subprocess.Popen[bytes]:
    """Starts the worker for a folder in a session of its own: it outlives the studio."""
    detached: dict[str, Any] = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    with (folder / wire.LOG).open("ab") as log:
        return subprocess.Popen[bytes](
            [interpreter, "-m", "workers", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            **detached,
        )


def disown(child: subprocess.Popen[bytes]) -> None:
    """Forgets a child that goes on without us, so that Popen does not complain that it does."""
    if child.poll() is None:
        child.returncode = 0


def _environment() -> dict[str, str]:
    """This environment, less what would make a worker print in colours or reach for a display.

    PyTorch's segments of GPU memory may grow, which keeps fragments from filling a card; it can do
    so on Linux alone. vLLM, whose memory pool cannot, looks for it under the older of both names.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("QT_", "PYTEST_"))}
    said = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true", "NO_COLOR": "1"}
    if sys.platform == "linux" and ALLOCATOR.isdisjoint(kept):
        said["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    return kept | said


class Worker:
    """One job's process, whether this studio started it or found it running."""

    def __init__(self, folder: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self.folder = folder
        self._child = child

    @property
    def lives(self) -> bool:
        """Whether the process is there: ours not yet ended, or the one named in `alive`, which may
        be a successor of ours."""
        if self._child is not None and self._child.poll() is None:
            return True
        named = self._named()
        if named is None:
            return self._child is None and self._starting()
        return find_process(named) is not None

    def outcome(self) -> Outcome:
        """Why a process that is gone is gone, as far as can be told from outside."""
        code = self._child.poll() if self._child is not None else None
        last = last_words(self.folder)
        kind = kind_of_words(last)
        if kind == "out_of_memory":
            remedy = "Resume it with less memory: a smaller micro-batch is proposed."
            return Outcome(f"The memory ran out: {last}", remedy, kind)
        if code is not None and code < 0:
            return Outcome(_death_by(-code), _after_death(-code))
        if kind == "disk_full":
            return Outcome(f"The disk is full: {last}", "Free some space, then resume it.", kind)
        if code:
            return Outcome(f"The worker could not start: {last}", "Mend that and start it again.")
        return Outcome(
            "The worker's process is gone and left no last word"
            + (f"; its log ends with: {last}" if last else "."),
            "The computer may have slept, restarted or run out of memory. "
            "Start it again; it goes on from its last checkpoint.",
        )

    def terminate(self) -> None:
        self._signal(hard=False)

    def kill(self) -> None:
        self._signal(hard=True)

    def _signal(self, *, hard: bool) -> None:
        named = self._named()
        process = find_process(named) if named else None
        if process is None and self._child is not None and self._child.poll() is None:
            process = psutil.Process(self._child.pid)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill() if hard else process.terminate()

    def _named(self) -> wire.Alive | None:
        """Who has the folder; None before the worker has written it whole, and after its end."""
        try:
            raw = (self.folder / wire.ALIVE).read_bytes()
            return msgspec.json.decode(raw, type=wire.Alive)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _starting(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.folder / wire.JOB).stat().st_mtime < STARTUP_GRACE_S
        return False


def find_process(named: wire.Alive) -> psutil.Process | None:
    """The process with that pid and start time, if it is there and no zombie."""
    try:
        process = psutil.Process(named.pid)
        if abs(process.create_time() - named.started) > 1.0:
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


def last_words(folder: Path) -> str:
    """The last line that a worker's log holds, or nothing."""
    try:
        with (folder / wire.LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _death_by(number: int) -> str:
    if number == getattr(signal, "SIGKILL", 9):
        return "The worker was killed (signal 9), by hand or by the system because memory ran out."
    with contextlib.suppress(ValueError):
        return f"The worker was ended by signal {number} ({signal.Signals(number).name})."
    return f"The worker was ended by signal {number}."


def _after_death(number: int) -> str:
    again = "Start it again; it goes on from its last checkpoint."
    if number == getattr(signal, "SIGKILL", 9):
        return f"{again} Where memory was short, resume it with a smaller micro-batch."
    return again


class Rung(Enum):
    """How far up the ladder a stop had to go."""

    ASKED = "asked to stop; it saves its work first"
    TERMINATED = "did not answer in time and was told to end"
    KILLED = "did not end when told and was killed"


class StopLadder:
    """Grace after the request, terminate, kill: moved on by `climb`, on the owner's clock."""

    def __init__(self, worker: Worker, grace_s: float, now: float) -> None:
        self.rung = Rung.ASKED
        self._worker = worker
        self._grace_s = grace_s
        self._since = now

    def climb(self, now: float) -> Rung | None:
        """The rung reached by this call, None while nothing changes."""
        if not self._worker.lives or now - self._since < self._grace_s:
            return None
        self._since, self._grace_s = now, 5.0
        if self.rung is Rung.ASKED:
            self._worker.terminate()
            self.rung = Rung.TERMINATED
        elif self.rung is Rung.TERMINATED:
            self._worker.kill()
            self.rung = Rung.KILLED
        else:
            return None
        return self.rung
