"""The command: its arguments, a whole set-up with venv and pip played, what it refuses."""

from __future__ import annotations

import re
import signal
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from tests.packaging.conftest import (
    ROOT,
    Machine,
    Program,
    load,
)

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
    bootstrap: Program, given: list[str], verb: str, cpu: bool, rest: list[str]
) -> None:
    assert bootstrap.read_arguments(given) == bootstrap.Asked(verb, cpu, rest)


@pytest.mark.parametrize("given", [["--cpu"], ["train", "x.toml"], ["--quiet", "run"]])
def test_another_verb_is_refused(bootstrap: Program, given: list[str]) -> None:
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
    bootstrap: Program,
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


# A whole set-up, with venv and pip played


def test_a_fresh_machine_is_set_up_once_and_then_only_started(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["run", "runs", "--json"]) == 0
    started = [str(bootstrap.PYTHON), "-P", "-m", "studio", "runs", "--json"]
    assert machine.commands[-1] == started
    assert [_subject(command) for command in machine.commands[:-1]] == [
        "venv", "torch", "llama", "project", "bytecode", "converter"
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
    bootstrap: Program, rest: list[str], side_by_side: bool
) -> None:
    for named in ("tests/test_walls.py", "tests/gui/test_window.py"):
        (bootstrap.ROOT / named).parent.mkdir(parents=True, exist_ok=True)
        (bootstrap.ROOT / named).touch()
    assert bool(bootstrap.spread(rest)) == side_by_side


def _subject(command: list[str]) -> str:
    if "download" in command:
        return "converter"
    if "compileall" in command:
        return "bytecode"
    named = {"venv": "venv", "torch": "torch", "llama": "llama", "-e": "project"}
    return next(name for part, name in named.items() if any(w.startswith(part) for w in command))


def test_the_tests_get_their_tools_the_checkout_and_no_screen(
    bootstrap: Program, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_a_half_made_environment_is_made_anew(bootstrap: Program, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    bootstrap.PYTHON.unlink()
    bootstrap.PYTHON.parent.rmdir()
    steps = bootstrap.plan("run", "cpu", "")
    assert bootstrap.waiting(steps) == steps
    machine.commands.clear()
    bootstrap.main(["run", "runs"])
    assert [_subject(command) for command in machine.commands[:-1]] == [
        "venv", "torch", "llama", "project", "bytecode", "converter"
    ]  # fmt: skip


def test_a_broken_python_is_no_environment(bootstrap: Program) -> None:
    assert bootstrap.environment_version() == ""
    bootstrap.PYTHON.parent.mkdir(parents=True)
    bootstrap.PYTHON.symlink_to("/nowhere/python3")
    assert bootstrap.environment_version() == ""


def test_a_moved_checkout_is_installed_again(bootstrap: Program, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    moved = bootstrap.ROOT.rename(bootstrap.ROOT.with_name("moved"))
    again = load(moved / "packaging" / "bootstrap.py")
    steps = again.plan("run", "cpu", "3.11")
    assert [step.name for step in again.waiting(steps)] == ["project"]
    assert machine.fails == {}


def test_a_lost_converter_is_fetched_again(bootstrap: Program, machine: Machine) -> None:
    bootstrap.main(["run", "runs"])
    (bootstrap.CONVERTER / "VERSION").unlink()
    machine.commands.clear()
    bootstrap.main(["run", "runs"])
    assert [_subject(command) for command in machine.commands[:-1]] == ["converter"]
    assert bootstrap.has_converter()


# What stops it before it begins


def test_two_at_once_are_refused(bootstrap: Program) -> None:
    with (
        bootstrap.locked(),
        pytest.raises(bootstrap.SetupError, match="Another set-up is at work"),
        bootstrap.locked(),
    ):
        pytest.fail("both went in")
    with bootstrap.locked():  # free again
        pass


def test_a_small_disk_is_refused_before_anything_is_fetched(
    bootstrap: Program, monkeypatch: pytest.MonkeyPatch
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
    bootstrap: Program, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], fits: bool
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", version)
    assert bootstrap.main(["run", "runs"]) == (0 if fits else 1)


def test_a_refusal_is_said_on_stderr_alone(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["venv"] = "Error: the command ['-m', 'ensurepip'] returned 1"
    assert bootstrap.main(["run", "runs", "--json"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "[1/6] Making .venv ... 0 s, not done" in said.err
    assert "Likely cause: This Python comes without" in said.err
    assert "python3-venv" in said.err


@pytest.mark.usefixtures("machine")
def test_its_signal_handlers_end_with_it(bootstrap: Program) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert bootstrap.main(["run", "runs"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_setup_error_answers_three_questions(bootstrap: Program) -> None:
    fault = bootstrap.SetupError("It broke.", "It was old.", "Get a new one.")
    assert str(fault) == "It broke.\nLikely cause: It was old.\nWhat to do: Get a new one."


def test_the_two_lists_of_versions_agree(bootstrap: Program) -> None:
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


def test_no_registry_is_named_and_the_folders_stay_plain() -> None:
    """A registry is the user's to configure; an __init__.py here would shadow a library."""
    hosts = re.compile(r"https?://|pypi\.org|pythonhosted|download\.pytorch")
    folder = ROOT / "packaging"
    for path in (folder / "constraints.txt", *folder.rglob("*.py")):
        assert hosts.search(path.read_text("utf-8")) is None
    assert not (ROOT / "packaging" / "__init__.py").exists()
    assert not (ROOT / "tests" / "packaging" / "__init__.py").exists()


def test_what_it_leaves_in_the_checkout_is_ignored_by_git(bootstrap: Program) -> None:
    inside = (bootstrap.STAMPS, bootstrap.LOG, bootstrap.LOCK, bootstrap.CONVERTER)
    assert all(path.is_relative_to(bootstrap.VENV) for path in inside)
    assert ".venv/" in (ROOT / ".gitignore").read_text().splitlines()
