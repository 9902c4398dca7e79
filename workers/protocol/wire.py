"""Jobs, events and requests on disk: who writes what, how lines are followed, files that survive.

job.json         written by the studio, anew when a resume changes settings; `resolved` is filled in
                 by the worker
events.jsonl     appended by the worker alone, numbered from 1
requests.jsonl   appended by the studio
alive            written by the worker: pid and start time; touched once a second
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from workers.protocol.events import (
    ENDINGS,
    KNOWN,
    Evaluated,
    Event,
    Finding,
    Metrics,
    Started,
    Unknown,
)
from workers.protocol.jobs import Job
from workers.protocol.metrics import FORMER, present_name
from workers.protocol.recipe import with_present_keys
from workers.protocol.refusal import Refusal
from workers.protocol.requests import AnyRequest, Request

JOB = "job.json"
EVENTS = "events.jsonl"
REQUESTS = "requests.jsonl"
ALIVE = "alive"
LOG = "worker.log"
FORMER_EVENTS = {"Eased": "FindingCleared"}
"""Events' names in earlier versions to the present ones."""
BEAT_S = 1.0
"""Seconds between two touches of `alive`."""


class Line(msgspec.Struct, frozen=True):
    """One event with its number and time."""

    n: int
    t: float
    """Seconds since the epoch."""
    event: Event


class _Header(msgspec.Struct, frozen=True):
    n: int
    t: float
    event: msgspec.Raw


class _Tag(msgspec.Struct, frozen=True):
    type: str


class Alive(msgspec.Struct, frozen=True):
    """Names one process for good: a pid can be used again, not with the same start time."""

    pid: int
    started: float
    """Seconds since the epoch, as the system tells it."""


def encode_event(n: int, event: Event) -> bytes:
    """One line of events.jsonl, newline included."""
    return msgspec.json.encode({"n": n, "t": time.time(), "event": event}) + b"\n"


def decode_event(line: bytes) -> Line:
    """The event on a line; one of a later version becomes `Unknown`.

    Raises:
        msgspec.DecodeError: the line is not an event at all (a torn write, another file).
    """
    header = msgspec.json.decode(line, type=_Header)
    name = msgspec.json.decode(header.event, type=_Tag).type
    known = KNOWN.get(FORMER_EVENTS.get(name, name))
    if known is not None:
        raw = header.event if name in KNOWN else _under_present_name(header.event, known)
        try:
            event = msgspec.json.decode(raw, type=known)
            return Line(header.n, header.t, _with_present_metrics(event))
        except msgspec.ValidationError:
            pass  # the same name with other fields: a later version's
    fields = msgspec.json.decode(header.event)
    return Line(header.n, header.t, Unknown(name=name, fields=fields))


def _under_present_name(event: msgspec.Raw, known: type[Event]) -> bytes:
    """An event of an earlier version, which had another name for it."""
    return msgspec.json.encode(msgspec.json.decode(event) | {"type": known.__name__})


def _with_present_metrics(event: Event) -> Event:
    """The event with its metrics called as they are now."""
    match event:
        case Metrics(values=values) | Evaluated(values=values) if values.keys() & FORMER.keys():
            named = {present_name(name): value for name, value in values.items()}
            return msgspec.structs.replace(event, values=named)
        case Finding(metric=metric) if metric in FORMER:
            return msgspec.structs.replace(event, metric=present_name(metric))
    return event


def decode_request(line: bytes) -> AnyRequest | None:
    """The request on a line; None for one of a later version."""
    try:
        return msgspec.json.decode(line, type=AnyRequest)
    except msgspec.DecodeError:
        return None


def append_request(folder: Path, request: Request) -> None:
    """Tells a job something; the line is on disk when this returns."""
    with (folder / REQUESTS).open("ab") as file:
        file.write(msgspec.json.encode(request) + b"\n")
        file.flush()


T = TypeVar("T")


class Follower(Generic[T]):
    """Reads whole new lines of a growing file from a byte cursor: 0 is history."""

    def __init__(self, path: Path, decode: Callable[[bytes], T], cursor: int = 0) -> None:
        self.path = path
        self.cursor = cursor
        self._decode = decode

    def read(self, limit_bytes: int = 1 << 20) -> Iterator[T]:
        """What was appended since the last call, at most about `limit_bytes` of it.

        A line without its newline is left for the next call. Undecodable lines are passed over.
        """
        try:
            if self.path.stat().st_size <= self.cursor:
                return
            with self.path.open("rb") as file:
                file.seek(self.cursor)
                chunk = file.read(limit_bytes)
                if b"\n" not in chunk:
                    chunk += file.readline()
        except FileNotFoundError:
            return
        end = chunk.rfind(b"\n") + 1
        self.cursor += end
        for line in chunk[:end].splitlines():
            try:
                yield self._decode(line)
            except msgspec.DecodeError:
                continue

    @property
    def behind(self) -> bool:
        """Whether the file holds bytes after the cursor."""
        try:
            return self.path.stat().st_size > self.cursor
        except FileNotFoundError:
            return False


def follow_events(folder: Path, cursor: int = 0) -> Follower[Line]:
    return Follower(folder / EVENTS, decode_event, cursor)


def read_events(folder: Path) -> list[Line]:
    """All events of a job so far."""
    follower = follow_events(folder)
    lines: list[Line] = []
    while new := list(follower.read()):
        lines.extend(new)
    return lines


def ending(lines: list[Line]) -> Event | None:
    """The event with which a job ended, if it did and was not started again since."""
    turns = (line.event for line in reversed(lines) if isinstance(line.event, (Started, *ENDINGS)))
    last = next(turns, None)
    return None if isinstance(last, Started) else last


def write_job(folder: Path, job: Job) -> None:
    write_atomically(folder / JOB, msgspec.json.format(msgspec.json.encode(job), indent=2))


def read_job(folder: Path) -> Job:
    """The job that a folder asks for; raises `Refusal` when there is none to be read."""
    path = folder / JOB
    try:
        return _decode_job(path.read_bytes())
    except FileNotFoundError:
        raise Refusal(
            f"{folder} holds no job.json.",
            "It is not a job's folder.",
            "Name a folder under jobs/ in the studio's home.",
        ) from None
    except (OSError, msgspec.DecodeError) as fault:
        raise Refusal(
            f"{path} cannot be read.",
            f"{fault}.",
            "It was changed by hand or written by another version; start the run anew.",
        ) from fault


def _decode_job(data: bytes) -> Job:
    """The job; in one of an earlier version recipes have their present keys put in."""
    try:
        return msgspec.json.decode(data, type=Job)
    except msgspec.ValidationError:
        plain = msgspec.json.decode(data)
        if not isinstance(plain, dict) or not isinstance(plain.get("task"), dict):
            raise
        if "recipe" in plain["task"]:
            plain["task"]["recipe"] = with_present_keys(plain["task"]["recipe"])
        plain["then"] = [with_present_keys(recipe) for recipe in plain.get("then") or []]
        return msgspec.convert(plain, Job)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes to a temporary name beside `path`, flushes it to disk, then renames."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def finite(values: dict[str, Any]) -> dict[str, float | None]:
    """Numbers as the wire carries them: NaN and infinities become null, a gap on a chart."""
    return {
        name: float(value) if isinstance(value, int | float) and math.isfinite(value) else None
        for name, value in values.items()
    }
