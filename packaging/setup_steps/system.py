"""What the system has to bring: libraries of Qt, a C++ compiler, an NVIDIA driver."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path

from .card import cards
from .commands import call
from .console import say
from .faults import AGAIN, CommandFailed, SetupError, Unfinished
from .places import APT_FAILED, DRIVER_SEEN

# What QtGui is linked with (readelf on the 6.11.3 wheel), the offscreen platform included, and
# what the X11 platform loads beyond that. Library to Debian package.
QT_ALWAYS = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libX11.so.6": "libx11-6",
}
QT_WINDOW = {
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
}


def missing_libraries(wanted: dict[str, str]) -> dict[str, str]:
    """Those that cannot be loaded; none elsewhere than on Linux."""
    if platform.system() != "Linux":
        return {}
    return {library: package for library, package in wanted.items() if not loads(library)}


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False


def provide_libraries(wanted: dict[str, str]) -> None:
    """Installs what Qt lacks, or says what to type: everything but the window runs without."""
    missing = missing_libraries(wanted)
    if missing and is_debian() and is_root() and not APT_FAILED.exists():
        try:
            apt_install(list(missing.values()))
        except CommandFailed:
            APT_FAILED.touch()  # or every start on a machine without a network would wait for apt
        missing = missing_libraries(wanted)
    if not missing:
        return
    say("  Qt lacks a few system libraries for its window. All but the window works without them.")
    if is_debian():
        say(f"  Type this once: sudo apt-get install -y {' '.join(missing.values())}")
    else:
        say(f"  Install the packages that hold: {' '.join(missing)}")
    raise Unfinished


def provide(debian: list[str], what: str, why: str, elsewhere: str) -> None:
    """Installs Debian packages where that may be done, else raises with what to type."""
    if is_debian() and is_root():
        apt_install(debian)
        return
    by_hand = f"Type: sudo apt-get install -y {' '.join(debian)}" if is_debian() else elsewhere
    raise SetupError(what, why, f"{by_hand} Then {AGAIN}")


def apt_install(names: list[str]) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(CommandFailed):  # one source of many that is away need not matter
        call("apt-get", "update", "-qq", environment=quiet)
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends",
         "-o", "DPkg::Lock::Timeout=120", *names, environment=quiet)  # fmt: skip


def is_debian() -> bool:
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def choose_kind(cpu: bool) -> str:
    """`cuda` with an NVIDIA driver, else `cpu`. A yes is remembered: asking can take seconds."""
    if cpu:
        return "cpu"
    return "cuda" if DRIVER_SEEN.exists() or cards() else "cpu"


def require_compiler() -> None:
    if has_compiler():
        return
    elsewhere = {
        "Darwin": "Type: xcode-select --install",
        "Windows": "Install 'Build Tools for Visual Studio' with 'Desktop development with C++'.",
    }.get(platform.system(), "Install gcc and g++ with the system's package manager.")
    provide(
        ["build-essential"],
        "There is no C++ compiler.",
        "llama.cpp, which runs exported models, is compiled for this machine.",
        elsewhere,
    )


def has_compiler() -> bool:
    """On macOS and Windows the name alone says nothing: a stub, and a compiler outside PATH."""
    system = platform.system()
    if system == "Darwin":
        return prints_a_path(["xcode-select", "-p"])
    if system == "Windows":
        return bool(shutil.which("cl")) or prints_a_path(visual_studio_query())
    c, cpp = ("CC", "cc", "gcc", "clang"), ("CXX", "c++", "g++", "clang++")
    return all(
        os.environ.get(variable) or any(shutil.which(name) for name in names)
        for variable, *names in (c, cpp)
    )


def visual_studio_query() -> list[str]:
    """Visual Studio's own finder, at its documented fixed place; CMake asks it too."""
    programs = os.environ.get("PROGRAMFILES(X86)", r"C:\Program Files (x86)")
    finder = rf"{programs}\Microsoft Visual Studio\Installer\vswhere.exe"
    tools = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    return [finder, "-products", "*", "-requires", tools, "-property", "installationPath"]


def prints_a_path(command: list[str]) -> bool:
    try:
        told = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return told.returncode == 0 and bool(told.stdout.strip())
