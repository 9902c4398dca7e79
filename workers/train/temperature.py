"""Whether the card that a run trains on has got too hot for its owner's taste."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from workers.cards import NoCards, celsius, open_nvml
from workers.turns import NAMED

LOOK_EVERY_S = 5.0
IN_A_ROW = 2
"""Looks that must find it too hot: one alone may be a spike."""
Read = Callable[[], int | None]


class Thermometer:
    """Looked at after each step; reads now and then."""

    def __init__(self, limit: int, read: Read, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit` in degrees Celsius; 0 is never too hot."""
        self._limit, self._read, self._clock = limit, read, clock
        self._looked = float("-inf")
        self._times = 0

    def too_hot(self) -> int | None:
        """The temperature, where it has been at the limit for some time."""
        now = self._clock()
        if not self._limit or now - self._looked < LOOK_EVERY_S:
            return None
        self._looked = now
        found = self._read()
        self._times = self._times + 1 if found is not None and found >= self._limit else 0
        return found if self._times >= IN_A_ROW else None


def open_thermometer(limit: int, closing: ExitStack) -> Thermometer:
    """One for the card that this process computes on; without a driver it reads nothing."""
    return Thermometer(limit, reader(os.environ.get(NAMED, ""), closing) if limit else _nothing)


def reader(card: str, closing: ExitStack) -> Read:
    """Reads a card's temperature, named by its UUID."""
    try:
        nvml = closing.enter_context(open_nvml())
    except NoCards:
        return _nothing
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(card)
    except nvml.NVMLError:  # none is used, or one that is not NVIDIA's
        return _nothing
    return lambda: celsius(nvml, handle)


def _nothing() -> None:
    return None
