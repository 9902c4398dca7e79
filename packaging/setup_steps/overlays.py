"""Environments of engines that do not go into .venv: Unsloth's and vLLM's workers run there.

An overlay is an environment whose own packages come first and which sees those of .venv behind
them: torch, Transformers, TRL and `workers`. So an engine's needs (Unsloth brings a top-level
package `studio`, vLLM an older protobuf) are never those of the window.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .commands import call
from .console import say
from .environment import packages
from .faults import SetupError
from .places import GB, OVERLAYS, PYTHON, ROOT, WINDOWS
from .steps import Step
from .torch_build import torch_build


def nothing() -> None:
    """For an overlay that asks nothing of the machine."""


@dataclass(frozen=True)
class Overlay:
    """An engine's environment."""

    name: str
    title: str
    arguments: tuple[str, ...]
    """For pip, before the file of pinned packages."""
    proof: str
    """Python that imports what the workers import."""
    space_bytes: int
    use: str
    """How it is chosen, once it is there."""
    over: tuple[str, ...] = ()
    """Other overlays whose packages it sees before those of .venv, where they are there."""
    require: Callable[[], None] = nothing
    """Raises SetupError where it cannot be had."""

    @property
    def folder(self) -> Path:
        return OVERLAYS / self.name

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if WINDOWS else "bin/python")

    @property
    def pins(self) -> Path:
        return ROOT / "packaging" / "overlays" / f"{self.name}.txt"

    @property
    def ready(self) -> Path:
        """Written last: the studio takes no overlay without it."""
        return self.folder / "ready"


def require_cuda_linux() -> None:
    """vLLM's wheel is for Linux and CUDA; its libraries do not load over another torch."""
    if platform.system() == "Linux" and torch_build():
        return
    raise SetupError(
        "vLLM cannot be set up on this machine.",
        "It needs Linux and an NVIDIA card that torch uses.",
        "Without it completions are sampled by Transformers: slower, and nothing else changes.",
    )


KNOWN = {
    "unsloth": Overlay(
        name="unsloth",
        title="Unsloth",
        arguments=("--no-deps", "-r"),
        proof="from unsloth import FastLanguageModel; import workers.protocol, trl",
        space_bytes=1 * GB,
        over=("vllm",),  # for its fast inference
        use="Choose it with model.engine = 'unsloth'.",
    ),
    "vllm": Overlay(
        name="vllm",
        title="vLLM",
        arguments=("vllm", "-c"),
        proof="from vllm import LLM; import workers.protocol, trl",
        space_bytes=12 * GB,
        use="Reinforcement learning samples with it where the model fits beside it; "
        "rl.fast_generation decides.",
        require=require_cuda_linux,
    ),
}


def overlay_step(name: str, base: list[str]) -> Step:
    """Makes an overlay anew over the environment that `base` describes."""
    overlay = KNOWN[name]
    pins = overlay.pins.read_text("utf-8")
    return Step(
        f"overlay-{name}",
        f"Making the environment of {overlay.title}",
        [*base, pins],
        lambda: make_overlay(overlay),
        overlay.ready.is_file,
        overlay.space_bytes,
    )


def make_overlay(overlay: Overlay) -> None:
    overlay.require()
    shutil.rmtree(overlay.folder, ignore_errors=True)
    call(PYTHON, "-m", "venv", "--without-pip", overlay.folder)
    base = packages()
    own = overlay.folder.joinpath(*base.parts[-2 if WINDOWS else -3 :])
    inner = own.relative_to(overlay.folder)
    below = [*(str(KNOWN[name].folder / inner) for name in overlay.over), str(base)]
    # Behind its own, and with what their .pth files name.
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in below]
    (own / "finetune_studio.pth").write_text("".join(lines), "utf-8")
    call(overlay.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install",
         *overlay.arguments, overlay.pins)  # fmt: skip
    call(overlay.python, "-c", overlay.proof)
    overlay.ready.write_text(f"{overlay.name}\n", "utf-8")


def tell_use(name: str) -> None:
    overlay = KNOWN[name]
    say(f"{overlay.title} is set up. {overlay.use}")
