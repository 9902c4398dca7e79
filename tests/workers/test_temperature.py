"""When a run rests for its card's heat: after two looks at the limit, not after a spike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fakes.nvml import KEYS, Nvml, NVMLError
from workers.cards import NoCards
from workers.train import temperature
from workers.train.temperature import LOOK_EVERY_S, Thermometer, open_thermometer
from workers.turns import NAMED


def looks(limit: int, *read: int | None) -> list[int | None]:
    """What looks find that are far enough apart to read each time."""
    readings, clock = iter(read), iter(range(0, 1000, int(LOOK_EVERY_S)))
    thermometer = Thermometer(limit, lambda: next(readings), lambda: float(next(clock)))
    return [thermometer.too_hot() for _ in read]


def test_heat_that_lasts_is_told_and_a_spike_is_not() -> None:
    assert looks(85, 84, 85, 84, 86, 87) == [None, None, None, None, 87]
    assert looks(85, 90, None, 90) == [None, None, None], "a card that does not tell is not hot"
    assert looks(0, 120, 120) == [None, None], "0 is never"


def test_it_is_not_read_at_every_step() -> None:
    read: list[int] = []
    now = iter((0.0, 1.0, LOOK_EVERY_S - 0.1, LOOK_EVERY_S))
    thermometer = Thermometer(85, lambda: read.append(90) or 90, lambda: next(now))
    assert [thermometer.too_hot() for _ in range(4)] == [None, None, None, 90]
    assert len(read) == 2


def test_the_card_that_this_process_sees_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()

    @contextlib.contextmanager
    def played() -> Iterator[Any]:
        yield nvml

    monkeypatch.setattr(temperature, "open_nvml", played)
    with ExitStack() as closing:
        read = temperature.reader(KEYS[1], closing)
        assert read() == 41
        nvml.heat[1] = 90
        assert read() == 90

        def unknown(key: str) -> int:
            raise NVMLError("Not Found")

        monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByUUID", unknown)
        assert temperature.reader("GPU-gone", closing)() is None


def test_without_a_driver_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def none() -> Iterator[Any]:
        raise NoCards("no driver")
        yield

    monkeypatch.setattr(temperature, "open_nvml", none)
    monkeypatch.setenv(NAMED, "GPU-a")
    with ExitStack() as closing:
        thermometer = open_thermometer(80, closing)
        assert thermometer.too_hot() is None
