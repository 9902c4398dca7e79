#!/usr/bin/env python3
"""Sets Finetune Studio up on a fresh machine, then runs or tests it. Standard library only.

    python3 packaging/bootstrap.py [--cpu] run [ARGS]    set up, then start the studio with ARGS
    python3 packaging/bootstrap.py [--cpu] test [ARGS]   set up, then run the tests (pytest's ARGS;
                                                         --all: those that take minutes too)

Everything goes into .venv beside this checkout. Each step leaves a stamp when it is done, so an
interrupted set-up goes on where it was and a finished one costs next to nothing. All that this
program says goes to stderr: stdout belongs to the studio.

--cpu takes torch and llama.cpp for the processor even where an NVIDIA driver is found; give it
each time. Without a display and without ARGS, run shows the demo in the terminal.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
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
LOCK = VENV / ".bootstrap.lock"
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
CONVERTER = VENV / "share" / "finetune-studio" / "llama.cpp"
DRIVER_SEEN = STAMPS / "driver"
APT_FAILED = STAMPS / "apt-failed"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
OLDEST, TOO_NEW = (3, 11), (3, 14)
HEARTBEAT_S = 60.0
GRACE_S = 10.0
GB = 10**9
LLAMA_PACKAGE = "llama-cpp-python"
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"

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
# Out of the converter's archive nothing else is taken.
CONVERTER_FILES = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "LICENSE")
CONVERTER_FOLDERS = ("conversion", "gguf-py")
# A variable of the caller's that would lead pip past the environment.
ASTRAY = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


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
        raise SetupError(
            f"'{rest[0]}' is neither run nor test." if rest else "Neither run nor test was asked.",
            "The verb comes first, then what belongs to the studio.",
            "python3 packaging/bootstrap.py run, or: ... test, or: ... --help",
        )
    return Asked(verb, cpu, rest)


def has_display(system: str, environment: dict[str, str]) -> bool:
    """Whether a window can open. Windows and macOS always have a screen."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return system != "Linux" or any(environment.get(name) for name in named)


def studio_arguments(rest: list[str], system: str, environment: dict[str, str]) -> list[str]:
    """What the studio is started with: without a display and without arguments, the demo."""
    if rest or has_display(system, environment):
        return rest
    say("There is no display, so the demo runs here in the terminal instead of the window.")
    return ["demo"]


def has_nvidia_driver() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


def choose_kind(cpu: bool) -> str:
    """`cuda` with an NVIDIA driver, else `cpu`. A yes is remembered: asking can take seconds."""
    if cpu:
        return "cpu"
    return "cuda" if DRIVER_SEEN.exists() or has_nvidia_driver() else "cpu"


def pinned(package: str) -> str:
    """The version that pyproject.toml asks for: what is installed and proved here follows it."""
    found = re.search(rf"[\"']{package}==([^\s\"';,]+)", PROJECT.read_text("utf-8"))
    if not found:
        raise SetupError(
            f"{PROJECT} names no one version of {package}.",
            "The checkout is damaged or was changed.",
            "Restore that file: git checkout -- pyproject.toml",
        )
    return found.group(1)


# Saying what is done


def say(text: str) -> None:
    """A line on stderr; on a terminal it takes the place of the running clock's."""
    over = f"\r{text:<79}" if sys.stderr.isatty() else text
    print(over, file=sys.stderr, flush=True)


@contextlib.contextmanager
def clock(title: str) -> Iterator[None]:
    """Shows a step and how long it has taken: a live line on a terminal, else a line a minute."""
    began = time.monotonic()
    over = threading.Event()
    live = sys.stderr.isatty()

    def line(ending: str = "") -> str:
        return f"{title} ... {time.monotonic() - began:.0f} s{ending}"

    def tick() -> None:
        while not over.wait(0.5 if live else HEARTBEAT_S):
            if live:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r{line()[:width]}", end="", file=sys.stderr, flush=True)
            else:
                say(line(", still at it"))

    if not live:
        say(f"{title} ...")
    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    ending = ", not done"
    try:
        yield
        ending = ", done"
    finally:
        over.set()
        ticking.join()
        say(line(ending))


# Running other programs


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


def pip(*arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    call(PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments,
         environment=environment)  # fmt: skip


# The environment


def is_supported(version: tuple[int, ...]) -> bool:
    return OLDEST <= version[:2] < TOO_NEW


def environment_version() -> str:
    """The Python of .venv, as `3.11`; empty where it does not run, has no pip or does not suit.

    A system's new Python under an old environment fails here too: pip is not in its folder.
    """
    command = [str(PYTHON), "-I", "-c", "import pip, sys; print(*sys.version_info[:2])"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return ""
    version = tuple(map(int, told))
    return ".".join(told) if len(version) == 2 and is_supported(version) else ""


def make_environment() -> None:
    if environment_version():
        return
    require_venv_module()
    clear_environment()
    call(sys.executable, "-m", "venv", VENV)


def clear_environment() -> None:
    """Removes a half-made environment, and with it the stamps that told what was in it."""
    for path in VENV.iterdir():
        if path in (LOG, LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def require_python() -> None:
    if not is_supported(sys.version_info[:2]):
        raise SetupError(
            f"This is Python {platform.python_version()}.",
            "The libraries that train are built for Python 3.11, 3.12 and 3.13.",
            "Run this with one of those, for example: python3.12 packaging/bootstrap.py run",
        )


def require_venv_module() -> None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    provide(
        [f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"],
        "This Python cannot make an environment.",
        "It comes without the modules venv and ensurepip.",
        "Install a whole Python 3.11, 3.12 or 3.13.",
    )


def installed(package: str) -> str:
    """The version of a package in .venv; empty where there is none or it is half-installed.

    pip writes RECORD last, so an installation that was interrupted has none.
    """
    name = re.sub(r"[-_.]+", "_", package)
    for record in packages().glob(f"{name}-*.dist-info/RECORD"):
        return record.parent.name.removeprefix(f"{name}-").removesuffix(".dist-info")
    return ""


def packages() -> Path:
    if WINDOWS:
        return VENV / "Lib" / "site-packages"
    return next(VENV.glob("lib/python3.*/site-packages"), VENV / "lib")


# torch


def torch_requirements(kind: str, system: str, version: str) -> list[str]:
    """What to ask pip for, first choice first.

    `===` takes the plain version alone, so that a CPU build with a local version is not preferred
    to it; `+cpu` is to be had where pip is configured for it, otherwise the plain build, which is
    larger and runs on the CPU too.
    """
    if system != "Linux":
        return [f"torch=={version}"]
    if kind == "cuda":
        return [f"torch==={version}"]
    return [f"torch=={version}+cpu", f"torch=={version}"]


def has_torch() -> bool:
    return installed("torch").split("+")[0] == pinned("torch")


def torch_has_cuda() -> bool:
    """Whether the torch in .venv is a CUDA build; read, not imported, which would take seconds."""
    with contextlib.suppress(OSError):
        text = (packages() / "torch" / "version.py").read_text("utf-8")
        return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None
    return False


def install_torch(kind: str) -> None:
    if not (has_torch() and torch_has_cuda() == (kind == "cuda")):
        first, *others = torch_requirements(kind, platform.system(), pinned("torch"))
        try:
            pip("install", "-c", CONSTRAINTS, first)
        except CommandFailed as fault:
            if not others or NO_SUCH_BUILD not in fault.said:
                raise
            install_larger_torch(others[0])
    if kind == "cuda":
        DRIVER_SEEN.touch()
        tell_if_without_cuda()


def install_larger_torch(requirement: str) -> None:
    say("  There is no separate CPU build where pip looks: taking the ordinary build of torch.")
    say("  It is larger, and runs on the processor too.")
    if not has_torch():
        require_space(10 * GB)
    pip("install", "-c", CONSTRAINTS, requirement)


def tell_if_without_cuda() -> None:
    if torch_has_cuda():
        return
    say("  This build of torch cannot use the NVIDIA card, so training would run on the processor.")
    say(f"  To mend it, run the command that PyTorch's page 'Get started' gives, with {PYTHON} -m")
    say(f"  pip in place of pip, --force-reinstall --no-deps, and torch=={pinned('torch')}.")


# llama.cpp


def wants_gpu_llama(kind: str) -> bool:
    return kind == "cuda" and shutil.which("nvcc") is not None


def has_llama() -> bool:
    return installed(LLAMA_PACKAGE) == pinned(LLAMA_PACKAGE)


def llama_has_cuda() -> bool:
    return any((packages() / "llama_cpp" / "lib").glob("*ggml-cuda*"))


def install_llama(gpu: bool) -> None:
    """llama-cpp-python comes as source only; pip keeps the compiled wheel for the next time."""
    if has_llama() and (llama_has_cuda() or not gpu):
        return
    require_compiler()
    if gpu:
        compile_for_gpu()
    pip("install", "-c", CONSTRAINTS, f"{LLAMA_PACKAGE}=={pinned(LLAMA_PACKAGE)}",
        environment={"CMAKE_ARGS": cmake_arguments()})  # fmt: skip


def cmake_arguments() -> str:
    """The user's own, and without AMX where the processor has it.

    llama.cpp then multiplies quantized weights in tile registers, which virtual machines may refuse
    to hand out: the first answer ends the process (seen on a Xeon, signal 11 at `ldtilecfg`).
    """
    asked = os.environ.get("CMAKE_ARGS", "")
    if not has_amx():
        return asked
    return f"{asked} -DCMAKE_C_FLAGS='{WITHOUT_AMX}' -DCMAKE_CXX_FLAGS='{WITHOUT_AMX}'".strip()


def has_amx() -> bool:
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def compile_for_gpu() -> None:
    """Tries the CUDA build. pip's cache cannot tell it from a CPU one, so it stays out of that."""
    flags = f"{cmake_arguments()} -DGGML_CUDA=on".strip()
    afresh = ("--force-reinstall", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA_PACKAGE)
    try:
        pip("install", *afresh, f"{LLAMA_PACKAGE}=={pinned(LLAMA_PACKAGE)}",
            environment={"CMAKE_ARGS": flags})  # fmt: skip
    except CommandFailed as fault:
        if fault.cause in (DISK, NETWORK):
            raise
        say("  llama.cpp did not compile for the GPU: taking its CPU build. Training is not")
        say(f"  touched by that; chat is slower. The reason is in {LOG}")


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


# The project and the converter


def install_project(extra: str) -> None:
    pip("install", "-c", CONSTRAINTS, "-e", f".{extra}")


def has_project() -> bool:
    return bool(installed("finetune-studio"))


def project_inputs() -> dict[str, object]:
    """What of pyproject.toml an installation depends on: a linter's setting is no part of it."""
    import tomllib  # new in 3.11, and an older Python must get far enough to be told

    stated = tomllib.loads(PROJECT.read_text("utf-8"))
    build = stated.get("tool", {}).get("hatch")
    return {"project": stated["project"], "system": stated["build-system"], "build": build}


def fetch_converter() -> None:
    """llama.cpp's own converter, out of the sdist of the very version that runs the files."""
    version = pinned(LLAMA_PACKAGE)
    download = VENV / ".converter-download"
    partial = CONVERTER.with_name(".llama.cpp.partial")
    for leftover in (download, partial):
        shutil.rmtree(leftover, ignore_errors=True)
    pip("download", "--no-deps", "--no-binary", LLAMA_PACKAGE, f"{LLAMA_PACKAGE}=={version}",
        "-d", download)  # fmt: skip
    take_converter(next(download.glob("*.tar.gz")), partial)
    (partial / "VERSION").write_text(f"{version}\n")
    shutil.rmtree(CONVERTER, ignore_errors=True)
    partial.rename(CONVERTER)
    shutil.rmtree(download, ignore_errors=True)


def has_converter() -> bool:
    """The whole of it: the version is written last."""
    with contextlib.suppress(OSError):
        return (CONVERTER / "VERSION").read_text().strip() == pinned(LLAMA_PACKAGE)
    return False


def take_converter(archive: Path, target: Path) -> None:
    """Writes the converter's plain files out of an sdist. An archive that plays tricks is refused.

    Raises SetupError for a link among the wanted files, a path that leaves its folder, or an
    archive without the converter.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = converter_path(member.name)
            if inside is None or member.isdir():
                continue
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise refused(archive, f"{member.name} in it is not a plain file.")
            path = target / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
    if not (target / CONVERTER_FILES[0]).is_file():
        raise refused(archive, f"It holds no {CONVERTER_FILES[0]}: its layout has changed.")


def converter_path(name: str) -> PurePosixPath | None:
    """Where a member of the sdist goes below the converter's folder; None for all the rest.

    Raises SetupError for a name that could lead out of a folder, on Windows too.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise refused(Path(LLAMA_PACKAGE), f"{name!r} in it would lead out of its folder.")
    inside = path.parts[3:]
    if path.parts[1:3] != ("vendor", "llama.cpp") or not inside:
        return None
    wanted = inside[0] in CONVERTER_FOLDERS or (len(inside) == 1 and inside[0] in CONVERTER_FILES)
    return PurePosixPath(*inside) if wanted else None


def refused(archive: Path, why: str) -> SetupError:
    return SetupError(
        f"The source distribution {archive.name} is not taken.",
        why,
        "Look where pip fetches packages from; if that is sound, report this.",
    )


# System libraries, looked at by loading them


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


# Putting it together


def plan(verb: str, kind: str, version: str) -> list[Step]:
    """The steps in order; what each depends on is in its inputs.

    `version` is that of .venv's Python, empty where there is none yet. torch comes before what
    asks for it, so that its build is chosen here; llama.cpp before the project, for a clock of its
    own.
    """
    running = ".".join(map(str, sys.version_info[:2]))
    python = [version or running, platform.machine()]
    torch, llama = pinned("torch"), pinned(LLAMA_PACKAGE)
    gpu = wants_gpu_llama(kind)
    extra = "[dev]" if verb == "test" else ""
    pins = CONSTRAINTS.read_text("utf-8")
    libraries = QT_ALWAYS if verb == "test" else QT_ALWAYS | QT_WINDOW
    return [
        Step("environment", "Making .venv", python, make_environment, lambda: bool(version)),
        Step("torch", f"Installing torch {torch} ({kind.upper()} build)", [python, kind, torch],
             lambda: install_torch(kind), has_torch, (10 if kind == "cuda" else 2) * GB),
        Step("llama", f"Compiling {LLAMA_PACKAGE} (about 10 minutes, once)", [python, gpu, llama],
             lambda: install_llama(gpu), has_llama, 1 * GB),
        Step(f"project{extra}", "Installing the libraries for training and for the window",
             [python, pins, project_inputs(), str(ROOT)],
             lambda: install_project(extra), has_project, 3 * GB),
        Step("converter", "Fetching llama.cpp's GGUF converter", [llama, CONVERTER_FOLDERS],
             fetch_converter, has_converter),
        Step(f"libraries-{verb}", "Looking at the system libraries of Qt", libraries,
             lambda: provide_libraries(libraries)),
    ]  # fmt: skip


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


def hand_over(command: list[str], environment: dict[str, str]) -> int:
    """Becomes the program, so that signals and the exit code are its own."""
    if not WINDOWS:
        os.execve(command[0], command, environment)
    started = subprocess.Popen(command, env=environment)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the console tells the program too
            return started.wait()


def start(asked: Asked) -> int:
    """Starts the studio where the caller stands, or the tests in the checkout.

    -P: a folder of the caller's that holds a `studio` or a `random.py` must not come first.
    """
    environment = dict(os.environ)
    if asked.verb == "run":
        rest = studio_arguments(asked.rest, platform.system(), environment)
        return hand_over([str(PYTHON), "-P", "-m", "studio", *rest], environment)
    os.chdir(ROOT)
    environment["QT_QPA_PLATFORM"] = "offscreen"
    environment.setdefault("OMP_NUM_THREADS", "1")  # the tests run beside each other instead
    return hand_over([str(PYTHON), "-m", "pytest", *spread(asked.rest), *asked.rest], environment)


def spread(rest: list[str]) -> list[str]:
    """What lets pytest run all tests side by side; nothing where the caller names some of them."""
    named = any((ROOT / word.partition("::")[0]).exists() for word in rest if word)
    asked = any(word.startswith(("-n", "--numprocesses", "--pdb")) for word in rest)
    return [] if named or asked else ["-n", "2", "--dist", "loadgroup"]


@contextlib.contextmanager
def hearing_signals() -> Iterator[None]:
    """Lets a plain kill or a closed terminal end what was started, as Ctrl-C does."""

    def end(number: int, _frame: object) -> None:
        raise Ended(number)

    named = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    heard = [n for n in named if n is not None and signal.getsignal(n) is signal.SIG_DFL]
    for number in heard:  # one that is ignored, as under nohup, stays so
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def prepare_and_start(arguments: list[str]) -> int:
    asked = read_arguments(arguments)
    require_python()
    version = environment_version()
    set_up(plan(asked.verb, choose_kind(asked.cpu), version))
    return start(asked)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say((__doc__ or "").rstrip())
        return 0 if arguments else 2
    try:
        with hearing_signals():
            return prepare_and_start(arguments)
    except SetupError as fault:
        say(f"\n{fault}")
    except OSError as fault:
        why = DISK.why if fault.errno == 28 else "The checkout may not be written to by you."
        say(f"\n{SetupError(f'{fault}', why, f'Mend that, then {AGAIN}')}")
    except KeyboardInterrupt as end:
        say("\nInterrupted. Run the same command again: it goes on from here.")
        return 128 + (end.number if isinstance(end, Ended) else signal.SIGINT)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
