"""What is said while the set-up is at work, on stderr alone."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator

HEARTBEAT_S = 60.0


def say(text: str) -> None:
    """A line on stderr; on a terminal it takes the place of the running clock's."""
    over = f"\r{text:<79}" if sys.stderr.isatty() else text
    print(over, file=sys.stderr, flush=True)


@contextlib.contextmanager
def clock(title: str) -> Iterator[None]:
    """Shows a step and how long it has taken: a live line on a terminal, else a line a minute."""
    began = time.monotonic()
    over = threading.Event()
    live = sys.stderr.isatty()

    def line(ending: str = "") -> str:
        return f"{title} ... {time.monotonic() - began:.0f} s{ending}"

    def tick() -> None:
        while not over.wait(0.5 if live else HEARTBEAT_S):
            if live:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r{line()[:width]}", end="", file=sys.stderr, flush=True)
            else:
                say(line(", still at it"))

    if not live:
        say(f"{title} ...")
    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    ending = ", not done"
    try:
        yield
        ending = ", done"
    finally:
        over.set()
        ticking.join()
        say(line(ending))
