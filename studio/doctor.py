"""Is everything here that the program needs? Its own parts at once, the workers' by a real job."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import sys
from typing import Any

import msgspec

from studio.headless import Headless
from studio.paths import LEAST_FREE_BYTES
from workers.protocol import wire
from workers.protocol.events import Checked, HardwareSeen
from workers.protocol.jobs import Probe

QT_LIBRARIES = ("EGL", "xkbcommon-x11", "xcb-cursor", "xcb-icccm", "xcb-image", "xcb-keysyms",
                "xcb-render-util", "xcb-xkb", "dbus-1")  # fmt: skip
"""What Qt's X11 plugin loads beyond the wheel, on Linux."""
SET_UP = "Set the project up again: python3 packaging/bootstrap.py run"
Check = dict[str, Any]


def examine(headless: Headless) -> tuple[list[Check], dict[str, Any]]:
    """Each check: `name`, `ok`, `detail`, `remedy` (empty where all is well); and the hardware, as
    `workers.protocol.cards.Hardware` has it, empty where no worker could look."""
    home = headless.jobs.home
    checks, hardware = _workers(headless)
    return [_python(), _disk(str(home.root)), _window(), *checks], hardware


def _check(name: str, ok: bool, detail: str, remedy: str) -> Check:
    return {"name": name, "ok": ok, "detail": detail, "remedy": "" if ok else remedy}


def _python() -> Check:
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    return _check("Python", good, platform.python_version(), "Use Python 3.11, 3.12 or 3.13.")


def _disk(home: str) -> Check:
    free = shutil.disk_usage(home).free
    writable = os.access(home, os.W_OK)
    detail = f"{home}, {free / 1e9:.1f} GB free" + ("" if writable else ", not writable")
    good = writable and free > LEAST_FREE_BYTES
    return _check("home", good, detail, "Free some space, or name another with --home DIR.")


def _window() -> Check:
    if importlib.util.find_spec("PySide6") is None:
        return _check("window", False, "PySide6 is not installed", SET_UP)
    missing = [n for n in QT_LIBRARIES if not ctypes.util.find_library(n)] if _is_linux() else []
    detail = f"missing: {', '.join(missing)}" if missing else "Qt finds its libraries"
    return _check("window", not missing, detail, SET_UP)


def _is_linux() -> bool:
    return sys.platform.startswith("linux")


def _workers(headless: Headless) -> tuple[list[Check], dict[str, Any]]:
    row = headless.do(Probe(), "doctor")
    said = [line.event for line in wire.read_events(headless.jobs.folder(row.id))]
    checks = [
        _check(event.check, event.passed, event.detail, event.remedy)
        for event in said
        if isinstance(event, Checked)
    ]
    ran = row.status == "finished"
    detail = "a worker starts and ends well" if ran else row.cause
    seen = [event.hardware for event in said if isinstance(event, HardwareSeen)]
    hardware = msgspec.to_builtins(seen[-1]) if seen else {}
    return [_check("worker", ran, detail, row.remedy or SET_UP), *checks], hardware
