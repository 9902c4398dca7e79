"""Whether PyTorch computes on the card that is here; if not, why, and what to do now."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from workers.cards import VISIBLE, are_hidden, find_cards, is_on_bus, visible_cards
from workers.device import best_device
from workers.protocol.cards import Card
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.sizes import MOST_ON_CPU

OLDEST = {13: ("580", 7.5), 12: ("525", 5.0)}
"""CUDA's major version to the least driver and compute capability that it runs with.

https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/ (table of minor version compatibility) and
the architectures of PyTorch's builds.
"""
ON_PURPOSE = "To train on the CPU on purpose, set training.device to 'cpu'."


class Build(NamedTuple):
    """The PyTorch that is installed."""

    version: str
    cuda: str | None
    """The CUDA that it is built for; None for the CPU alone."""


class Reason(NamedTuple):
    cause: str
    remedy: str


def torch_build() -> Build:
    import torch

    return Build(str(torch.__version__), torch.version.cuda)


def fault_of_cuda() -> str:
    """What PyTorch says when it is to compute on the card; empty where it does."""
    import torch

    try:
        computed = (torch.ones(1, device="cuda") + 1).item()
    except Exception as fault:  # AssertionError, RuntimeError or AcceleratorError, by the build
        return f"{type(fault).__name__}: {fault}".splitlines()[0]
    return "" if computed == 2 else f"1 + 1 gives {computed}"


def reason_of(card: Card, build: Build, fault: str) -> Reason:
    """Why a card is not computed on, as far as driver, card and build tell."""
    if build.cuda is None:
        return Reason(
            f"PyTorch {build.version} here is built for the CPU alone.",
            "Set the project up again, which takes the build for this card: "
            "python3 packaging/bootstrap.py run",
        )
    major = int(build.cuda.partition(".")[0])
    driver, capability = OLDEST.get(major, ("", 0.0))
    if card.cuda and int(card.cuda.partition(".")[0]) < major:
        least = f" to {driver} or later" if driver else ""
        return Reason(
            f"Its driver {card.driver} runs CUDA {card.cuda} at most; PyTorch {build.version} here "
            f"is built for CUDA {build.cuda}.",
            f"Update NVIDIA's driver{least} and restart the computer.",
        )
    if card.capability and float(card.capability) < capability:
        return Reason(
            f"Its compute capability is {card.capability}; PyTorch {build.version} here, built for "
            f"CUDA {build.cuda}, computes on {capability} and later.",
            "Set the project up again: python3 packaging/bootstrap.py run takes a build for older "
            "cards where there is one.",
        )
    return Reason(
        f"PyTorch {build.version} says: {fault}",
        "Restart the computer, which mends a driver that was updated while it ran; then look "
        "again: python -m studio doctor",
    )


def unused_card(
    cards: list[Card], why_none: str = "", *, on_bus: Callable[[], bool] = is_on_bus,
    build: Callable[[], Build] = torch_build, try_cuda: Callable[[], str] = fault_of_cuda,
) -> Refusal | None:  # fmt: skip
    """What keeps PyTorch from a card that is here; None where nothing does or there is none.

    Args:
        cards: those that this process may see.
        why_none: why NVIDIA's driver tells of none.
    """
    if not (cards or on_bus()) or not (fault := try_cuda()):
        return None
    if not cards:
        return Refusal(
            "There is an NVIDIA card, but no driver that answers.",
            why_none or "It tells of no card.",
            "Install NVIDIA's driver, or restart the computer where it was just updated.",
        )
    cause, remedy = reason_of(cards[0], build(), fault)
    return Refusal(f"PyTorch does not compute on {cards[0].words}.", cause, remedy)


def check_device(recipe: Recipe, model: Path, tell: Callable[[str], None]) -> None:
    """Refuses to train a large model on the CPU beside a card, unless that was asked for: by
    training.device, or by hiding the card from CUDA.

    Args:
        model: folder of the base's safetensors.
        tell: told in words that a small one trains on the CPU.
    """
    if recipe.training.device == "cpu" or are_hidden():
        return
    cards, why_none = find_cards()
    unused = unused_card(visible_cards(cards, os.environ.get(VISIBLE)), why_none)
    if unused is None:
        return
    weights = weights_in(model)
    if best_device() == "cpu" and weights <= MOST_ON_CPU:
        tell(f"{unused.what} {unused.cause} This small model trains on the CPU.")
        return
    raise Refusal(
        unused.what,
        f"{unused.cause} On the CPU, {weights / 1e9:.1f} billion weights train for days.",
        f"{unused.remedy} {ON_PURPOSE}",
    )


def weights_in(folder: Path) -> int:
    """How many numbers a folder's safetensors hold, by their headers."""
    return sum(_weights(path) for path in folder.glob("*.safetensors"))


def _weights(path: Path) -> int:
    """Reads the header: its length in 8 bytes, then JSON.

    https://huggingface.co/docs/safetensors#format
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
