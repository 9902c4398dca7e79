"""The longest stall of the event loop while a large dataset is looked into, over a bare table.

    python tests/benchmarks/window_stalls.py [--rows N] [--row-bytes N] [--places N]

Opens a file of N rows on the Data page with the real worker, offscreen; drags the scroll bar to
random places and chooses a row there. The same is done with a bare QTableView over a list in
memory. A stall is the time between two ticks of a 1 ms timer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from PySide6.QtCore import QAbstractTableModel, QEventLoop, QTimer
from PySide6.QtWidgets import QApplication, QTableView

from studio.app import Studio
from studio.paths import Home
from workers.protocol.recipe import Source

SIZE = (1280, 800)
SETTLE_S = 0.3
"""At every place so long is waited for what comes, as one looks at it."""
LIMIT_S = 120.0


class Watch:
    """The times between the ticks of a 1 ms timer since `begin`: by the clock, and of our thread.

    A machine that is busy with other work lengthens the first, not the second.
    """

    def __init__(self, app: QApplication) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._tick = QTimer(app, interval=1)
        self._tick.timeout.connect(self._on_tick)
        self._tick.start()
        self.begin()

    def begin(self) -> None:
        self._gaps.clear()
        self._last = (time.perf_counter(), time.thread_time())

    def _on_tick(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self._gaps.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now

    @property
    def told(self) -> dict[str, float]:
        """The longest gaps in ms, by the clock and of work, and how many works took over 16 ms."""
        works = sorted(work for _, work in self._gaps)
        return {
            "longest_ms": round(max(gap for gap, _ in self._gaps) * 1e3, 1),
            "longest_work_ms": round(works[-1] * 1e3, 1),
            "work_p99_ms": round(works[int(len(works) * 0.99)] * 1e3, 1),
            "over_16_ms": sum(work > 0.016 for work in works),
            "ticks": len(works),
        }


class Bare(QAbstractTableModel):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = [(f"{row}", f"Question {row}", f"Answer {row}", "", "") for row in range(rows)]

    def rowCount(self, parent: Any = None) -> int:
        return len(self._rows)

    def columnCount(self, parent: Any = None) -> int:
        return 5

    def data(self, index: Any, role: int = 0) -> Any:
        return self._rows[index.row()][index.column()] if role == 0 else None


def wait(app: QApplication, seconds: float, until: Callable[[], bool] | None = None) -> float:
    """Runs the event loop until a condition holds or the time is over; the seconds it took."""
    began = time.perf_counter()
    over = False

    def end() -> None:
        nonlocal over
        over = True

    timer = QTimer(singleShot=True)
    timer.timeout.connect(end)
    timer.start(round(seconds * 1000))
    while not over and not (until is not None and until()):
        app.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
    return time.perf_counter() - began


def roam(app: QApplication, table: QTableView, places: int) -> None:
    """Drags to random places, by many small ones, and chooses a row at each."""
    draw = random.Random(0)
    for _ in range(places):
        row = draw.randrange(table.model().rowCount())
        bar = table.verticalScrollBar()
        begin = bar.value()
        for part in range(1, 11):
            bar.setValue(begin + (row - begin) * part // 10)
            wait(app, 0.01)
        table.setCurrentIndex(table.model().index(row, 0))
        wait(app, SETTLE_S)


def write_rows(path: Path, rows: int, row_bytes: int) -> None:
    filler = "word " * (row_bytes // 5)
    with path.open("w") as file:
        for row in range(rows):
            turns = {
                "prompt": f"Question {row}? {filler}"[:row_bytes],
                "completion": f"It is {row}.",
            }
            file.write(json.dumps(turns) + "\n")


def bare(app: QApplication, watch: Watch, rows: int, places: int) -> dict[str, float]:
    table = QTableView()
    table.setModel(Bare(rows))
    table.resize(*SIZE)
    table.show()
    wait(app, SETTLE_S)
    watch.begin()
    roam(app, table, places)
    told = watch.told
    table.close()
    return told


def ours(
    app: QApplication, watch: Watch, folder: Path, path: Path, places: int
) -> dict[str, float]:
    studio = Studio(app, Home(folder / "home"))
    window = studio.window
    window.show()
    window.resize(*SIZE)
    wait(app, 3.0)  # until the other pages are built
    page = window.data
    window.show_page(page)
    wait(app, SETTLE_S)
    watch.begin()
    page.open(Source(source=str(path)))
    table = page.browser.table
    first = wait(app, LIMIT_S, lambda: table.rows.view(0) is not None)
    opening = watch.told
    counted = wait(app, LIMIT_S, lambda: page.browser.counted) + first
    wait(app, LIMIT_S, lambda: bool(page.browser.tokens.tokens.views))
    whole = table.rows.rowCount()
    watch.begin()
    roam(app, table, places)
    told = watch.told
    studio.close()
    return {
        **told,
        "opening_longest_ms": opening["longest_ms"],
        "opening_longest_work_ms": opening["longest_work_ms"],
        "rows": whole,
        "first_page_seconds": round(first, 2),
        "counted_seconds": round(counted, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=60)
    parser.add_argument("--places", type=int, default=40)
    asked = parser.parse_args()
    app = QApplication([])
    watch = Watch(app)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.jsonl"
        write_rows(path, asked.rows, asked.row_bytes)
        size = path.stat().st_size
        plain = bare(app, watch, asked.rows, asked.places)
        found = ours(app, watch, Path(name), path, asked.places)
    ratio = found["longest_work_ms"] / plain["longest_work_ms"]
    print(json.dumps({"ratio": round(ratio, 2), "file_mb": size // 10**6, "ours": found,
                      "bare": plain}))  # fmt: skip


if __name__ == "__main__":
    main()
