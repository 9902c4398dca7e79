"""The set-up in a checkout of its own, and a machine that plays venv and pip."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENDOR = "llama_cpp_python-0.3.36/vendor/llama.cpp"
OFFLINE = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("
    "'Failed to establish a new connection: [Errno 111] Connection refused')': /simple/torch/\n"
    "ERROR: Could not find a version that satisfies the requirement torch==2.13.0\n"
    "ERROR: No matching distribution found for torch==2.13.0\n"
)
NO_CPU_BUILD = (
    "ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu "
    "(from versions: 2.12.0, 2.13.0)\n"
    "ERROR: No matching distribution found for torch==2.13.0+cpu\n"
)


CONVERTER = {
    f"{VENDOR}/convert_hf_to_gguf.py": "import gguf",
    f"{VENDOR}/convert_lora_to_gguf.py": "import gguf",
    f"{VENDOR}/conversion/base.py": "x = 1",
    f"{VENDOR}/gguf-py/gguf/__init__.py": "",
    f"{VENDOR}/LICENSE": "MIT",
    f"{VENDOR}/src/llama.cpp": "int main() {}",
    "llama_cpp_python-0.3.36/pyproject.toml": "",
}


class Program:
    """The modules of a set-up as one: a name is read, or replaced, wherever it stands in them."""

    def __init__(self, modules: list[ModuleType]) -> None:
        self.__dict__["modules"] = modules

    def __getattr__(self, name: str) -> Any:
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        for module in self.modules:
            if hasattr(module, name):
                setattr(module, name, value)

    def __delattr__(self, name: str) -> None:
        """Nothing to undo: the modules are loaded anew for each test."""


def load(path: Path) -> Program:
    """The program of a checkout, apart from that of any other."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    sys.path.remove(str(path.parent))
    names = [name for name in sys.modules if name.partition(".")[0] == "setup_steps"]
    return Program([sys.modules.pop(spec.name), *[sys.modules.pop(name) for name in names]])


@pytest.fixture
def bootstrap(tmp_path: Path) -> Program:
    """The program in a checkout of its own, so that its .venv is this test's."""
    checkout = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "packaging", checkout / "packaging", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", checkout)
    program = load(checkout / "packaging" / "bootstrap.py")
    program.VENV.mkdir()
    return program


class Machine:
    """Plays venv and pip: notes each command, and leaves what the real one would leave."""

    def __init__(self, bootstrap: Program) -> None:
        self.bootstrap = bootstrap
        self.commands: list[list[str]] = []
        self.fails: dict[str, str] = {}

    def call(self, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        words = [str(word) for word in command]
        self.commands.append([*words, *(environment or {}).values()])
        for part, said in self.fails.items():
            if part in words:
                raise self.bootstrap.CommandFailed(words, 1, said)
        if "--without-pip" in words:
            (Path(words[-1]) / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
        elif "venv" in words:
            self.bootstrap.PYTHON.parent.mkdir(parents=True)
            self.bootstrap.PYTHON.touch()
        elif "download" in words:
            archive(Path(words[-1]) / "llama_cpp_python-0.3.36.tar.gz", CONVERTER)
        elif "compileall" in words or "-I" in words or words[1] == "-c":
            pass
        elif "--report" in words:
            links = {
                "project_url": ["Homepage, https://pytorch.example", "Forum, https://x.example"]
            }
            told = json.dumps({"install": [{"metadata": links}]})
            Path(words[words.index("--report") + 1]).write_text(told)
        elif words[-1].endswith(".txt"):
            pass  # into an overlay
        elif "-e" in words:
            self.leave("finetune_studio", "0.1.0")
        else:
            name, _, version = words[-1].partition("==")
            plain = version.startswith("=")  # the ordinary build for Linux is one for CUDA 13.0
            cuda = "13.0" if plain else {"cu126": "12.6", "cu130": "13.0"}.get(version[-5:], "")
            self.leave(name.replace("-", "_"), version.lstrip("="), cuda=cuda)

    def leave(self, name: str, version: str, *, cuda: str = "", whole: bool = True) -> None:
        site = self.bootstrap.VENV / "lib" / "python3.11" / "site-packages"
        for old in site.glob(f"{name}-*.dist-info/RECORD"):
            old.unlink()
        (site / f"{name}-{version}.dist-info").mkdir(parents=True, exist_ok=True)
        (site / name).mkdir(exist_ok=True)
        told = "cuda: Optional[str] = " + (f"'{cuda}'" if cuda else "None")
        (site / name / "version.py").write_text(f"__version__ = '{version}'\n{told}\n")
        if whole:
            (site / f"{name}-{version}.dist-info" / "RECORD").touch()

    def asked(self, word: str) -> list[list[str]]:
        return [command for command in self.commands if any(word in part for part in command)]


@pytest.fixture
def machine(bootstrap: Program, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Linux machine without GPU, with a compiler and all libraries, as an ordinary user."""
    played = Machine(bootstrap)
    for name, answer in {
        "call": played.call,
        "environment_version": lambda: "3.11" if bootstrap.PYTHON.exists() else "",
        "cards": list,
        "has_compiler": lambda: True,
        "has_amx": lambda: False,
        "loads": lambda _library: True,
        "is_root": lambda: False,
        "require_space": lambda _needed: None,
        "hand_over": lambda command, _environment: played.commands.append(command) or 0,
        "WINDOWS": False,
    }.items():
        monkeypatch.setattr(bootstrap, name, answer)
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    monkeypatch.chdir(bootstrap.ROOT)
    return played


def archive(path: Path, members: dict[str, str], links: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return path
