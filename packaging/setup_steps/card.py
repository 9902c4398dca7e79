"""The NVIDIA cards of this machine, and which CUDA build of torch suits them.

PyTorch's build for CUDA 13.0 needs a driver from 580 on and compute capability 7.5 (CUDA 13.0's
release notes: Maxwell, Pascal and Volta are gone). Its build for CUDA 12.6 runs on older ones: any
driver from 525 on (528 on Windows), compute capability 5.0 to 9.0.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass

NEWER, OLDER = "cu130", "cu126"
NEWER_DRIVER, NEWER_CAPABILITY = 580, (7, 5)
OLDER_CAPABILITIES = (5, 0), (9, 0)


@dataclass(frozen=True)
class Card:
    """One card, as its driver names it."""

    name: str
    driver: int
    """The first part of the driver's version."""
    capability: tuple[int, int] | None
    """None where the driver is too old to say."""

    def __str__(self) -> str:
        known = ".".join(map(str, self.capability)) if self.capability else "unknown"
        return f"{self.name} (driver {self.driver}, compute capability {known})"


def cards() -> list[Card]:
    """Every NVIDIA card that the driver lists; none without a driver."""
    listed = ask_driver("name,driver_version,compute_cap") or ask_driver("name,driver_version")
    return [read_card(line) for line in listed]


def ask_driver(fields: str) -> list[str]:
    """A line a card; none where there is no driver, or one that does not know the fields."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line.strip() for line in told.stdout.splitlines()]
    return [line for line in lines if line.count(",") == fields.count(",")] * (not told.returncode)


def read_card(line: str) -> Card:
    """One line of what nvidia-smi prints: `NVIDIA GeForce RTX 4090, 580.65.06, 8.9`."""
    name, driver, *capability = (part.strip() for part in line.split(","))
    first = driver.partition(".")[0]
    major, _, minor = "".join(capability).partition(".")
    known = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    return Card(name, int(first) if first.isdigit() else 0, known)


def suiting_build(found: list[Card]) -> str:
    """The CUDA build for the best of these cards; empty where there is none for any."""
    return max((build_for(card) for card in found), default="")


def build_for(card: Card) -> str:
    oldest, newest = OLDER_CAPABILITIES
    capability = card.capability or newest
    if card.driver >= NEWER_DRIVER and capability >= NEWER_CAPABILITY:
        return NEWER
    least = 528 if platform.system() == "Windows" else 525
    return OLDER if card.driver >= least and oldest <= capability <= newest else ""


def why_none(found: list[Card]) -> str:
    """Why no build suits, and what to do, in one sentence each."""
    if not found:
        return (
            "Restart the computer, or install NVIDIA's driver anew, then run the same command "
            "again."
        )
    if any((card.capability or NEWER_CAPABILITY) >= NEWER_CAPABILITY for card in found):
        return (
            f"Its driver is too old. Install NVIDIA's driver {NEWER_DRIVER} or newer, then run "
            "the same command again."
        )
    return "The card is older than what PyTorch's builds know, and no driver mends that."
