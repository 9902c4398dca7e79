"""Other programs, run into the log and ended with the set-up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from .faults import CommandFailed
from .places import LOG, PYTHON, ROOT, WINDOWS

GRACE_S = 10.0
# A variable of the caller's that would lead pip past the environment.
ASTRAY = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


def call(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Runs a command into the log. It ends, with all that it started, when the set-up ends."""
    words = [str(word) for word in command]
    inherited = {name: value for name, value in os.environ.items() if name not in ASTRAY}
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(words)}\n".encode())
        log.flush()
        begins = log.tell()
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**inherited, **(environment or {})},
            start_new_session=True,  # a group of its own, so that compilers end with pip
        )
        try:
            code = child.wait()
        except BaseException:
            end_group(child)
            raise
    if code != 0:
        raise CommandFailed(words, code, said_since(begins))


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends a command and what it started: asked first, killed after a grace."""
    if WINDOWS:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], check=False,
                       capture_output=True)  # fmt: skip
        child.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def said_since(position: int) -> str:
    with LOG.open("rb") as log:
        log.seek(position)
        return log.read().decode("utf-8", "replace")


def pip(verb: str, *arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    """Runs pip in .venv. What it installs is not compiled: `compile_packages` does so faster."""
    uncompiled = ["--no-compile"] if verb == "install" else []
    call(PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", verb, *uncompiled,
         *arguments, environment=environment)  # fmt: skip
