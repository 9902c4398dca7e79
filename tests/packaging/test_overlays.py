"""Environments of engines over .venv: what pip is asked, what is seen in them, what is refused."""

from __future__ import annotations

import dataclasses
import re
import sys
import sysconfig
from pathlib import Path

import pytest

from studio import settings
from tests.packaging.conftest import ROOT, Machine, Program


def test_unsloths_environment_is_made_once_and_then_left_alone(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["unsloth"]) == 0
    (install,) = machine.asked("unsloth.txt")
    assert install[0] == str(bootstrap.KNOWN["unsloth"].python)
    assert "--no-deps" in install
    assert "FastLanguageModel" in machine.commands[-1][-1]
    assert "model.engine = 'unsloth'" in capfd.readouterr().err
    machine.commands.clear()
    assert bootstrap.main(["unsloth"]) == 0
    assert machine.commands == []


def test_an_engine_that_cannot_be_imported_is_not_taken(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails[bootstrap.KNOWN["unsloth"].proof] = "ImportError: cannot import name 'x'"
    assert bootstrap.main(["unsloth"]) == 1
    assert "cannot import name" in capfd.readouterr().err
    assert not bootstrap.KNOWN["unsloth"].ready.exists()


def test_vllm_is_refused_where_torch_has_no_cuda(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["vllm"]) == 1
    assert "needs Linux and an NVIDIA card" in capfd.readouterr().err
    assert not machine.asked("vllm.txt")


def test_vllm_is_pinned_to_the_torch_that_it_asks_for(bootstrap: Program, machine: Machine) -> None:
    bootstrap.STAMPS.mkdir()
    bootstrap.cards = lambda: [bootstrap.read_card("RTX 4090, 580.65.06, 8.9")]
    assert bootstrap.main(["vllm"]) == 0
    (install,) = machine.asked("vllm.txt")
    assert install[-3:-1] == ["vllm", "-c"]
    pins = bootstrap.KNOWN["vllm"].pins.read_text("utf-8")
    assert not re.search(r"^(torch|triton|transformers|trl)==", pins, re.MULTILINE)


def test_an_overlay_sees_its_own_packages_first_and_then_those_below(
    bootstrap: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A real environment over this one, with no package of its own."""
    base = Path(sysconfig.get_path("purelib"))
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(bootstrap, "packages", lambda: base)
    (tmp_path / "packaging" / "overlays").mkdir(parents=True)
    (tmp_path / "packaging" / "overlays" / "own.txt").touch()
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "OVERLAYS", tmp_path / "overlays")
    order = (
        "import sys, workers.protocol; own = [p for p in sys.path if 'overlays' in p]; "
        f"assert sys.path.index(own[0]) < sys.path.index({str(base)!r})"
    )
    overlay = dataclasses.replace(
        bootstrap.KNOWN["unsloth"], name="own", proof=order, arguments=("--no-deps", "-r")
    )
    bootstrap.make_overlay(overlay)
    assert overlay.ready.is_file()


def test_the_studio_finds_an_overlay_where_the_set_up_leaves_it(
    bootstrap: Program, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.sys, "prefix", str(bootstrap.VENV))
    assert settings.overlay("unsloth") is None
    bootstrap.main(["unsloth"])
    assert settings.overlay("unsloth") == str(bootstrap.KNOWN["unsloth"].python)
    assert machine.commands


@pytest.mark.parametrize("name", ["unsloth", "vllm"])
def test_every_requirement_of_an_overlay_is_pinned(name: str) -> None:
    lines = (ROOT / "packaging" / "overlays" / f"{name}.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)
