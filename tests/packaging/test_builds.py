"""Which builds of torch and llama.cpp are taken, and the converter out of its archive."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import (
    CONVERTER,
    NO_CPU_BUILD,
    OFFLINE,
    VENDOR,
    Machine,
    Program,
    archive,
)

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
    bootstrap: Program,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    offered: list[str],
    taken: str,
) -> None:
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    if kind == "cuda":
        requirements = bootstrap.cuda_requirement(bootstrap.NEWER)
    else:
        requirements = bootstrap.torch_requirements("Linux", "2.13.0")
    for version in offered:
        _torch_wheel(tmp_path, version)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    for requirement in requirements:
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


def test_elsewhere_than_on_linux_there_is_one_build(bootstrap: Program) -> None:
    for system in ("Darwin", "Windows"):
        assert bootstrap.torch_requirements(system, "2.13.0") == ["torch==2.13.0"]


def test_where_no_cpu_build_is_to_be_had_the_larger_one_is_taken_and_said(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["torch==2.13.0+cpu"] = NO_CPU_BUILD
    bootstrap.install_torch("cpu")
    assert [command[-1] for command in machine.commands] == ["torch==2.13.0+cpu", "torch==2.13.0"]
    assert "larger" in capfd.readouterr().err


def test_another_failure_is_not_taken_for_a_lack(bootstrap: Program, machine: Machine) -> None:
    machine.fails["torch==2.13.0+cpu"] = "OSError: [Errno 28] No space left on device"
    with pytest.raises(bootstrap.CommandFailed) as failed:
        bootstrap.install_torch("cpu")
    assert failed.value.cause is bootstrap.DISK
    assert len(machine.commands) == 1


@pytest.mark.parametrize(
    ("version", "cuda", "kind", "asked"),
    [
        ("2.13.0+cpu", "", "cpu", False),
        ("2.13.0", "", "cpu", False),  # macOS: the plain build is the CPU build
        ("2.13.0+cpu", "", "cuda", True),
        ("2.13.0", "13.0", "cuda", False),
        ("2.13.0+cu126", "12.6", "cuda", True),  # after an update of the driver
        ("2.12.0", "13.0", "cuda", True),
    ],
)
def test_a_torch_that_suits_is_left_alone(
    bootstrap: Program, machine: Machine, version: str, cuda: str, kind: str, asked: bool
) -> None:
    plug_in(bootstrap, "NVIDIA GeForce RTX 3060, 580.65.06, 8.6")
    machine.leave("torch", version, cuda=cuda)
    bootstrap.install_torch(kind)
    assert bool(machine.asked("install")) == asked
    assert len(machine.asked("device='cuda'")) == (kind == "cuda")


def plug_in(bootstrap: Program, *lines: str) -> None:
    """Cards as nvidia-smi prints them."""
    bootstrap.STAMPS.mkdir(exist_ok=True)
    bootstrap.cards = lambda: [bootstrap.read_card(line) for line in lines]


@pytest.mark.parametrize(
    ("system", "line", "taken"),
    [
        ("Linux", "NVIDIA GeForce RTX 4090, 580.65.06, 8.9", "torch===2.13.0"),
        ("Linux", "NVIDIA GeForce RTX 2060, 590.10, 7.5", "torch===2.13.0"),
        ("Windows", "NVIDIA GeForce RTX 4090, 581.15, 8.9", "torch==2.13.0+cu130"),
        ("Linux", "NVIDIA GeForce RTX 4090, 550.120, 8.9", "torch==2.13.0+cu126"),
        ("Linux", "NVIDIA GeForce GTX 1080, 580.65.06, 6.1", "torch==2.13.0+cu126"),
        ("Windows", "Quadro V100, 538.15, 7.0", "torch==2.13.0+cu126"),
    ],
)
def test_each_card_gets_the_cuda_build_that_suits_it(
    bootstrap: Program,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    line: str,
    taken: str,
) -> None:
    monkeypatch.setattr(bootstrap.platform, "system", lambda: system)
    plug_in(bootstrap, line)
    bootstrap.install_torch("cuda")
    (asked,) = machine.asked(taken)
    build = taken.partition("+")[2]
    assert ("--extra-index-url" in asked) == bool(build)
    assert not build or f"https://download.pytorch.example/whl/{build}" in asked
    assert machine.commands[-1][1] == "-I"  # proved by a tensor on the card


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("NVIDIA GeForce RTX 3060, 470.82, 8.6", "driver is too old"),
        ("NVIDIA GeForce RTX 5090, 570.86, 12.0", "driver is too old"),
        ("NVIDIA GeForce GTX 680, 470.82", "driver is too old"),  # asked for no capability
        ("Tesla K80, 470.82, 3.7", "older than what PyTorch's builds know"),
    ],
)
def test_a_card_that_no_build_suits_is_told_what_to_do(
    bootstrap: Program,
    machine: Machine,
    capfd: pytest.CaptureFixture[str],
    line: str,
    told: str,
) -> None:
    plug_in(bootstrap, line)
    with pytest.raises(bootstrap.Unfinished):
        bootstrap.install_torch("cuda")
    assert machine.asked("torch==2.13.0+cpu")
    said = capfd.readouterr().err
    assert told in said
    assert line.partition(",")[0] in said


def test_a_driver_that_lists_no_card_any_more_is_not_called_an_old_card(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    plug_in(bootstrap)
    with pytest.raises(bootstrap.Unfinished):
        bootstrap.install_torch("cuda")
    assert machine.asked("torch==2.13.0+cpu")
    said = capfd.readouterr().err
    assert "its driver lists none.\n  Restart the computer" in said
    assert "older" not in said


def test_a_card_on_which_nothing_computes_is_told_and_asked_again(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    plug_in(bootstrap, "NVIDIA GeForce RTX 4090, 580.65.06, 8.9")
    machine.fails["-I"] = "RuntimeError: CUDA error: no kernel image is available"
    steps = [step for step in bootstrap.plan("run", "cuda", "3.11") if step.name == "torch"]
    bootstrap.do(steps[0], "torch")
    assert not steps[0].done
    said = capfd.readouterr().err
    assert "cannot be used for training" in said
    assert "A first sum on it failed" in said


def test_a_build_that_is_not_to_be_had_is_told(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    plug_in(bootstrap, "NVIDIA GeForce GTX 1080, 580.65.06, 6.1")
    machine.fails["torch==2.13.0+cu126"] = NO_CPU_BUILD.replace("+cpu", "+cu126")
    with pytest.raises(bootstrap.Unfinished):
        bootstrap.install_torch("cuda")
    assert "is not to be had for CUDA 12.6" in capfd.readouterr().err
    assert machine.asked("torch==2.13.0+cpu")


def test_the_home_page_is_that_of_the_real_metadata(bootstrap: Program) -> None:
    """What pip reports of the real torch names a page as the set-up expects it."""
    links = importlib.metadata.metadata("torch").get_all("Project-URL") or []
    page = dict(link.split(", ", 1) for link in links)["Homepage"]
    assert re.fullmatch(r"https://download\.[a-z]+\.org/whl", bootstrap.index_of(page))


def test_a_half_installed_package_does_not_count(bootstrap: Program, machine: Machine) -> None:
    machine.leave("torch", "2.13.0+cpu", whole=False)
    assert not bootstrap.has_torch()
    machine.leave("torchvision", "2.13.0")
    assert not bootstrap.has_torch()


def test_a_driver_that_was_seen_is_remembered_and_cpu_wins(
    bootstrap: Program, machine: Machine
) -> None:
    assert bootstrap.choose_kind(cpu=False) == "cpu"
    plug_in(bootstrap, "NVIDIA GeForce RTX 4090, 580.65.06, 8.9")
    bootstrap.install_torch("cuda")
    assert bootstrap.choose_kind(cpu=False) == "cuda"
    assert bootstrap.choose_kind(cpu=True) == "cpu"
    assert machine.commands


# llama.cpp


def test_a_gpu_build_of_llama_stays_out_of_pips_cache(bootstrap: Program, machine: Machine) -> None:
    bootstrap.install_llama(True)
    build, rest = machine.commands
    assert {"--no-cache-dir", "--force-reinstall", "-DGGML_CUDA=on"} <= set(build)
    assert "--no-cache-dir" not in rest


@pytest.mark.parametrize("gpu", [False, True])
def test_llama_is_compiled_without_amx_where_the_processor_has_it(
    bootstrap: Program, machine: Machine, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    """Virtual machines name the feature and refuse its registers: chat then ends by signal 11."""
    monkeypatch.setattr(bootstrap, "has_amx", lambda: True)
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=1")
    bootstrap.install_llama(gpu)
    assert machine.asked("-mno-amx-int8") == machine.commands
    assert machine.asked("-DMINE=1") == machine.commands


def test_a_gpu_build_that_fails_gives_way_to_the_cpu_build(
    bootstrap: Program, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.fails["--no-cache-dir"] = "CMake Error: No CUDA toolset found."
    bootstrap.install_llama(True)
    assert bootstrap.has_llama()
    assert "CPU build" in capfd.readouterr().err


def test_a_gpu_build_that_cannot_be_fetched_is_a_failure(
    bootstrap: Program, machine: Machine
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
    bootstrap: Program,
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
    bootstrap: Program, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "has_compiler", lambda: False)
    monkeypatch.setattr(bootstrap, "is_debian", lambda: True)
    monkeypatch.setattr(bootstrap, "is_root", lambda: True)
    bootstrap.install_llama(False)
    assert machine.asked("build-essential")
    assert bootstrap.has_llama()


# The converter


def test_of_the_source_only_the_converter_is_taken(bootstrap: Program, tmp_path: Path) -> None:
    packed = archive(tmp_path / "s.tar.gz", CONVERTER, {f"{VENDOR}/src/link": "/etc"})
    bootstrap.take_converter(packed, tmp_path / "to")
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
    bootstrap: Program, tmp_path: Path, members: dict[str, str], links: dict[str, str]
) -> None:
    packed = archive(tmp_path / "in" / "s.tar.gz", CONVERTER | members, links)
    with pytest.raises(bootstrap.SetupError, match=r"is not taken"):
        bootstrap.take_converter(packed, tmp_path / "in" / "a" / "to")
    assert list(tmp_path.rglob("evil*")) == []
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_an_archive_without_the_converter_is_refused(bootstrap: Program, tmp_path: Path) -> None:
    packed = archive(tmp_path / "s.tar.gz", {f"{VENDOR}/LICENSE": "MIT"})
    with pytest.raises(bootstrap.SetupError, match="layout has changed"):
        bootstrap.take_converter(packed, tmp_path / "to")


def test_a_failed_fetch_leaves_the_old_converter(bootstrap: Program, machine: Machine) -> None:
    bootstrap.fetch_converter()
    machine.fails["download"] = OFFLINE
    with pytest.raises(bootstrap.CommandFailed):
        bootstrap.fetch_converter()
    assert bootstrap.has_converter()
