"""The set-up: what it skips, goes on with, refuses and says. No network; pip is mostly played."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
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


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bootstrap(tmp_path: Path) -> ModuleType:
    """The program in a checkout of its own, so that its .venv is this test's."""
    checkout = tmp_path / "checkout"
    (checkout / "packaging").mkdir(parents=True)
    for name in ("packaging/bootstrap.py", "packaging/constraints.txt", "pyproject.toml"):
        (checkout / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    module = _load(checkout / "packaging" / "bootstrap.py")
    module.VENV.mkdir()
    return module


class Machine:
    """Plays venv and pip: notes each command, and leaves what the real one would leave."""

    def __init__(self, bootstrap: ModuleType) -> None:
        self.bootstrap = bootstrap
        self.commands: list[list[str]] = []
        self.fails: dict[str, str] = {}

    def call(self, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        words = [str(word) for word in command]
        self.commands.append([*words, *(environment or {}).values()])
        for part, said in self.fails.items():
            if part in words:
                raise self.bootstrap.CommandFailed(words, 1, said)
        if "venv" in words:
            self.bootstrap.PYTHON.parent.mkdir(parents=True)
            self.bootstrap.PYTHON.touch()
        elif "download" in words:
            _archive(Path(words[-1]) / "llama_cpp_python-0.3.36.tar.gz", CONVERTER)
        elif "-e" in words:
            self.leave("finetune_studio", "0.1.0")
        else:
            name, _, version = words[-1].partition("==")
            self.leave(name.replace("-", "_"), version.lstrip("="))

    def leave(self, name: str, version: str, *, cuda: bool = False, whole: bool = True) -> None:
        site = self.bootstrap.VENV / "lib" / "python3.11" / "site-packages"
        for old in site.glob(f"{name}-*.dist-info/RECORD"):
            old.unlink()
        (site / f"{name}-{version}.dist-info").mkdir(parents=True, exist_ok=True)
        (site / name).mkdir(exist_ok=True)
        told = "cuda: Optional[str] = " + ("'13.0'" if cuda else "None")
        (site / name / "version.py").write_text(f"__version__ = '{version}'\n{told}\n")
        if whole:
            (site / f"{name}-{version}.dist-info" / "RECORD").touch()

    def asked(self, word: str) -> list[list[str]]:
        return [command for command in self.commands if any(word in part for part in command)]


@pytest.fixture
def machine(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Linux machine without GPU, with a compiler and all libraries, as an ordinary user."""
    played = Machine(bootstrap)
    for name, answer in {
        "call": played.call,
        "environment_version": lambda: "3.11" if bootstrap.PYTHON.exists() else "",
        "has_nvidia_driver": lambda: False,
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


def _archive(path: Path, members: dict[str, str], links: dict[str, str] | None = None) -> Path:
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


CONVERTER = {
    f"{VENDOR}/convert_hf_to_gguf.py": "import gguf",
    f"{VENDOR}/convert_lora_to_gguf.py": "import gguf",
    f"{VENDOR}/conversion/base.py": "x = 1",
    f"{VENDOR}/gguf-py/gguf/__init__.py": "",
    f"{VENDOR}/LICENSE": "MIT",
    f"{VENDOR}/src/llama.cpp": "int main() {}",
    "llama_cpp_python-0.3.36/pyproject.toml": "",
}


# Arguments


@pytest.mark.parametrize(
    ("given", "verb", "cpu", "rest"),
    [
        (["run"], "run", False, []),
        (["--cpu", "run"], "run", True, []),
        (["run", "--cpu", "train", "r.toml"], "run", True, ["train", "r.toml"]),
        (["run", "train", "--cpu"], "run", False, ["train", "--cpu"]),
        (["run", "test"], "run", False, ["test"]),
        (["run", "--help"], "run", False, ["--help"]),
        (["test", "-k", "run", "-x"], "test", False, ["-k", "run", "-x"]),
    ],
)
def test_the_cpu_option_is_ours_before_the_first_word_that_is_not(
    bootstrap: ModuleType, given: list[str], verb: str, cpu: bool, rest: list[str]
) -> None:
    assert bootstrap.read_arguments(given) == bootstrap.Asked(verb, cpu, rest)


@pytest.mark.parametrize("given", [["--cpu"], ["train", "x.toml"], ["--quiet", "run"]])
def test_another_verb_is_refused(bootstrap: ModuleType, given: list[str]) -> None:
    with pytest.raises(bootstrap.SetupError):
        bootstrap.read_arguments(given)


@pytest.mark.parametrize(
    ("system", "environment", "rest", "started"),
    [
        ("Linux", {}, [], ["demo"]),
        ("Linux", {}, ["runs"], ["runs"]),
        ("Linux", {"DISPLAY": ":0"}, [], []),
        ("Linux", {"DISPLAY": ""}, [], ["demo"]),
        ("Linux", {"WAYLAND_DISPLAY": "wayland-0"}, [], []),
        ("Linux", {"QT_QPA_PLATFORM": "offscreen"}, [], []),
        ("Darwin", {}, [], []),
        ("Windows", {}, [], []),
    ],
)
def test_without_display_and_arguments_the_demo_runs(
    bootstrap: ModuleType,
    system: str,
    environment: dict[str, str],
    rest: list[str],
    started: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert bootstrap.studio_arguments(rest, system, environment) == started
    said = capfd.readouterr()
    assert said.out == ""
    assert ("no display" in said.err) == (started == ["demo"])


# Steps and stamps


def _steps(bootstrap: ModuleType, done: list[str], **inputs: str) -> list:
    def step(name: str) -> object:
        return bootstrap.Step(name, name, inputs.get(name, ""), lambda: done.append(name))

    return [step(name) for name in ("environment", "torch", "project")]


@pytest.mark.usefixtures("machine")
def test_a_step_that_is_done_is_skipped_and_runs_again_when_its_inputs_change(
    bootstrap: ModuleType,
) -> None:
    done: list[str] = []
    bootstrap.set_up(_steps(bootstrap, done))
    bootstrap.set_up(_steps(bootstrap, done))
    assert done == ["environment", "torch", "project"]
    bootstrap.set_up(_steps(bootstrap, done, torch="cuda"))
    assert done[3:] == ["torch"]


@pytest.mark.usefixtures("machine")
def test_after_a_failure_it_goes_on_with_the_step_that_failed(bootstrap: ModuleType) -> None:
    done: list[str] = []
    steps = _steps(bootstrap, done)

    def fail() -> None:
        raise bootstrap.SetupError("what", "why", "remedy")

    broken = bootstrap.Step("torch", "torch", "", fail)
    with pytest.raises(bootstrap.SetupError):
        bootstrap.set_up([steps[0], broken, steps[2]])
    assert done == ["environment"]
    bootstrap.set_up(steps)
    assert done == ["environment", "torch", "project"]


@pytest.mark.usefixtures("machine")
def test_a_step_whose_work_is_gone_runs_again(bootstrap: ModuleType) -> None:
    made = bootstrap.VENV / "made"
    steps = [bootstrap.Step("converter", "", "", made.touch, made.exists)]
    bootstrap.set_up(steps)
    made.unlink()
    bootstrap.set_up(steps)
    assert made.exists()


@pytest.mark.usefixtures("machine")
def test_a_step_that_could_not_do_all_is_asked_again_and_stops_nothing(
    bootstrap: ModuleType,
) -> None:
    done: list[str] = []

    def half() -> None:
        done.append("half")
        raise bootstrap.Unfinished

    steps = [bootstrap.Step("libraries", "", "", half), *_steps(bootstrap, done)[1:]]
    bootstrap.set_up(steps)
    bootstrap.set_up(steps)
    assert done[:3] == ["half", "torch", "project"]
    assert done[3] == "half"


def test_a_fingerprint_tells_its_inputs_apart(bootstrap: ModuleType) -> None:
    def fingerprint(inputs: object) -> str:
        return bootstrap.Step("torch", "", inputs, lambda: None).fingerprint

    assert fingerprint(["3.11", "cpu"]) == fingerprint(["3.11", "cpu"])
    assert fingerprint(["3.11", "cpu"]) != fingerprint(["3.11", "cuda"])
    assert fingerprint(["a", "bc"]) != fingerprint(["ab", "c"])


def test_a_linter_setting_does_not_ask_for_another_installation(bootstrap: ModuleType) -> None:
    before = bootstrap.project_inputs()
    text = bootstrap.PROJECT.read_text("utf-8")
    bootstrap.PROJECT.write_text(text.replace("line-length = 100", "line-length = 99"), "utf-8")
    assert bootstrap.project_inputs() == before
    bootstrap.PROJECT.write_text(text.replace("msgspec>=", "msgspec>"), "utf-8")
    assert bootstrap.project_inputs() != before


# A whole set-up, with venv and pip played


def test_a_fresh_machine_is_set_up_once_and_then_only_started(
    bootstrap: ModuleType, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["run", "runs", "--json"]) == 0
    started = [str(bootstrap.PYTHON), "-P", "-m", "studio", "runs", "--json"]
    assert machine.commands[-1] == started
    assert [_subject(command) for command in machine.commands[:-1]] == [
        "venv", "torch", "llama", "project", "converter"
    ]  # fmt: skip
    assert (bootstrap.CONVERTER / "VERSION").read_text() == "0.3.36\n"
    machine.commands.clear()
    capfd.readouterr()
    assert bootstrap.main(["run", "runs", "--json"]) == 0
    assert machine.commands == [started]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("rest", "side_by_side"),
    [
        ([], True),
        (["--all", "-x"], True),
        (["-k", "window"], True),
        (["tests/test_walls.py"], False),
        (["-q", "tests/gui/test_window.py::test_a_run"], False),
        (["-n", "4"], False),
        (["-n0"], False),
    ],
)
def test_all_tests_run_side_by_side_and_named_ones_alone(
    bootstrap: ModuleType, rest: list[str], side_by_side: bool
) -> None:
    for named in ("tests/test_walls.py", "tests/gui/test_window.py"):
        (bootstrap.ROOT / named).parent.mkdir(parents=True, exist_ok=True)
        (bootstrap.ROOT / named).touch()
    assert bool(bootstrap.spread(rest)) == side_by_side


def _subject(command: list[str]) -> str:
    if "download" in command:
        return "converter"
    named = {"venv": "venv", "torch": "torch", "llama": "llama", "-e": "project"}
    return next(name for part, name in named.items() if any(w.startswith(part) for w in command))


def test_the_tests_get_their_tools_the_checkout_and_no_screen(
    bootstrap: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr(
        bootstrap, "hand_over", lambda command, environment: seen.update(environment) or 5
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert bootstrap.main(["test", "-x"]) == 5
    assert machine.asked(".[dev]")
    assert seen["QT_QPA_PLATFORM"] == "offscreen"
    assert Path.cwd() == bootstrap.ROOT


def test_a_half_made_environment_is_made_anew(bootstrap: ModuleType, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    bootstrap.PYTHON.unlink()
    bootstrap.PYTHON.parent.rmdir()
    steps = bootstrap.plan("run", "cpu", "")
    assert bootstrap.waiting(steps) == steps
    machine.commands.clear()
    bootstrap.main(["run", "runs"])
    assert [_subject(command) for command in machine.commands[:-1]] == [
        "venv", "torch", "llama", "project", "converter"
    ]  # fmt: skip


def test_a_broken_python_is_no_environment(bootstrap: ModuleType) -> None:
    assert bootstrap.environment_version() == ""
    bootstrap.PYTHON.parent.mkdir(parents=True)
    bootstrap.PYTHON.symlink_to("/nowhere/python3")
    assert bootstrap.environment_version() == ""


def test_a_moved_checkout_is_installed_again(bootstrap: ModuleType, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    moved = bootstrap.ROOT.rename(bootstrap.ROOT.with_name("moved"))
    again = _load(moved / "packaging" / "bootstrap.py")
    steps = again.plan("run", "cpu", "3.11")
    assert [step.name for step in again.waiting(steps)] == ["project"]
    assert machine.fails == {}


def test_a_lost_converter_is_fetched_again(bootstrap: ModuleType, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    (bootstrap.CONVERTER / "VERSION").unlink()
    machine.commands.clear()
    bootstrap.main(["run", "runs"])
    assert [_subject(command) for command in machine.commands[:-1]] == ["converter"]
    assert bootstrap.has_converter()


def test_the_two_lists_of_versions_agree(bootstrap: ModuleType) -> None:
    """A constraint that contradicts pyproject.toml stops every installation."""
    stated = tomllib.loads(bootstrap.PROJECT.read_text("utf-8"))["project"]
    constraints = dict(
        line.lower().replace("_", "-").split("==")
        for line in bootstrap.CONSTRAINTS.read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    exact = re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(stated["dependencies"]), re.MULTILINE)
    assert {"torch", "trl", "llama-cpp-python"} <= {name for name, _ in exact}
    for name, version in exact:
        assert constraints.get(name.lower(), version) == version
    assert "torch" not in constraints  # beside `==...+cpu` pip would see a conflict, no lack


# torch


def _torch_wheel(folder: Path, version: str) -> None:
    name = f"torch-{version}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        about = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", about)
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}.dist-info/WHEEL", tag)
        wheel.writestr(f"{name}.dist-info/RECORD", "")


@pytest.mark.parametrize(
    ("kind", "offered", "taken"),
    [
        ("cuda", ["2.13.0", "2.13.0+cpu"], "2.13.0"),
        ("cpu", ["2.13.0", "2.13.0+cpu"], "2.13.0+cpu"),
        ("cpu", ["2.13.0"], "2.13.0"),
    ],
)
def test_pip_takes_the_build_that_is_meant(
    bootstrap: ModuleType, tmp_path: Path, kind: str, offered: list[str], taken: str
) -> None:
    for version in offered:
        _torch_wheel(tmp_path, version)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    for requirement in bootstrap.torch_requirements(kind, "Linux", "2.13.0"):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-index"]
        pip = subprocess.run(
            [*command, "--find-links", str(tmp_path), "-d", str(tmp_path / "taken"), requirement],
            env={**clean, "PIP_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )
        if pip.returncode == 0:
            break
        assert bootstrap.NO_SUCH_BUILD in pip.stderr
    assert [path.name for path in (tmp_path / "taken").iterdir()] == [
        f"torch-{taken}-py3-none-any.whl"
    ]


def test_elsewhere_than_on_linux_there_is_one_build(bootstrap: ModuleType) -> None:
    for system in ("Darwin", "Windows"):
        assert bootstrap.torch_requirements("cpu", system, "2.13.0") == ["torch==2.13.0"]


def test_where_no_cpu_build_is_to_be_had_the_larger_one_is_taken_and_said(
    bootstrap: ModuleType, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["torch==2.13.0+cpu"] = NO_CPU_BUILD
    bootstrap.install_torch("cpu")
    assert [command[-1] for command in machine.commands] == ["torch==2.13.0+cpu", "torch==2.13.0"]
    assert "larger" in capfd.readouterr().err


def test_another_failure_is_not_taken_for_a_lack(bootstrap: ModuleType, machine: Machine) -> None:
    machine.fails["torch==2.13.0+cpu"] = "OSError: [Errno 28] No space left on device"
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.install_torch("cpu")
    assert failed.value.cause is bootstrap.DISK
    assert len(machine.commands) == 1


@pytest.mark.parametrize(
    ("version", "cuda", "kind", "asked"),
    [
        ("2.13.0+cpu", False, "cpu", False),
        ("2.13.0", False, "cpu", False),  # macOS: the plain build is the CPU build
        ("2.13.0+cpu", False, "cuda", True),
        ("2.13.0", True, "cuda", False),
        ("2.12.0", True, "cuda", True),
    ],
)
def test_a_torch_that_suits_is_left_alone(
    bootstrap: ModuleType, machine: Machine, version: str, cuda: bool, kind: str, asked: bool
) -> None:
    bootstrap.STAMPS.mkdir()
    machine.leave("torch", version, cuda=cuda)
    bootstrap.install_torch(kind)
    assert bool(machine.commands) == asked


def test_a_half_installed_package_does_not_count(bootstrap: ModuleType, machine: Machine) -> None:
    machine.leave("torch", "2.13.0+cpu", whole=False)
    assert not bootstrap.has_torch()
    machine.leave("torchvision", "2.13.0")
    assert not bootstrap.has_torch()


def test_a_gpu_without_a_gpu_build_is_told_what_to_do(
    bootstrap: ModuleType, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    bootstrap.STAMPS.mkdir()
    bootstrap.install_torch("cuda")
    assert machine.asked("torch===2.13.0")
    assert "cannot use the NVIDIA card" in capfd.readouterr().err


def test_a_driver_that_was_seen_is_remembered_and_cpu_wins(
    bootstrap: ModuleType, machine: Machine
) -> None:
    assert bootstrap.choose_kind(cpu=False) == "cpu"
    bootstrap.STAMPS.mkdir()
    bootstrap.install_torch("cuda")
    assert bootstrap.choose_kind(cpu=False) == "cuda"
    assert bootstrap.choose_kind(cpu=True) == "cpu"
    assert machine.commands


# llama.cpp


def test_a_gpu_build_of_llama_stays_out_of_pips_cache(
    bootstrap: ModuleType, machine: Machine
) -> None:
    bootstrap.install_llama(True)
    build, rest = machine.commands
    assert {"--no-cache-dir", "--force-reinstall", "-DGGML_CUDA=on"} <= set(build)
    assert "--no-cache-dir" not in rest


@pytest.mark.parametrize("gpu", [False, True])
def test_llama_is_compiled_without_amx_where_the_processor_has_it(
    bootstrap: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    """Virtual machines name the feature and refuse its registers: chat then ends by signal 11."""
    monkeypatch.setattr(bootstrap, "has_amx", lambda: True)
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=1")
    bootstrap.install_llama(gpu)
    assert machine.asked("-mno-amx-int8") == machine.commands
    assert machine.asked("-DMINE=1") == machine.commands


def test_a_gpu_build_that_fails_gives_way_to_the_cpu_build(
    bootstrap: ModuleType, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["--no-cache-dir"] = "CMake Error: No CUDA toolset found."
    bootstrap.install_llama(True)
    assert bootstrap.has_llama()
    assert "CPU build" in capfd.readouterr().err


def test_a_gpu_build_that_cannot_be_fetched_is_a_failure(
    bootstrap: ModuleType, machine: Machine
) -> None:
    machine.fails["--no-cache-dir"] = OFFLINE
    with pytest.raises(bootstrap.CommandFailed):
        bootstrap.install_llama(True)
    assert not bootstrap.has_llama()


@pytest.mark.parametrize(
    ("system", "debian", "typed"),
    [
        ("Linux", True, "sudo apt-get install -y build-essential"),
        ("Linux", False, "gcc and g++"),
        ("Darwin", False, "xcode-select --install"),
        ("Windows", False, "Build Tools for Visual Studio"),
    ],
)
def test_without_a_compiler_it_says_what_to_install(
    bootstrap: ModuleType,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    debian: bool,
    typed: str,
) -> None:
    monkeypatch.setattr(bootstrap, "has_compiler", lambda: False)
    monkeypatch.setattr(bootstrap, "is_debian", lambda: debian)
    monkeypatch.setattr(bootstrap.platform, "system", lambda: system)
    with pytest.raises(bootstrap.SetupError, match=re.escape(typed)):
        bootstrap.install_llama(False)
    assert machine.commands == []


def test_root_on_debian_gets_the_compiler(
    bootstrap: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "has_compiler", lambda: False)
    monkeypatch.setattr(bootstrap, "is_debian", lambda: True)
    monkeypatch.setattr(bootstrap, "is_root", lambda: True)
    bootstrap.install_llama(False)
    assert machine.asked("build-essential")
    assert bootstrap.has_llama()


# The converter


def test_of_the_source_only_the_converter_is_taken(bootstrap: ModuleType, tmp_path: Path) -> None:
    archive = _archive(tmp_path / "s.tar.gz", CONVERTER, {f"{VENDOR}/src/link": "/etc"})
    bootstrap.take_converter(archive, tmp_path / "to")
    taken = {str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*.*")}
    assert taken == {
        "convert_hf_to_gguf.py",
        "convert_lora_to_gguf.py",
        "conversion/base.py",
        "gguf-py/gguf/__init__.py",
    }
    assert (tmp_path / "to" / "LICENSE").read_text() == "MIT"


@pytest.mark.parametrize(
    ("members", "links"),
    [
        ({f"{VENDOR}/conversion/../../../evil.py": ""}, {}),
        ({"../evil.py": ""}, {}),
        ({"/evil/vendor/llama.cpp/conversion/evil.py": ""}, {}),
        ({f"{VENDOR}/conversion/..\\..\\evil.py": ""}, {}),
        ({f"{VENDOR}/conversion/C:evil.py": ""}, {}),
        ({}, {f"{VENDOR}/conversion/evil.py": "/etc/passwd"}),
        ({}, {f"{VENDOR}/gguf-py/evil": "/tmp"}),
    ],
)
def test_an_archive_that_plays_tricks_is_refused(
    bootstrap: ModuleType, tmp_path: Path, members: dict[str, str], links: dict[str, str]
) -> None:
    archive = _archive(tmp_path / "in" / "s.tar.gz", CONVERTER | members, links)
    with pytest.raises(bootstrap.SetupError, match=r"is not taken"):
        bootstrap.take_converter(archive, tmp_path / "in" / "a" / "to")
    assert list(tmp_path.rglob("evil*")) == []
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_an_archive_without_the_converter_is_refused(bootstrap: ModuleType, tmp_path: Path) -> None:
    archive = _archive(tmp_path / "s.tar.gz", {f"{VENDOR}/LICENSE": "MIT"})
    with pytest.raises(bootstrap.SetupError, match="layout has changed"):
        bootstrap.take_converter(archive, tmp_path / "to")


def test_a_failed_fetch_leaves_the_old_converter(bootstrap: ModuleType, machine: Machine) -> None:
    bootstrap.fetch_converter()
    machine.fails["download"] = OFFLINE
    with pytest.raises(bootstrap.CommandFailed):
        bootstrap.fetch_converter()
    assert bootstrap.has_converter()


# System libraries


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("debian", "typed"),
    [(True, "sudo apt-get install -y libdbus-1-3\n"), (False, "hold: libdbus-1.so.3\n")],
)
def test_missing_libraries_are_named_and_stop_nothing(
    bootstrap: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    debian: bool,
    typed: str,
) -> None:
    monkeypatch.setattr(bootstrap, "loads", lambda library: "dbus" not in library)
    monkeypatch.setattr(bootstrap, "is_debian", lambda: debian)
    with pytest.raises(bootstrap.Unfinished):
        bootstrap.provide_libraries(bootstrap.QT_ALWAYS)
    assert typed in capfd.readouterr().err


def test_root_on_debian_gets_them_and_a_failing_apt_is_tried_once(
    bootstrap: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "loads", lambda library: "EGL" not in library)
    monkeypatch.setattr(bootstrap, "is_debian", lambda: True)
    monkeypatch.setattr(bootstrap, "is_root", lambda: True)
    machine.fails["libegl1"] = "E: Unable to fetch some archives"
    bootstrap.STAMPS.mkdir()
    for _ in range(2):
        with pytest.raises(bootstrap.Unfinished):
            bootstrap.provide_libraries(bootstrap.QT_ALWAYS)
    assert len(machine.asked("libegl1")) == 1


# Other programs, really run


def test_a_failing_command_is_told_in_three_parts(bootstrap: ModuleType) -> None:
    program = "import sys; print('one'); sys.exit('No space left on device')"
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.call(sys.executable, "-c", program)
    said = str(failed.value)
    assert "one\n    No space left on device\nThis ended with code 1" in said
    assert "Likely cause: A disk is full" in said
    assert "What to do: Free some space" in said
    assert "No space left" in bootstrap.LOG.read_text()


def test_only_the_last_lines_of_this_command_are_shown(bootstrap: ModuleType) -> None:
    bootstrap.call(sys.executable, "-c", "print('of another')")
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.call(sys.executable, "-c", "[print(f'line {n}') for n in range(99)]; exit(4)")
    assert "line 98\nThis ended with code 4" in failed.value.what
    assert "line 83" not in failed.value.what
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.call(sys.executable, "-c", "exit('short')")
    assert failed.value.said == "short\n"


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        (OFFLINE, 1, "could not be reached"),
        (NO_CPU_BUILD, 1, "lacks this version"),
        ("ninja: build stopped: subcommand failed.\nERROR: Failed building wheel", 1, "compile"),
        ("Error: Command '[...]', '-m', 'ensurepip'] returned", 1, "makes environments"),
        ("c++: fatal error: Killed signal", -9, "memory ran out"),
        ("Retrying ... Connection reset" + "\nok" * 50 + "\nCMake Error at", 1, "compile"),
        ("something new", 3, "lines above"),
    ],
)
def test_the_likely_cause_is_told(bootstrap: ModuleType, said: str, code: int, why: str) -> None:
    assert why in bootstrap.cause_of(said, code).why


def test_what_leads_pip_astray_is_kept_from_it(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/caller")
    monkeypatch.setenv("KEPT", "yes")
    program = "import os; print(os.environ.get('PYTHONPATH'), os.environ['KEPT'], os.environ['A'])"
    bootstrap.call(sys.executable, "-c", program, environment={"A": "b"})
    assert _lines(bootstrap.LOG)[-1] == "None yes b"


@pytest.mark.skipif(os.name == "nt", reason="process groups and SIGTERM are POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_end_it_ends_all_that_it_started(
    bootstrap: ModuleType,
    wait_until: Callable[[Callable[[], object], float], None],
    number: signal.Signals,
    code: int,
) -> None:
    """pip's compilers are its children: none may go on alone."""
    compiler = "import signal; print('compiles', flush=True); signal.pause()"
    pip = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {compiler!r}])"
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bootstrap", {str(bootstrap.__file__)!r})
module = importlib.util.module_from_spec(spec)
sys.modules["bootstrap"] = module
spec.loader.exec_module(module)
module.prepare_and_start = lambda arguments: module.call(sys.executable, "-c", {pip!r})
sys.exit(module.main(["run"]))
"""
    # Tests that run in a shell's background are born with the interrupt ignored, and so would be
    # what they start.
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:  # fmt: skip
        wait_until(lambda: bootstrap.LOG.exists() and "compiles" in _lines(bootstrap.LOG), 20.0)
        family = psutil.Process(started.pid).children(recursive=True)
        try:
            started.send_signal(number)
            out, err = started.communicate(timeout=30)
            wait_until(lambda: not any(_runs(process) for process in family), 10.0)
        finally:
            started.kill()
            for process in filter(_runs, family):
                process.kill()
    assert len(family) == 2
    assert started.returncode == code
    assert out == b""
    assert b"it goes on from here" in err


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # not every container's init reaps
    except psutil.NoSuchProcess:
        return False


# What stops it before it begins


def test_two_at_once_are_refused(bootstrap: ModuleType) -> None:
    with (
        bootstrap.locked(),
        pytest.raises(bootstrap.SetupError, match="Another set-up is at work"),
        bootstrap.locked(),
    ):
        pytest.fail("both went in")
    with bootstrap.locked():  # free again
        pass


def test_a_small_disk_is_refused_before_anything_is_fetched(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda _path: usage(3 * 10**9))
    monkeypatch.setattr(bootstrap, "call", lambda *command, **_: pytest.fail(f"ran {command}"))
    with pytest.raises(bootstrap.SetupError, match=r"3\.0 GB free") as refused:
        bootstrap.set_up(bootstrap.plan("run", "cpu", ""))
    assert "about 6 GB" in refused.value.why


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("version", "fits"), [
    ((3, 10, 13), False), ((3, 11, 0), True), ((3, 13, 9), True), ((3, 14, 0), False)
])  # fmt: skip
def test_another_python_is_refused(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], fits: bool
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", version)
    assert bootstrap.main(["run", "runs"]) == (0 if fits else 1)


def test_a_refusal_is_said_on_stderr_alone(
    bootstrap: ModuleType, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["venv"] = "Error: the command ['-m', 'ensurepip'] returned 1"
    assert bootstrap.main(["run", "runs", "--json"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "[1/6] Making .venv ... 0 s, not done" in said.err
    assert "Likely cause: This Python comes without" in said.err
    assert "python3-venv" in said.err


@pytest.mark.usefixtures("machine")
def test_its_signal_handlers_end_with_it(bootstrap: ModuleType) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert bootstrap.main(["run", "runs"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_setup_error_answers_three_questions(bootstrap: ModuleType) -> None:
    fault = bootstrap.SetupError("It broke.", "It was old.", "Get a new one.")
    assert str(fault) == "It broke.\nLikely cause: It was old.\nWhat to do: Get a new one."


def test_no_registry_is_named_and_the_folders_stay_plain() -> None:
    """A registry is the user's to configure; an __init__.py here would shadow a library."""
    hosts = re.compile(r"https?://|pypi\.org|pythonhosted|download\.pytorch")
    for path in (ROOT / "packaging" / "bootstrap.py", ROOT / "packaging" / "constraints.txt"):
        assert hosts.search(path.read_text("utf-8")) is None
    assert not (ROOT / "packaging" / "__init__.py").exists()
    assert not (ROOT / "tests" / "packaging" / "__init__.py").exists()


def test_what_it_leaves_in_the_checkout_is_ignored_by_git(bootstrap: ModuleType) -> None:
    inside = (bootstrap.STAMPS, bootstrap.LOG, bootstrap.LOCK, bootstrap.CONVERTER)
    assert all(path.is_relative_to(bootstrap.VENV) for path in inside)
    assert ".venv/" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_stamp_is_whole_or_not_there(bootstrap: ModuleType) -> None:
    step = bootstrap.Step("torch", "", "", lambda: None)
    step.stamp()
    assert [path.name for path in bootstrap.STAMPS.iterdir()] == ["torch"]
    assert len((bootstrap.STAMPS / "torch").read_text()) == hashlib.sha256().digest_size * 2
