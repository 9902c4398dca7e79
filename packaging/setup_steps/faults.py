"""What stops the set-up: what happened, the likely cause, what to do now."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .places import LOG


class SetupError(Exception):
    """What happened, the likely cause, and what to do now."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return f"{self.what}\nLikely cause: {self.why}\nWhat to do: {self.remedy}"


class Unfinished(Exception):
    """A step that could not do all, and has said so: the set-up goes on, and asks again later."""


class Ended(KeyboardInterrupt):
    """The set-up was told to end by a signal other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Cause:
    """Why a command failed, known by what it printed, and what to do now."""

    pattern: str
    why: str
    remedy: str


AGAIN = "run the same command again: it goes on from here."
DISK = Cause(
    r"no space left on device|not enough space on the disk|disk quota exceeded",
    "A disk is full: the one that holds .venv, or the temporary folder (TMPDIR).",
    f"Free some space and {AGAIN}",
)
NETWORK = Cause(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Max retries exceeded"
    r"|Connection (refused|reset|aborted|broken)|timed out|ProxyError|SSLError|IncompleteRead"
    r"|name resolution|Network is unreachable|CERTIFICATE_VERIFY_FAILED|RemoteDisconnected",
    "The package registry could not be reached.",
    f"Look to the network (proxy, VPN), then {AGAIN} What was fetched is kept.",
)
NO_SUCH_BUILD = "No matching distribution found"
COMPILE = Cause(
    r"CMake Error|ninja: (build stopped|error)|CMakeBuild|Failed (building wheel|to build)"
    r"|fatal error:|error: command .*(gcc|cc|cl|c\+\+)",
    "llama.cpp did not compile with the compiler of this machine.",
    f"The log above its last lines says where. Mend that, then {AGAIN}",
)
CAUSES = (
    DISK,
    NETWORK,
    Cause(
        r"ensurepip",
        "This Python comes without the part that makes environments.",
        f"Install it (on Debian and Ubuntu the package python3-venv), then {AGAIN}",
    ),
    COMPILE,
    Cause(
        NO_SUCH_BUILD,
        "The package registry that pip asks lacks this version for this system and this Python.",
        "Look at `python3 -m pip config list`; on an unusual system there may be no build.",
    ),
    Cause(
        r"Permission denied|Access is denied",
        "Something in .venv belongs to another user or is open in another program.",
        f"Close the studio, or give the folder back to you, then {AGAIN}",
    ),
)
KILLED = Cause("", "The system ended it, most likely because memory ran out.",
               f"Close other programs, then {AGAIN}")  # fmt: skip
UNKNOWN = Cause("", "The lines above may tell.", f"Mend what they name, then {AGAIN}")


def cause_of(said: str, code: int) -> Cause:
    """The likely cause, from a command's output and exit code."""
    if code in (-9, 137):
        return KILLED
    last = "\n".join(said.splitlines()[-40:])  # an early hiccup that pip got over is no cause
    known = (cause for cause in CAUSES if re.search(cause.pattern, last, re.IGNORECASE))
    return next(known, UNKNOWN)


class CommandFailed(SetupError):
    """A command ended badly; the cause is told from what it printed."""

    def __init__(self, command: list[str], code: int, said: str) -> None:
        self.said = said
        self.cause = cause_of(said, code)
        tail = "\n    ".join(said.splitlines()[-15:])
        what = f"    {tail}\nThis ended with code {code}: {' '.join(command)}"
        super().__init__(what, self.cause.why, f"{self.cause.remedy} All of it is in {LOG}")
