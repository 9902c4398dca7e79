"""What the computer is doing: read on a clock, kept for ten minutes, told in short."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.hardware import EVERY_S, KEPT, NO_DRIVER, Monitor, Usage, has_driver, read_usage
from studio.jobs import Jobs
from tests.fakes.nvml import Nvml
from workers.cards import read_cards
from workers.protocol.events import CardsRead

GB = 2**30


def usage(_: Path) -> Usage:
    return Usage(25.0, 4 * GB, 16 * GB, 60 * GB, 100 * GB)


def test_it_reads_when_it_is_time_and_forgets_the_oldest(jobs: Jobs) -> None:
    monitor = Monitor(jobs, usage, driver=lambda: False)
    for tick in range(3 * KEPT):
        monitor.tick(tick * EVERY_S / 2)

    assert monitor.curves.of("cpu") == [25.0] * KEPT
    assert monitor.version == 3 * KEPT // 2
    assert monitor.words == "CPU 25 % · RAM 4/16 GB"
    assert monitor.reason == NO_DRIVER
    assert not jobs.store.jobs("watch"), "without a driver no worker is started"


def test_cards_are_told_in_short_as_far_as_they_tell(jobs: Jobs) -> None:
    monitor = Monitor(jobs, usage, driver=lambda: False)
    nvml = Nvml()
    for used in (1, 2):
        nvml.used[0] = used * GB
        monitor.hear(CardsRead(cards=read_cards(nvml)))

    first, second = monitor.words.splitlines()
    assert first == "GPU 97 % · 64 °C · 2/12 GB"
    assert second == "GPU · 41 °C · 1/2 GB"
    key = monitor.cards[1].key
    assert monitor.curves.of(f"{key}:watts") == [None, None]
    shares = monitor.curves.of(f"{monitor.cards[0].key}:memory")
    assert [round(share or 0, 1) for share in shares] == [8.3, 16.7]


def test_a_worker_that_finds_no_driver_says_so_and_leaves_nothing(
    real: Jobs, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    if has_driver():
        pytest.skip("there is a driver on this machine")
    monitor = Monitor(real, usage, driver=lambda: True)
    monitor.tick()

    def ended() -> bool:
        real.poll()
        return bool(monitor.reason) and not real.store.jobs("watch")

    wait_until(ended)
    assert "driver" in monitor.reason
    assert monitor.cards == []
    assert not list(real.home.jobs.iterdir())


def test_reading_stays_far_below_a_frame(tmp_path: Path) -> None:
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        read_usage(tmp_path)
        spent.append(time.perf_counter() - began)
    read = read_usage(tmp_path)
    assert 0 < read.memory_used < read.memory_total
    assert 0 < read.disk_used < read.disk_total
    assert sorted(spent)[10] < 0.016
