"""Graphics cards as NVIDIA's driver tells of them, who works on one, and what a machine has."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Device = Literal["auto", "cpu"]
"""Where a job computes: `auto` on the card where there is one."""
WhenBusy = Literal["wait", "cpu"]
"""What a chat does while another job has the card: wait for it, or do without."""
WAITING = "Waiting for the GPU"
"""How the phase begins in which a job waits for its turn on a card."""
GIB = 2**30
"""Bytes of a GB, as memory is sold and named; of disks a GB has 10**9."""
HOLDS = {
    "train": "{name} is training",
    "bench": "{name} are being tried",
    "export": "{name} is running",
    "chat": "a chat is open; closing it lets this go on",
    "score": "answers are being scored by a reward model; leaving that page lets this go on",
}
"""Kind of job to what it does with a card."""


class Card(msgspec.Struct, kw_only=True, frozen=True):
    """One card at one moment. None is what this card or its driver does not tell."""

    key: str
    """NVIDIA's UUID, for example GPU-5fb0b0a7-…; names the card for good."""
    index: int = 0
    """Its number in nvidia-smi."""
    name: str = ""
    driver: str = ""
    """Its version, for example 580.95.05."""
    cuda: str = ""
    """The newest CUDA that the driver runs, for example 13.0."""
    capability: str = ""
    """NVIDIA's compute capability, for example 8.9."""
    memory_bytes: int | None = None
    used_bytes: int | None = None
    celsius: int | None = None
    watts: float | None = None
    most_watts: float | None = None
    """What the card may draw at most, as it is set now."""
    busy_percent: int | None = None
    """Share of the last moments in which it computed."""

    @property
    def free_bytes(self) -> int:
        return (self.memory_bytes or 0) - (self.used_bytes or 0)

    @property
    def words(self) -> str:
        """For people: 'NVIDIA GeForce RTX 4070 (12.0 GB, capability 8.9, driver 580.95.05)'."""
        memory = f"{self.memory_bytes / GIB:.1f} GB" if self.memory_bytes else ""
        capability = f"capability {self.capability}" if self.capability else ""
        driver = f"driver {self.driver}" if self.driver else ""
        told = ", ".join(filter(None, (memory, capability, driver)))
        return f"{self.name or self.key} ({told})" if told else self.name or self.key


class Holder(msgspec.Struct, kw_only=True, frozen=True):
    """A process that has its turn on a card; its pid and start time name it for good."""

    pid: int
    started: float
    """Seconds since the epoch."""
    job: str
    """Folder of the job, absolute."""
    name: str
    kind: str

    @property
    def words(self) -> str:
        """For people: 'arithmetic-sft is training'."""
        return HOLDS.get(self.kind, "{name} uses it").format(name=self.name or self.kind)


class Hardware(msgspec.Struct, kw_only=True, frozen=True):
    """What a machine has to compute with."""

    cards: list[Card] = []
    no_cards: str = ""
    """Why NVIDIA's driver tells of none."""
    torch: dict[str, Any] = {}
    """`version`, `cuda` (None in a build for the CPU alone) and `device` that it computes on."""
    processor: str = ""
    cores: int = 0
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    disk: str = ""
    """The folder that the program writes to."""
    disk_bytes: int = 0
    disk_free_bytes: int = 0
