"""torch, in the build that the machine can use."""

from __future__ import annotations

import contextlib
import json
import platform
import re
from typing import NoReturn
from urllib.parse import urlsplit

from .card import NEWER, NEWER_DRIVER, Card, cards, suiting_build, why_none
from .commands import call, pip
from .console import say
from .environment import installed, packages, pinned
from .faults import NO_SUCH_BUILD, CommandFailed, SetupError, Unfinished
from .places import CONSTRAINTS, DRIVER_SEEN, GB, LOG, PYTHON, VENV
from .steps import require_space


def torch_requirements(system: str, version: str) -> list[str]:
    """What to ask pip for where torch is to run on the processor, first choice first.

    `+cpu` is to be had where pip is configured for it, otherwise the plain build, which is larger
    on Linux and runs on the CPU too.
    """
    return (
        [f"torch=={version}+cpu", f"torch=={version}"]
        if system == "Linux"
        else [f"torch=={version}"]
    )


def has_torch() -> bool:
    return installed("torch").split("+")[0] == pinned("torch")


def torch_build() -> str:
    """The CUDA build of the torch in .venv, as `cu130`; empty for a CPU build.

    Read, not imported, which would take seconds.
    """
    with contextlib.suppress(OSError):
        text = (packages() / "torch" / "version.py").read_text("utf-8")
        found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)", text, re.MULTILINE)
        return f"cu{found.group(1).replace('.', '')}" if found else ""
    return ""


def install_torch(kind: str) -> None:
    """The build for the processor, or the CUDA build that suits the cards, proved on one of them.

    Raises Unfinished where the cards cannot be used, which is said with what to do.
    """
    if kind == "cpu":
        install_cpu_torch()
        return
    DRIVER_SEEN.touch()
    found = cards()
    build = suiting_build(found)
    if not build:
        go_without(found, why_none(found))
    if not (has_torch() and torch_build() == build):
        try:
            pip("install", "-c", CONSTRAINTS, *cuda_requirement(build))
        except CommandFailed as fault:
            if NO_SUCH_BUILD not in fault.said:
                raise
            go_without(found, f"PyTorch {pinned('torch')} is not to be had for CUDA {build[2:4]}"
                              f".{build[4:]}. With a driver from {NEWER_DRIVER} on and a card of "
                              "the RTX 20 series or newer the usual build suits.")  # fmt: skip
    if not computes_on_card():
        go_without(found, f"A first sum on it failed: the end of {LOG} says why.")


def go_without(found: list[Card], why: str) -> NoReturn:
    """Says that training will run on the processor, and sees to a torch that can."""
    named = "; ".join(map(str, found)) or "its driver lists none"
    say(f"  The NVIDIA card cannot be used for training: {named}.")
    say(f"  {why}")
    say("  Until then everything runs on the processor, which suits models up to 0.5B.")
    if not has_torch():
        install_cpu_torch()
    raise Unfinished


def cuda_requirement(build: str) -> list[str]:
    """What to give pip for a CUDA build of torch.

    For Linux pip's own source has the newer one. All others, that for Windows too, lie in the index
    that PyTorch keeps for each CUDA version beside its home page, which its metadata name.
    """
    version = pinned("torch")
    if platform.system() == "Linux" and build == NEWER:
        return [f"torch==={version}"]
    return ["--extra-index-url", f"{index_of(homepage())}/{build}", f"torch=={version}+{build}"]


def homepage() -> str:
    """The home page that torch's metadata names; raises SetupError where pip tells none."""
    report = VENV / ".torch-report.json"
    pip("install", "--dry-run", "--no-deps", "--ignore-installed", "--report", report,
        f"torch=={pinned('torch')}")  # fmt: skip
    (about,) = json.loads(report.read_text("utf-8"))["install"]
    report.unlink()
    links = dict(link.split(", ", 1) for link in about["metadata"].get("project_url", []))
    page = about["metadata"].get("home_page") or links.get("Homepage", "")
    if urlsplit(page).scheme != "https":
        raise SetupError(
            "PyTorch's CUDA build was not found.",
            "The metadata of torch name no home page.",
            "Install it as PyTorch's page 'Get started' says, with the Python in .venv, then run "
            "this again; or add --cpu.",
        )
    return page


def index_of(page: str) -> str:
    """The root of PyTorch's indexes: the host `download` of its home page's domain."""
    host = urlsplit(page).netloc.removeprefix("www.")
    return urlsplit(page)._replace(netloc=f"download.{host}", path="/whl").geturl()


def computes_on_card() -> bool:
    """Whether torch makes a tensor on the card: the proof that driver, build and card agree."""
    try:
        call(PYTHON, "-I", "-c", "import torch; print(torch.zeros(1, device='cuda') + 1)")
    except CommandFailed:
        return False
    return True


def install_cpu_torch() -> None:
    if has_torch() and not torch_build():
        return
    first, *others = torch_requirements(platform.system(), pinned("torch"))
    try:
        pip("install", "-c", CONSTRAINTS, first)
    except CommandFailed as fault:
        if not others or NO_SUCH_BUILD not in fault.said:
            raise
        install_larger_torch(others[0])


def install_larger_torch(requirement: str) -> None:
    say("  There is no separate CPU build where pip looks: taking the ordinary build of torch.")
    say("  It is larger, and runs on the processor too.")
    if not has_torch():
        require_space(10 * GB)
    pip("install", "-c", CONSTRAINTS, requirement)
