"""Steps that are done once: stamps, what is still to do, one set-up at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .console import clock
from .faults import AGAIN, SetupError, Unfinished
from .places import GB, LOCK, STAMPS, VENV


def always() -> bool:
    return True


@dataclass(frozen=True)
class Step:
    """One part of the set-up: done when its stamp holds the fingerprint of its inputs.

    `proof` looks, cheaply, whether what the step made is still there, so that "set the project up
    again" mends an environment that has lost a part.
    """

    name: str
    title: str
    inputs: object
    run: Callable[[], None]
    proof: Callable[[], bool] = always
    space_bytes: int = 0

    @property
    def fingerprint(self) -> str:
        stated = json.dumps([self.name, self.inputs], sort_keys=True, default=str)
        return hashlib.sha256(stated.encode()).hexdigest()

    @property
    def done(self) -> bool:
        with contextlib.suppress(OSError):
            return (STAMPS / self.name).read_text() == self.fingerprint and self.proof()
        return False

    def stamp(self) -> None:
        STAMPS.mkdir(parents=True, exist_ok=True)
        partial = STAMPS / f".{self.name}.partial"
        with partial.open("w") as file:
            file.write(self.fingerprint)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(STAMPS / self.name)


def set_up(steps: list[Step]) -> None:
    """Does the steps that are not done, in order."""
    if not waiting(steps):
        return
    with locked():
        require_space(sum(step.space_bytes for step in waiting(steps)))
        for number, step in enumerate(steps, start=1):
            if not step.done:
                do(step, f"[{number}/{len(steps)}] {step.title}")


def do(step: Step, title: str) -> None:
    """Does one step and stamps it. One that could not do all is left unstamped."""
    with contextlib.suppress(Unfinished), clock(title):
        step.run()
        step.stamp()


def waiting(steps: list[Step]) -> list[Step]:
    """What is still to do: all of it while there is no environment to do it in."""
    return [step for step in steps if not step.done] if steps[0].done else steps


def require_space(needed: int) -> None:
    free = shutil.disk_usage(VENV).free
    if free < needed:
        raise SetupError(
            f"The disk that holds {VENV} has {free / GB:.1f} GB free.",
            f"What is still to install takes about {needed / GB:.0f} GB.",
            f"Free some space and {AGAIN}",
        )


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One set-up at a time in a checkout; the system drops the lock of a process that ends."""
    VENV.mkdir(exist_ok=True)
    with LOCK.open("a+b") as file:
        try:
            lock(file.fileno())
        except OSError:
            raise SetupError(
                "Another set-up is at work in this checkout.",
                "It was started in another terminal.",
                "Wait until it is done, then run the same command again.",
            ) from None
        yield


def lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
