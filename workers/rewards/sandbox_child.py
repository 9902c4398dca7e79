"""What runs inside the sandbox: takes one call a line on stdin, answers one a line on stdout.

Stands alone, with the standard library only: it is started by its path under `python -I`. Every
call runs in a fork with its own limits, and whatever the fork leaves behind is killed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

LONGEST_REPLY = 100_000
NOBODY = 65534
GRACE_S = 0.2


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    calls = iter(sys.stdin.readline, "")
    setting = json.loads(next(calls))
    contained = bool(setting["contained"])
    if contained and hasattr(os, "geteuid") and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        call = _load(setting)
    except BaseException as fault:
        _say(replies, {"fault": _told(fault)})
        return
    _say(replies, {"ready": True})
    for line in calls:
        asked = json.loads(line)
        reply, clean = _run(call, asked, setting, replies, contained)
        _say(replies, reply if clean else {**reply, "last": True})
        if not clean:  # what is left behind dies with the namespace, and that with us
            return


def _say(replies: Any, what: dict[str, Any]) -> None:
    replies.write(json.dumps(what) + "\n")
    replies.flush()


def _told(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}"[:300]


def _load(setting: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """The function to call: the user's own reward, or the runner of a sample's code."""
    if setting["kind"] == "tests":
        return _passed_share
    space: dict[str, Any] = {"__name__": "reward"}
    exec(compile(setting["code"], "<reward>", "exec"), space)
    reward: Any = space.get("reward")
    if not callable(reward):
        raise NameError("the code defines no function called reward")

    def call(sample: dict[str, Any]) -> Any:
        return reward(sample["prompt"], sample["completion"], sample["answer"])

    return call


def _passed_share(sample: dict[str, Any]) -> float:
    """The share of the assert lines that hold after the code has run."""
    space: dict[str, Any] = {"__name__": "solution"}
    exec(compile(sample["completion"], "<answer>", "exec"), space)
    tests = [line for line in sample["answer"].splitlines() if line.strip()]
    passed = 0
    for test in tests:
        try:
            exec(compile(test, "<test>", "exec"), space)
            passed += 1
        except Exception:
            continue
    return passed / max(1, len(tests))


def _run(
    call: Callable[[dict[str, Any]], Any],
    asked: dict[str, Any],
    setting: dict[str, Any],
    replies: Any,
    contained: bool,
) -> tuple[dict[str, Any], bool]:
    """The reply, and whether nothing was left behind."""
    if not hasattr(os, "fork"):
        return _value(call, asked), True
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_fork(call, asked, setting, replies, reading, writing)
    os.close(writing)
    reply = _hear(reading, asked["seconds"])
    os.close(reading)
    clean = _clear_away(child, contained)
    if reply is None:
        return {"fault": f"it took longer than {asked['seconds']:.1f} s"}, clean
    try:
        return json.loads(reply), clean
    except ValueError:
        fault = "it ended without a value (killed, out of memory, or it left by itself)"
        return {"fault": fault}, clean


def _be_the_fork(
    call: Callable[[dict[str, Any]], Any],
    asked: dict[str, Any],
    setting: dict[str, Any],
    replies: Any,
    reading: int,
    writing: int,
) -> None:
    try:
        os.close(replies.fileno())
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setsid()
        _limit(asked["seconds"], setting)
        said = json.dumps(_value(call, asked)).encode()
        os.write(writing, said)
    finally:
        os._exit(0)


def _limit(seconds: float, setting: dict[str, Any]) -> None:
    import resource

    cpu = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    memory = int(setting["memory_mb"]) << 20
    if sys.platform != "darwin":  # which refuses to bound the address space
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    processes = int(setting["processes"])
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def _value(call: Callable[[dict[str, Any]], Any], asked: dict[str, Any]) -> dict[str, Any]:
    try:
        value = call(asked)
    except BaseException as fault:
        return {"fault": _told(fault)}
    if isinstance(value, bool):
        value = float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return {"fault": f"it returned {value!r:.100}, which is not a number"}
    return {"value": float(value)}


def _hear(reading: int, seconds: float) -> bytes | None:
    """What the fork says before the time is up; None when it is not done by then."""
    until = time.monotonic() + seconds
    said = b""
    while len(said) < LONGEST_REPLY:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return None
        part = os.read(reading, 65536)
        if not part:
            return said
        said += part
    return said


def _clear_away(child: int, contained: bool) -> bool:
    """Kills the fork and all that it started; inside a process namespace nothing can hide.

    Returns whether all were gone before the grace ended.
    """
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        try:
            if contained:  # again and again: a fork may be born while the others are killed
                os.kill(-1, signal.SIGKILL)  # all here but the namespace's first process and us
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
        except (ChildProcessError, ProcessLookupError):
            return True
    return False


if __name__ == "__main__":
    main()
