"""The device that this process computes on, and how much memory it has.

Memory is that of the card, or the computer's RAM as far as this process may take it. Imports torch
only when it is asked about a card.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psutil

CPU_ALONE = "FINETUNE_STUDIO_CPU"
"""Set where this process is to leave cards alone."""
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


class Limit(NamedTuple):
    """How much RAM a control group lets its processes take, and what they have taken."""

    most: int
    taken: int
    """In bytes, without the cache of files, which the system gives back when asked."""


def best_device() -> str:
    """`cuda`, `mps` or `cpu`: what PyTorch computes fastest on, unless the CPU is asked for."""
    if on_cpu_alone():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def on_cpu_alone() -> bool:
    return bool(os.environ.get(CPU_ALONE))


def free_memory(device: str) -> int:
    """Bytes that this process can still take: on the card beyond what PyTorch holds already, in RAM
    (`cpu`, `mps`) within the limits of its control groups."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    limits = [limit.most - limit.taken for limit in ram_limits()]
    return max(min([psutil.virtual_memory().available, *limits]), 0)


def total_memory(device: str) -> int:
    """Bytes of the card, or of RAM within the limits of this process's control groups."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[1]
    return min([psutil.virtual_memory().total, *(limit.most for limit in ram_limits())])


def ram_limits(own: Path = OWN_CGROUP, root: Path = CGROUPS) -> list[Limit]:
    """The limits of the control groups that this process is in, as a container sets them; empty
    where there are none or the system has no control groups.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found: list[Limit | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            found += [_limit(group, *files) for group in _upward(root, path)]
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += [_limit(group, *files) for group in _upward(root / "memory", path)]
    return [limit for limit in found if limit is not None]


def _upward(root: Path, path: str) -> list[Path]:
    """A group's folder and those above it; within a container some of them are not to be seen."""
    group = root / path.lstrip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]


def _limit(group: Path, most: str, taken: str, cache: str) -> Limit | None:
    """What a group's files say; None where it sets no limit."""
    try:
        limit = int((group / most).read_text())  # "max" in version 2 is no number
        used = int((group / taken).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return Limit(limit, used - int(counts.get(cache, 0)))
