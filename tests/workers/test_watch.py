"""Cards read again and again, and who has them, until the window asks no more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.nvml import KEYS, Nvml
from workers import watch
from workers.card_lock import hold
from workers.host import Host
from workers.protocol import wire
from workers.protocol.cards import Holder
from workers.protocol.events import CardsRead, Finished
from workers.protocol.jobs import Job, Watch
from workers.protocol.requests import Stop


class Warming(Nvml):
    """Gets warmer with each reading; the window is closed at the third."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def nvmlDeviceGetCount(self) -> int:
        self.heat[0] += 1
        if self.heat[0] == 67:
            wire.append_request(self._folder, Stop())
        return super().nvmlDeviceGetCount()


@pytest.mark.usefixtures("runtime_folder")
def test_cards_are_read_until_the_window_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = psutil.Process()
    started = me.create_time()
    task = Watch(seconds=0.0, owner_pid=me.pid, owner_started=started)
    folder = tmp_path / "job"
    folder.mkdir()
    wire.write_job(folder, Job(id="job", name="watch", created="", home="", task=task))

    @contextlib.contextmanager
    def played() -> Iterator[Any]:
        yield Warming(folder)

    monkeypatch.setattr(watch, "open_nvml", played)
    holder = Holder(pid=os.getpid(), started=started, job="/a", name="a", kind="train")
    lock = hold(KEYS[0], holder)
    assert lock is not None
    with lock, Host(folder) as host:
        watch.run(host)

    said = [line.event for line in wire.read_events(folder)]
    read = [event for event in said if isinstance(event, CardsRead)]
    assert [event.cards[0].celsius for event in read] == [65, 66, 67]
    assert read[-1].holders == {KEYS[0]: [holder], KEYS[1]: []}
    assert isinstance(said[-1], Finished)


def test_a_step_is_done_so_often_at_most() -> None:
    done: list[int] = []
    step = watch.every(3600.0, lambda: done.append(1))
    assert [step(), step(), step()] == [True, False, False]
    assert done == [1]
