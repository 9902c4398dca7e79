"""A training run that is out of memory goes on by itself, once, from its last checkpoint.

It does so in a fresh image of its process, which gives back all that was held, the GPU's memory and
an error that stuck to its context included, with the first rung of the ladder that leaves the steps
as they are: the micro-batch halved, the accumulation doubled.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from workers.host import Host, failed, holder_of
from workers.memory import DryRunFailed
from workers.protocol import wire
from workers.protocol.checkpoints import last_step
from workers.protocol.events import ENDINGS, Event, Paused, Resolved, Retried, Started
from workers.protocol.faults import kind_of
from workers.protocol.jobs import Train
from workers.protocol.refusal import Refusal
from workers.protocol.resume import Rung, changed, differences, rungs

AGAIN = 75
"""The exit code of a run that is to be run again: EX_TEMPFAIL of sysexits.h."""
HANDED_OVER_S = 60.0
"""How long a process waits for its successor to take the folder, where it cannot become it."""


def retried(host: Host, fault: BaseException) -> Retried | None:
    """With what a run goes on by itself, written into job.json; None where it ends instead.

    It does so once after each start by somebody, however often in the dry run, and only where the
    model was loaded: a smaller batch does not make room for weights.
    """
    task = host.job.task
    if not isinstance(task, Train) or kind_of(fault) != "out_of_memory":
        return None
    dry = isinstance(fault, DryRunFailed)
    said = _since_asked([line.event for line in wire.read_events(host.folder)])
    if not _loaded(said) or (not dry and _spent(said)):
        return None
    rung = next(iter(rungs(task.recipe, host.job.resolved)), None)
    if rung is None or not rung.by_itself:
        return None
    step = last_step(host.folder)
    try:
        job = changed(host.job, rung.settings, step)
        host.resolve(job)
    except (Refusal, OSError):  # what the recipe asks cannot be so, or the disk is full too
        return None
    assert isinstance(job.task, Train)
    differs = differences(task.recipe, job.task.recipe)
    return Retried(step=step, settings=differs, detail=_words(rung, step, dry=dry), dry=dry)


def _since_asked(said: list[Event]) -> list[Event]:
    """What was said since somebody started the run."""
    ends = [at for at, event in enumerate(said) if isinstance(event, (*ENDINGS, Paused))]
    return said[ends[-1] + 1 :] if ends else said


def _loaded(said: Iterable[Event]) -> bool:
    """Whether the model was loaded after the last start."""
    loaded = False
    for event in said:
        loaded = (loaded and not isinstance(event, Started)) or isinstance(event, Resolved)
    return loaded


def _spent(said: Iterable[Event]) -> bool:
    return any(isinstance(event, Retried) and not event.dry for event in said)


def _words(rung: Rung, step: int, *, dry: bool) -> str:
    if dry:
        return f"There is not enough memory for the longest batch. {rung.words}"
    begin = f"from its checkpoint of step {step}" if step else "from the start"
    return f"The memory ran out, and the run goes on by itself {begin}. {rung.words}"


def start_anew(folder: Path, environment: Mapping[str, str]) -> int:
    """Runs this process's command again in its place, with the environment that it began with.

    Does not return where a process can become another image. Elsewhere, on Windows, returns the
    exit code once the new process has the folder.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    try:
        if os.name == "nt":
            return hand_over(folder, command, environment)
        _leave_nothing_open()
        os.execve(sys.executable, command, environment)
    except OSError as fault:
        with Host(folder) as host:
            host.emit(failed(fault, host.folder))
        return 1


def _leave_nothing_open() -> None:
    """A device that stays open in the new image may keep its memory."""
    for number in range(3, 4096):
        with contextlib.suppress(OSError):
            os.set_inheritable(number, False)


def hand_over(folder: Path, command: list[str], environment: Mapping[str, str]) -> int:
    """Starts a successor of this process and waits until it has the folder."""
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    successor = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=environment, creationflags=flags
    )
    until = time.monotonic() + HANDED_OVER_S
    while holder_of(folder) is None and time.monotonic() < until:
        if successor.poll() is not None:
            return successor.returncode
        time.sleep(0.05)
    successor.returncode = successor.poll() or 0  # it goes on without us
    return 0
