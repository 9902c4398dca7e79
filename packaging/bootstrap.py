#!/usr/bin/env python3
"""Sets Finetune Studio up on a fresh machine, then runs or tests it. Standard library only.

    python3 packaging/bootstrap.py [--cpu] run [ARGS]    set up, then start the studio with ARGS
    python3 packaging/bootstrap.py [--cpu] test [ARGS]   set up, then run all tests

Everything goes into .venv beside this checkout. Each step leaves a stamp when it is done, so an
interrupted set-up goes on where it was and a finished one costs next to nothing. All that this
program says goes to stderr: stdout belongs to the studio.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMPS = VENV / ".bootstrap"
LOG = VENV / "bootstrap.log"
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
CONVERTER = VENV / "share" / "finetune-studio" / "llama.cpp"
TORCH = "2.13.0"
LLAMA = "0.3.36"
NEEDED_BYTES = {"cpu": 6 * 10**9, "cuda": 14 * 10**9}
HEARTBEAT_S = 60.0
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")

# What Qt loads beyond its wheel: always, and for a real X11 window. Library to Debian package.
QT_ALWAYS = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
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
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libdbus-1.so.3": "libdbus-1-3",
}
# Out of the converter's archive nothing else is taken.
CONVERTER_PARTS = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "LICENSE")
CONVERTER_FOLDERS = ("conversion", "gguf-py")


class SetupError(Exception):
    """What happened, the likely cause, and what to do now."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.why, self.remedy = what, why, remedy


@dataclass(frozen=True)
class Step:
    """One part of the set-up: done when its stamp holds the fingerprint of its inputs."""

    name: str
    title: str
    inputs: str
    run: Callable[[], None]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name}\n{self.inputs}".encode()).hexdigest()

    @property
    def done(self) -> bool:
        with contextlib.suppress(OSError):
            return (STAMPS / self.name).read_text() == self.fingerprint
        return False

    def stamp(self) -> None:
        STAMPS.mkdir(parents=True, exist_ok=True)
        partial = STAMPS / f".{self.name}.partial"
        partial.write_text(self.fingerprint)
        partial.replace(STAMPS / self.name)


# What is asked


@dataclass(frozen=True)
class Asked:
    verb: str
    cpu: bool
    rest: list[str]


def read_arguments(arguments: list[str]) -> Asked:
    """--cpu counts before the verb or right after it; all that follows belongs to the program."""
    rest = list(arguments)
    cpu = False
    verb = ""
    while rest:
        if rest[0] == "--cpu":
            cpu = True
        elif not verb and rest[0] in ("run", "test"):
            verb = rest[0]
        else:
            break
        rest.pop(0)
    if not verb:
        raise SetupError("Neither run nor test was asked for.", "", __doc__ or "")
    return Asked(verb, cpu, rest)


def has_display(system: str, environment: dict[str, str]) -> bool:
    """Whether a window can open. Windows and macOS always have a screen."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return system != "Linux" or any(environment.get(name) for name in named)


def has_nvidia_driver() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


# Saying what is done


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def clock(title: str) -> Iterator[None]:
    """Shows a step and how long it has taken: a live line on a terminal, else a line a minute."""
    began = time.monotonic()
    over = threading.Event()
    live = sys.stderr.isatty()
    if not live:
        say(f"{title} ...")

    def tick() -> None:
        while not over.wait(0.5 if live else HEARTBEAT_S):
            spent = time.monotonic() - began
            if live:
                print(f"\r{title} ... {spent:.0f} s ", end="", file=sys.stderr, flush=True)
            else:
                say(f"  still at it, {spent:.0f} s")

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        over.set()
        ticking.join()
    say(f"{chr(13) if live else ''}{title} ... {time.monotonic() - began:.0f} s, done")


# Running other programs


def call(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Runs a command into the log; its last lines are shown when it fails."""
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        log.flush()
        ended = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    if ended.returncode != 0:
        raise CommandFailed(command, ended.returncode, tail_of(LOG))


class CommandFailed(SetupError):
    """A command that was run ended badly; the cause is guessed from what it printed."""

    def __init__(self, command: tuple[str | Path, ...], code: int, tail: list[str]) -> None:
        why, remedy = guess(" ".join(tail))
        shown = " ".join(str(part) for part in command[:6])
        super().__init__(
            f"This ended with code {code}: {shown}\n    " + "\n    ".join(tail), why, remedy
        )


def tail_of(path: Path, lines: int = 15) -> list[str]:
    return path.read_text("utf-8", "replace").splitlines()[-lines:]


def guess(said: str) -> tuple[str, str]:
    """The likely cause and what to do, from the last lines that a command printed."""
    low = said.lower()
    if "no space left" in low:
        return "The disk is full.", "Free some space and run this again; it goes on from here."
    if any(word in low for word in ("connection", "timed out", "resolve", "network", "proxy")):
        return (
            "The package registry could not be reached.",
            "Look to the network and run this again; what was fetched is kept.",
        )
    if "cmake" in low or "compiler" in low or "gcc" in low or "ninja" in low:
        return "The C++ compiler did not get through.", f"Read {LOG}, mend that, run this again."
    return "The log may tell.", f"Read {LOG}, mend that, and run this again."


def pip(*arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    call(PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments, environment=environment)


# The steps


def make_environment() -> None:
    if VENV.exists() and not _works(PYTHON):
        for path in VENV.iterdir():
            if path not in (LOG, lock_path()):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not _works(PYTHON):
        call(sys.executable, "-m", "venv", VENV)


def _works(python: Path) -> bool:
    try:
        command = [str(python), "-c", "import pip"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def torch_requirements(kind: str, system: str) -> list[str]:
    """What to ask pip for, first choice first.

    `===` takes the plain version alone, so that a CPU build with a local version is not preferred
    to it; `+cpu` is to be had where pip is configured for it, otherwise the plain build, which is
    larger and runs on the CPU too.
    """
    if system != "Linux":
        return [f"torch=={TORCH}"]
    if kind == "cuda":
        return [f"torch==={TORCH}"]
    return [f"torch=={TORCH}+cpu", f"torch=={TORCH}"]


def install_torch(kind: str) -> None:
    wanted = torch_requirements(kind, platform.system())
    for number, requirement in enumerate(wanted, start=1):
        try:
            pip("install", "-c", CONSTRAINTS, requirement)
            return
        except CommandFailed:
            if number == len(wanted):
                raise
            say("  no separate CPU build is to be had here; taking the larger one, which also runs")


def require_compiler() -> None:
    if any(shutil.which(name) for name in ("cc", "gcc", "clang", "cl")):
        return
    if _is_debian() and _is_root():
        apt_install(["build-essential"])
        return
    remedy = {
        "Darwin": "xcode-select --install",
        "Windows": "Install 'Build Tools for Visual Studio' with the C++ workload.",
    }.get(platform.system(), "sudo apt-get install -y build-essential")
    raise SetupError(
        "There is no C++ compiler.", "llama.cpp is compiled for this machine.", f"Do: {remedy}"
    )


def install_llama(kind: str) -> None:
    """llama-cpp-python comes as source only; pip keeps the compiled wheel for the next time."""
    require_compiler()
    wanted = ("install", "-c", CONSTRAINTS, f"llama-cpp-python=={LLAMA}")
    if kind == "cuda" and shutil.which("nvcc"):
        try:
            pip(*wanted, environment={"CMAKE_ARGS": "-DGGML_CUDA=on"})
            return
        except CommandFailed:
            say("  the GPU build of llama.cpp did not compile; taking the CPU build")
    pip(*wanted)


def install_project(extra: str) -> None:
    pip("install", "-c", CONSTRAINTS, "-e", f"{ROOT}{extra}")


def fetch_converter() -> None:
    """llama.cpp's own converter, out of the sdist of the very version that runs the files."""
    download = VENV / ".converter-download"
    shutil.rmtree(download, ignore_errors=True)
    package = "llama-cpp-python"
    pip("download", "--no-deps", "--no-binary", package, f"{package}=={LLAMA}", "-d", download)
    archive = next(download.glob("*.tar.gz"))
    partial = CONVERTER.with_name(".llama.cpp.partial")
    shutil.rmtree(partial, ignore_errors=True)
    take_converter(archive, partial)
    (partial / "VERSION").write_text(f"{LLAMA}\n")
    shutil.rmtree(CONVERTER, ignore_errors=True)
    partial.rename(CONVERTER)
    shutil.rmtree(download, ignore_errors=True)


def take_converter(archive: Path, target: Path) -> None:
    """Writes the converter's plain files out of an sdist; links and other paths are passed over."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = converter_path(member.name)
            source = tar.extractfile(member) if inside and member.isreg() else None
            if inside is None or source is None:
                continue
            path = target / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
    if not (target / CONVERTER_PARTS[0]).is_file():
        raise SetupError(
            f"{archive.name} holds no {CONVERTER_PARTS[0]}.",
            "Its layout has changed.",
            "Report this; everything but the export to GGUF works.",
        )


def converter_path(name: str) -> PurePosixPath | None:
    """Where a member of the sdist goes below the converter's folder; None for all the rest."""
    parts = PurePosixPath(name).parts
    if parts[1:3] != ("vendor", "llama.cpp") or ".." in parts or len(parts) < 4:
        return None
    inside = PurePosixPath(*parts[3:])
    wanted = inside.parts[0] in CONVERTER_FOLDERS or str(inside) in CONVERTER_PARTS
    return inside if wanted else None


# System libraries, looked at by loading them


def missing_libraries(wanted: dict[str, str]) -> list[str]:
    """The Debian packages of libraries that cannot be loaded; empty elsewhere than on Linux."""
    if platform.system() != "Linux":
        return []
    return [package for library, package in wanted.items() if not _loads(library)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False


def provide_libraries(wanted: dict[str, str]) -> None:
    missing = missing_libraries(wanted)
    if not missing:
        return
    if _is_debian() and _is_root():
        apt_install(missing)
    elif _is_debian():
        say("Qt needs a few system libraries for its window. Type this once:")
        say(f"    sudo apt-get install -y {' '.join(missing)}")
    else:
        lacking = [library for library, package in wanted.items() if package in missing]
        say(f"Qt needs these libraries for its window: {' '.join(lacking)}")


def apt_install(packages: list[str]) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    call("apt-get", "update", "-qq", environment=quiet)
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, environment=quiet)


def _is_debian() -> bool:
    return shutil.which("apt-get") is not None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


# Putting it together


def plan(asked: Asked, kind: str) -> list[Step]:
    """The steps in order; what each depends on is in its inputs."""
    python = f"{sys.version_info[:2]} {platform.machine()}"
    pins = CONSTRAINTS.read_text()
    project = (ROOT / "pyproject.toml").read_text()
    extra = "[dev]" if asked.verb == "test" else ""
    libraries = QT_ALWAYS | (QT_WINDOW if asked.verb == "run" else {})
    suffix = "-window" if asked.verb == "run" else ""
    return [
        Step("environment", "Making .venv", python, make_environment),
        Step("torch", f"Installing torch {TORCH} ({kind})", f"{python} {kind} {TORCH}",
             lambda: install_torch(kind)),
        Step("llama", "Compiling llama.cpp (about 10 minutes, once)", f"{python} {kind} {LLAMA}",
             lambda: install_llama(kind)),
        Step(f"project{extra}", "Installing the training and window libraries",
             f"{python} {pins} {project}", lambda: install_project(extra)),
        Step("converter", "Taking llama.cpp's GGUF converter along", LLAMA, fetch_converter),
        Step(f"libraries{suffix}", "Looking at system libraries", f"{sorted(libraries)}",
             lambda: provide_libraries(libraries)),
    ]  # fmt: skip


def set_up(steps: list[Step], kind: str) -> None:
    """Does the steps that are not done, in order."""
    if not PYTHON.exists():
        shutil.rmtree(STAMPS, ignore_errors=True)  # an environment without a Python is none
    waiting = [step for step in steps if not step.done]
    if not waiting:
        return
    require_python()
    with locked():
        require_space(kind)
        for number, step in enumerate(steps, start=1):
            if not step.done:
                with clock(f"[{number}/{len(steps)}] {step.title}"):
                    step.run()
                step.stamp()


def require_python() -> None:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        raise SetupError(
            f"This is Python {platform.python_version()}.",
            "The libraries that train are built for 3.11, 3.12 and 3.13.",
            "Run this with one of those, for example: python3.11 packaging/bootstrap.py run",
        )


def require_space(kind: str) -> None:
    free = shutil.disk_usage(ROOT).free
    installed = (STAMPS / "torch").exists()
    needed = NEEDED_BYTES[kind] // (3 if installed else 1)
    if free < needed:
        raise SetupError(
            f"The disk that holds {ROOT} has {free / 1e9:.1f} GB free.",
            f"The set-up needs about {needed / 1e9:.0f} GB.",
            "Free some space and run this again.",
        )


def lock_path() -> Path:
    return VENV / ".bootstrap.lock"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One set-up at a time in a checkout; the system drops the lock of a process that ends."""
    VENV.mkdir(exist_ok=True)
    with lock_path().open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError:
            raise SetupError(
                "Another set-up is at work in this checkout.",
                "It was started in another terminal.",
                "Wait until it is done.",
            ) from None
        yield


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def studio_arguments(asked: Asked) -> list[str]:
    """What the studio is started with: without a display and without arguments, the demo."""
    if asked.rest or has_display(platform.system(), dict(os.environ)):
        return asked.rest
    say("There is no display, so the demo runs here in the terminal instead of the window.")
    return ["demo"]


def hand_over(command: list[str], environment: dict[str, str]) -> int:
    """Becomes the program, so that signals and the exit code are its own."""
    if not WINDOWS:
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment, check=False).returncode


def start(asked: Asked) -> int:
    environment = dict(os.environ)
    if asked.verb == "run":
        return hand_over([str(PYTHON), "-m", "studio", *studio_arguments(asked)], environment)
    os.chdir(ROOT)
    environment["QT_QPA_PLATFORM"] = "offscreen"
    return hand_over([str(PYTHON), "-m", "pytest", *asked.rest], environment)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say(__doc__ or "")
        return 0 if arguments else 2
    try:
        asked = read_arguments(arguments)
        kind = _kind(asked)
        set_up(plan(asked, kind), kind)
        return start(asked)
    except SetupError as fault:
        say(f"\n{fault.what}\n{fault.why}\n{fault.remedy}".rstrip())
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again: it goes on from here.")
        return 130


def _kind(asked: Asked) -> str:
    """`cuda` with an NVIDIA driver, else `cpu`. Remembered, since asking the driver takes long."""
    chosen = STAMPS / "kind"
    if asked.cpu:
        return "cpu"
    if not chosen.exists() or not (STAMPS / "torch").exists():
        kind = "cuda" if has_nvidia_driver() else "cpu"
        if STAMPS.exists():
            chosen.write_text(kind)
        return kind
    return chosen.read_text()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
