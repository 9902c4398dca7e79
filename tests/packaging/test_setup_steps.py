"""Steps are skipped when done, gone on with after a failure, and stamped whole."""

from __future__ import annotations

import hashlib

import pytest

from tests.packaging.conftest import (
    Program,
)

# Steps and stamps


def _steps(bootstrap: Program, done: list[str], **inputs: str) -> list:
    def step(name: str) -> object:
        return bootstrap.Step(name, name, inputs.get(name, ""), lambda: done.append(name))

    return [step(name) for name in ("environment", "torch", "project")]


@pytest.mark.usefixtures("machine")
def test_a_step_that_is_done_is_skipped_and_runs_again_when_its_inputs_change(
    bootstrap: Program,
) -> None:
    done: list[str] = []
    bootstrap.set_up(_steps(bootstrap, done))
    bootstrap.set_up(_steps(bootstrap, done))
    assert done == ["environment", "torch", "project"]
    bootstrap.set_up(_steps(bootstrap, done, torch="cuda"))
    assert done[3:] == ["torch"]


@pytest.mark.usefixtures("machine")
def test_after_a_failure_it_goes_on_with_the_step_that_failed(bootstrap: Program) -> None:
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
def test_a_step_whose_work_is_gone_runs_again(bootstrap: Program) -> None:
    made = bootstrap.VENV / "made"
    steps = [bootstrap.Step("converter", "", "", made.touch, made.exists)]
    bootstrap.set_up(steps)
    made.unlink()
    bootstrap.set_up(steps)
    assert made.exists()


@pytest.mark.usefixtures("machine")
def test_a_step_that_could_not_do_all_is_asked_again_and_stops_nothing(
    bootstrap: Program,
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


def test_a_fingerprint_tells_its_inputs_apart(bootstrap: Program) -> None:
    def fingerprint(inputs: object) -> str:
        return bootstrap.Step("torch", "", inputs, lambda: None).fingerprint

    assert fingerprint(["3.11", "cpu"]) == fingerprint(["3.11", "cpu"])
    assert fingerprint(["3.11", "cpu"]) != fingerprint(["3.11", "cuda"])
    assert fingerprint(["a", "bc"]) != fingerprint(["ab", "c"])


def test_a_linter_setting_does_not_ask_for_another_installation(bootstrap: Program) -> None:
    before = bootstrap.project_inputs()
    text = bootstrap.PROJECT.read_text("utf-8")
    bootstrap.PROJECT.write_text(text.replace("line-length = 100", "line-length = 99"), "utf-8")
    assert bootstrap.project_inputs() == before
    bootstrap.PROJECT.write_text(text.replace("msgspec>=", "msgspec>"), "utf-8")
    assert bootstrap.project_inputs() != before


def test_a_stamp_is_whole_or_not_there(bootstrap: Program) -> None:
    step = bootstrap.Step("torch", "", "", lambda: None)
    step.stamp()
    assert [path.name for path in bootstrap.STAMPS.iterdir()] == ["torch"]
    assert len((bootstrap.STAMPS / "torch").read_text()) == hashlib.sha256().digest_size * 2
