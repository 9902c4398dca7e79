"""torch, in the build that the machine can use."""

from __future__ import annotations

import contextlib
import platform
import re

from .commands import pip
from .console import say
from .environment import installed, packages, pinned
from .faults import NO_SUCH_BUILD, CommandFailed
from .places import CONSTRAINTS, DRIVER_SEEN, GB, PYTHON
from .steps import require_space


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
