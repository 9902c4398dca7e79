"""The worker's end of the wire: owns one job's folder, numbers events, beats, hears requests.

A raise becomes `Failed` with what, why and what now; stray prints, those of C code included, go
to worker.log. Knows no particular job.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import psutil

from workers.protocol import VERSION, wire
from workers.protocol.events import Event, Failed, Paused, Started
from workers.protocol.faults import kind_of
from workers.protocol.jobs import Bench, Job, OwnedTask, Train
from workers.protocol.refusal import Refusal
from workers.protocol.requests import AnyRequest, Cancel, Pause, Request, Resume, Stop
from workers.protocol.resume import rungs

LISTEN_EVERY_S = 0.03
"""How often a task that serves looks at what is asked, while it has nothing else to do."""
OWNER_EVERY_S = 1.0
"""How often it looks whether its owner lives."""
Handlers = Mapping[type[Request], Callable[[Any], None]]
LESS_MEMORY = (
    "Halve the batch size and double gradient accumulation, lower the max sequence length, "
    "switch on gradient checkpointing, or take method qlora."
)

LEAVE_ROOM = (
    "Close what else uses the GPU, or lets a model lie in RAM, and try again; an exported file of "
    "four bits takes the least memory to talk to."
)


class Requests:
    """What was asked of this job and not yet taken, read when looked at."""

    def __init__(self, folder: Path) -> None:
        self._follower = wire.Follower(folder / wire.REQUESTS, wire.decode_request)
        self._waiting: list[AnyRequest] = []
        self.stop_asked = False
        self.pause_asked = False

    @property
    def end_asked(self) -> bool:
        """Whether the job is to end soon, for good or for now."""
        return self.stop_asked or self.pause_asked

    def forget_until(self, *kinds: type[Request]) -> None:
        """Passes over all that was asked up to the last request of these: an earlier start's."""
        asked = self.take()
        found = [at for at, request in enumerate(asked) if isinstance(request, kinds)]
        kept = asked[found[-1] + 1 :] if found else asked
        self.stop_asked = self.pause_asked = False
        self._waiting = kept
        self._note(kept)

    def take(self) -> list[AnyRequest]:
        """Everything that waits, in order. Stop and Pause are remembered as well."""
        self._read()
        taken, self._waiting = self._waiting, []
        return taken

    def next(self) -> AnyRequest | None:
        """The first request that waits; the others wait on."""
        self._read()
        return self._waiting.pop(0) if self._waiting else None

    def interrupted(self) -> bool:
        """Whether what is being done is to be broken off: for a Stop, or for a Cancel."""
        return self.heard(Cancel) or self.stop_asked

    def heard(self, kind: type[Request]) -> bool:
        """Whether something was asked, which is done with thereby. All else that was asked waits
        on."""
        self._read()
        found = [request for request in self._waiting if isinstance(request, kind)]
        for request in found:
            self._waiting.remove(request)
        return bool(found)

    def _read(self) -> None:
        new = [request for request in self._follower.read() if request is not None]
        self._note(new)
        self._waiting += new

    def _note(self, asked: list[AnyRequest]) -> None:
        self.stop_asked = self.stop_asked or any(isinstance(request, Stop) for request in asked)
        self.pause_asked = self.pause_asked or any(isinstance(request, Pause) for request in asked)


class Host:
    """Holds one folder for this process; a second start on the same folder is refused.

    Use as a context: entering claims the folder, leaving releases the heartbeat.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.job: Job = wire.read_job(self.folder)
        self.requests = Requests(self.folder)
        self._quiet = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._lock = threading.Lock()
        self._torn = False
        self.started_before = False
        """Whether this start goes on with a run that was begun earlier."""

    def __enter__(self) -> Host:
        lines = wire.read_events(self.folder)
        if not isinstance(wire.ending(lines), Failed | None):
            raise Refusal(
                f"The job in {self.folder} has already ended.",
                "A folder holds one run and is never written over.",
                "To run it again, copy its job.json into a new empty folder and start that.",
            )
        claim(self.folder)
        self._mend_torn_line()
        self._number = lines[-1].n if lines else 0
        self.started_before = bool(lines)
        if lines:
            paused = isinstance(lines[-1].event, Paused)
            self.requests.forget_until(*((Resume, Pause) if paused else (Resume,)))
        self._events = (self.folder / wire.EVENTS).open("ab", buffering=0)
        self._beat.start()
        self.emit(Started(pid=os.getpid(), protocol=VERSION, python=sys.version.split()[0]))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._quiet.set()
        self._beat.join(timeout=2 * wire.BEAT_S)
        self._events.close()
        holder = holder_of(self.folder)
        if holder is None or holder.pid == os.getpid():  # not a successor's
            (self.folder / wire.ALIVE).unlink(missing_ok=True)

    def emit(self, event: Event) -> None:
        """Says something; the line is handed to the system when this returns.

        A line that a full disk cuts off is ended before the next one, so that it spoils no other.
        """
        with self._lock:
            line = b"\n" * self._torn + wire.encode_event(self._number + 1, event)
            while line:
                self._torn = True
                line = line[self._events.write(line) :]
            self._torn = False
            self._number += 1

    def resolve(self, job: Job) -> None:
        """Keeps in job.json what the request came to mean."""
        self.job = job
        wire.write_job(self.folder, job)

    def _keep_beating(self) -> None:
        while not self._quiet.wait(wire.BEAT_S):
            with contextlib.suppress(OSError):  # a full disk must not end the job here
                os.utime(self.folder / wire.ALIVE)

    def _mend_torn_line(self) -> None:
        """A worker killed while writing leaves half a line: end it, so that ours stands alone."""
        path = self.folder / wire.EVENTS
        if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")


def claim(folder: Path) -> None:
    """Takes the folder for this process; refuses while another live one has it."""
    path = folder / wire.ALIVE
    me = wire.Alive(os.getpid(), psutil.Process().create_time())
    holder = holder_of(folder)
    if holder is not None:
        raise Refusal(
            f"The job in {folder} is already running, as process {holder.pid}.",
            "A folder is worked on by one process at a time.",
            f"Wait for it, or stop it with: python -m studio stop {folder.name}",
        )
    path.unlink(missing_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        raise Refusal(
            f"The job in {folder} was just started by another process.",
            "Two starts met on one folder.",
            "Leave it to the other one.",
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(me))


def holder_of(folder: Path) -> wire.Alive | None:
    """The live process that has the folder, if any."""
    try:
        alive = msgspec.json.decode((folder / wire.ALIVE).read_bytes(), type=wire.Alive)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return alive if lives(alive) else None


def lives(named: wire.Alive) -> bool:
    """Whether the process with that pid and start time is there and no zombie.

    `studio.process.find_process` is its twin: what both sides share, the protocol, knows no psutil.
    """
    try:
        process = psutil.Process(named.pid)
        same = abs(process.create_time() - named.started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def owner_lives(task: OwnedTask) -> bool:
    """Whether the very process that asked for a task still runs."""
    return lives(wire.Alive(task.owner_pid, task.owner_started))


def _nothing() -> bool:
    return False


def serve(host: Host, handlers: Handlers, meanwhile: Callable[[], bool] = _nothing) -> None:
    """Answers what is asked of an `OwnedTask`, one request after the other, until Stop comes or the
    process that asked for the task is gone.

    Args:
        handlers: what to do with each kind of request; others are passed over. One that takes its
            time looks at `host.requests.interrupted()`.
        meanwhile: a small step of other work, done between two looks at what is asked; returns
            whether there was any to do.
    """
    task = host.job.task
    assert isinstance(task, OwnedTask)
    looked = float("-inf")
    while not host.requests.stop_asked:
        if time.monotonic() - looked >= OWNER_EVERY_S:
            if not owner_lives(task):
                return
            looked = time.monotonic()
        if not serve_once(host, handlers, meanwhile):
            time.sleep(LISTEN_EVERY_S)


def serve_once(host: Host, handlers: Handlers, meanwhile: Callable[[], bool] = _nothing) -> bool:
    """Answers what has been asked so far, then does one step of the other work.

    Returns:
        Whether there was anything to do.
    """
    busy = False
    while (request := host.requests.next()) is not None and not host.requests.stop_asked:
        handler = handlers.get(type(request))
        if handler is not None:
            handler(request)
            busy = True
    return (not host.requests.stop_asked and meanwhile()) or busy


@contextlib.contextmanager
def output_to_log(folder: Path) -> Iterator[None]:
    """Points this process's stdout and stderr, C code's too, at worker.log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(folder / wire.LOG, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    kept = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def failed(fault: BaseException, folder: Path) -> Failed:
    """A raise as the three answers. Out of memory and a full disk are cases of their own."""
    trace = "".join(traceback.format_exception(fault))
    if isinstance(fault, Refusal):
        return Failed(what=fault.what, cause=fault.cause, remedy=fault.remedy, kind="refused")
    kind = kind_of(fault)
    if kind == "out_of_memory":
        return Failed(
            what="The memory ran out.",
            cause="Weights, activations and optimizer state together need more than there is.",
            remedy=_with_less_memory(folder),
            kind=kind,
            traceback=trace,
        )
    if kind == "disk_full":
        filename = fault.filename if isinstance(fault, OSError) else None
        return Failed(
            what=f"The disk that holds {filename or folder} is full.",
            cause="Checkpoints and exports are large.",
            remedy=f"Free some space, then go on: python -m studio resume {folder.name}",
            kind=kind,
            traceback=trace,
        )
    return Failed(
        what=f"{type(fault).__name__}: {str(fault).strip() or 'no message'}",
        cause="The program did not expect this; the log holds the whole story.",
        remedy=f"Read {folder / wire.LOG}; if it is our fault, report it with that file.",
        traceback=trace,
    )


def _with_less_memory(folder: Path) -> str:
    """What to do now: of a training run, the command that goes on with less memory."""
    try:
        job = wire.read_job(folder)
    except Refusal:
        return LESS_MEMORY
    if not isinstance(job.task, Train):
        return LESS_MEMORY if isinstance(job.task, Bench) else LEAVE_ROOM
    ways = rungs(job.task.recipe, job.resolved)
    if not ways:
        return LESS_MEMORY
    first, *others = ways
    changes = " ".join(
        f"--set {path}={str(value).lower()}" for path, value in first.settings.items()
    )
    told = f"{first.words} Resume it so: python -m studio resume {folder.name} {changes}"
    names = ", then ".join(rung.name for rung in others)
    more = f" Where that is still too much: {names}." if names else ""
    return f"{told}.{more} Weights that do not fit need method qlora or a smaller model."
