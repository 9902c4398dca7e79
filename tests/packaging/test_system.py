"""System libraries and compilers, and other programs as they fail and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.packaging.conftest import (
    NO_CPU_BUILD,
    OFFLINE,
    Machine,
    Program,
)

# System libraries


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("debian", "typed"),
    [(True, "sudo apt-get install -y libdbus-1-3\n"), (False, "hold: libdbus-1.so.3\n")],
)
def test_missing_libraries_are_named_and_stop_nothing(
    bootstrap: Program,
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
    bootstrap: Program, machine: Machine, monkeypatch: pytest.MonkeyPatch
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


def test_a_failing_command_is_told_in_three_parts(bootstrap: Program) -> None:
    program = "import sys; print('one'); sys.exit('No space left on device')"
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.call(sys.executable, "-c", program)
    said = str(failed.value)
    assert "one\n    No space left on device\nThis ended with code 1" in said
    assert "Likely cause: A disk is full" in said
    assert "What to do: Free some space" in said
    assert "No space left" in bootstrap.LOG.read_text()


def test_only_the_last_lines_of_this_command_are_shown(bootstrap: Program) -> None:
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
def test_the_likely_cause_is_told(bootstrap: Program, said: str, code: int, why: str) -> None:
    assert why in bootstrap.cause_of(said, code).why


def test_what_leads_pip_astray_is_kept_from_it(
    bootstrap: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/caller")
    monkeypatch.setenv("KEPT", "yes")
    program = "import os; print(os.environ.get('PYTHONPATH'), os.environ['KEPT'], os.environ['A'])"
    bootstrap.call(sys.executable, "-c", program, environment={"A": "b"})
    assert _lines(bootstrap.LOG)[-1] == "None yes b"


@pytest.mark.skipif(os.name == "nt", reason="process groups and SIGTERM are POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_end_it_ends_all_that_it_started(
    bootstrap: Program,
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
from setup_steps.commands import call
module.prepare_and_start = lambda arguments: call(sys.executable, "-c", {pip!r})
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


def test_libraries_are_compiled_on_all_cores_once_they_are_there(
    bootstrap: Program, machine: Machine
) -> None:
    machine.fails["compileall"] = "*** Error compiling 'template.py'"
    bootstrap.install_project("[dev]")
    installs, compiles = machine.commands
    assert "--no-compile" in installs
    assert compiles[-3:-1] == ["-j", "0"]
