"""Reads the cards again and again, for a window that shows them: a call to a card can take long.

Ends on Stop, or when the studio that owns it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workers.card_lock import holders
from workers.cards import NoCards, open_nvml, read_cards
from workers.host import Host, serve
from workers.protocol.events import CardsRead, Finished
from workers.protocol.jobs import Watch


def run(host: Host) -> None:
    """Runs a watch job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Watch)
    try:
        with open_nvml() as nvml:
            serve(host, {}, every(task.seconds, lambda: host.emit(read(nvml))))
    except NoCards as none:
        host.emit(CardsRead(cards=[], reason=str(none)))
    host.emit(Finished())


def read(nvml: Any) -> CardsRead:
    cards = read_cards(nvml)
    return CardsRead(cards=cards, holders={card.key: holders(card.key) for card in cards})


def every(seconds: float, do: Callable[[], None]) -> Callable[[], bool]:
    """A step of work that is done so often at most; says whether it was."""
    last = float("-inf")

    def step() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        do()
        last = time.monotonic()
        return True

    return step
