"""The environment in .venv: made, proved, and what is installed in it."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .commands import call, pip
from .faults import CommandFailed, SetupError
from .places import CONSTRAINTS, LOCK, LOG, PROJECT, PYTHON, VENV, WINDOWS
from .system import provide

OLDEST, TOO_NEW = (3, 11), (3, 14)


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


def install_project(extra: str) -> None:
    pip("install", "-c", CONSTRAINTS, "-e", f".{extra}")
    compile_packages()


def compile_packages() -> None:
    """Compiles all that was installed, on every core; pip takes one, and 40 s of it.

    Left to the first import, each process would do so again wherever PYTHONDONTWRITEBYTECODE is
    set.
    """
    with contextlib.suppress(CommandFailed):  # a template among the files is no Python
        call(PYTHON, "-m", "compileall", "-q", "-j", "0", packages())


def has_project() -> bool:
    return bool(installed("finetune-studio"))


def project_inputs() -> dict[str, object]:
    """What of pyproject.toml an installation depends on: a linter's setting is no part of it."""
    import tomllib  # new in 3.11, and an older Python must get far enough to be told

    stated = tomllib.loads(PROJECT.read_text("utf-8"))
    build = stated.get("tool", {}).get("hatch")
    return {"project": stated["project"], "system": stated["build-system"], "build": build}
