"""What this machine has to compute with: cards, PyTorch's build, processor, RAM and disk."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from workers.cards import find_cards
from workers.cuda_check import torch_build
from workers.device import best_device, free_memory, total_memory
from workers.protocol.cards import Hardware

CPUS = Path("/proc/cpuinfo")


def look_at_hardware(home: Path) -> Hardware:
    """The machine as it stands; imports PyTorch."""
    cards, why = find_cards()
    build, disk = torch_build(), shutil.disk_usage(home)
    return Hardware(
        cards=cards,
        no_cards=why,
        torch={"version": build.version, "cuda": build.cuda, "device": best_device()},
        processor=processor_name(),
        cores=os.cpu_count() or 0,
        memory_bytes=total_memory("cpu"),
        memory_free_bytes=free_memory("cpu"),
        disk=str(home),
        disk_bytes=disk.total,
        disk_free_bytes=disk.free,
    )


def processor_name(listed: Path = CPUS) -> str:
    """The processor's name as its maker gave it, where the system tells."""
    try:
        lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
