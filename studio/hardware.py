"""What this computer does now: processor, RAM and disk read here, cards by a worker, with the last
minutes of each. Knows no toolkit.

`psutil` answers at once; NVIDIA's library may take its time, so a worker asks it, and only where
there is a driver.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from studio.jobs import Jobs
from studio.session import Ending, Session, delete_ended
from workers.protocol.cards import GIB, Card, Holder
from workers.protocol.events import CardsRead
from workers.protocol.jobs import Watch
from workers.protocol.refusal import Refusal

EVERY_S = 2.0
KEPT = 300
"""Readings of each curve: the last ten minutes."""
DRIVERS = {
    "linux": ("/proc/driver/nvidia/version", "/dev/dxg"),  # the second is Windows' under WSL
    "win32": (r"C:\Windows\System32\nvml.dll",),
}
NO_DRIVER = "NVIDIA's driver is not installed on this computer."


class Usage(msgspec.Struct, frozen=True):
    """The computer at one moment."""

    cpu_percent: float
    memory_used: int
    memory_total: int
    disk_used: int
    disk_total: int
    """Of the disk that the program writes to, in bytes, as the memory."""


def read_usage(home: Path) -> Usage:
    """`cpu_percent` is that since the last call."""
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(home))
    used = memory.total - memory.available
    return Usage(psutil.cpu_percent(None), used, memory.total, disk.used, disk.used + disk.free)


def has_driver(system: str = sys.platform) -> bool:
    """Whether NVIDIA's driver is on this computer, by its files alone."""
    return any(os.path.exists(path) for path in DRIVERS.get(system, ()))


class Curves:
    """The last readings of several measures, None where one was not told."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[float | None]] = {}

    def add(self, name: str, value: float | None) -> None:
        self._kept.setdefault(name, deque(maxlen=KEPT)).append(value)

    def of(self, name: str) -> list[float | None]:
        """The oldest first; empty where nothing was read."""
        return list(self._kept.get(name, ()))


class Monitor:
    """Reads when `tick` is called and it is time; `version` counts what was read."""

    def __init__(
        self, jobs: Jobs, read: Callable[[Path], Usage] = read_usage,
        driver: Callable[[], bool] = has_driver,
    ) -> None:  # fmt: skip
        self._jobs, self._read, self._driver = jobs, read, driver
        self._session: Session | None = None
        self._began = False
        self._last = float("-inf")
        self.version = 0
        self.usage: Usage | None = None
        self.cards: list[Card] = []
        self.holders: dict[str, list[Holder]] = {}
        """Card's key to the processes that have it."""
        self.reason = ""
        """Why there are no cards; empty until that is known."""
        self.curves = Curves()
        """`cpu`, `memory`, and of each card `KEY:busy`, `KEY:memory`, `KEY:celsius`, `KEY:watts`.
        """

    def tick(self, now: float | None = None) -> None:
        """Reads the computer where it is time, and has the cards watched from the first call on."""
        if not self._began:
            self._began = True
            self._watch()
        now = time.monotonic() if now is None else now
        if now - self._last < EVERY_S:
            return
        self._last = now
        with contextlib.suppress(OSError):  # the disk is gone, and its absence told elsewhere
            usage = self.usage = self._read(self._jobs.home.root)
            self.curves.add("cpu", usage.cpu_percent)
            self.curves.add("memory", 100 * usage.memory_used / usage.memory_total)
            self.version += 1

    def _watch(self) -> None:
        if not self._driver():
            self.reason = NO_DRIVER
            return
        delete_ended(self._jobs, "watch")
        try:
            self._session = Session.start(self._jobs, Watch(seconds=EVERY_S), temporary=True)
        except Refusal as refusal:
            self.reason = f"The cards cannot be read. {refusal.what} {refusal.remedy}"
            return
        self._session.on(CardsRead, self.hear).on(Ending, self._on_ended)

    def hear(self, read: CardsRead) -> None:
        """Takes up what a worker read of the cards."""
        self.cards, self.holders, self.reason = read.cards, read.holders, read.reason
        for card in read.cards:
            share = 100 * (card.used_bytes or 0) / card.memory_bytes if card.memory_bytes else None
            for name, value in (
                ("busy", card.busy_percent), ("memory", share), ("celsius", card.celsius),
                ("watts", card.watts),
            ):  # fmt: skip
                self.curves.add(f"{card.key}:{name}", value)
        self.version += 1

    def _on_ended(self, ending: Ending) -> None:
        self._session = None
        self.cards = []
        self.reason = self.reason or ending.cause or "The cards are not read any more."
        self.version += 1

    def close(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        if self._session is not None:
            self._session.close()
        self._session = None

    @property
    def freest_card(self) -> Card | None:
        """The one that a job would take, of those that tell their memory."""
        told = [card for card in self.cards if card.memory_bytes]
        return max(told, key=lambda card: card.free_bytes, default=None)

    @property
    def words(self) -> str:
        """In short, a line for each card and one for the computer."""
        lines = [card_in_short(card) for card in self.cards]
        if self.usage is not None:
            used, total = self.usage.memory_used / GIB, self.usage.memory_total / GIB
            lines.append(f"CPU {self.usage.cpu_percent:.0f} % · RAM {used:.0f}/{total:.0f} GB")
        return "\n".join(lines)


def card_in_short(card: Card) -> str:
    """'GPU 97 % · 64 °C · 7/12 GB', as far as the card tells."""
    parts = [
        "GPU" if card.busy_percent is None else f"GPU {card.busy_percent} %",
        None if card.celsius is None else f"{card.celsius} °C",
        f"{(card.used_bytes or 0) / GIB:.0f}/{card.memory_bytes / GIB:.0f} GB"
        if card.memory_bytes
        else None,
    ]
    return " · ".join(part for part in parts if part)
