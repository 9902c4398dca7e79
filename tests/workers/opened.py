"""A dataset that is open in this process, and asked as the studio asks."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from workers.browse import Browser
from workers.data.browse.row_cache import open_rows
from workers.data.read.files import find
from workers.host import Host, serve_once
from workers.protocol import wire
from workers.protocol.browse import Opening, RowView, TokenView
from workers.protocol.events import (
    Event,
    Opened,
    RowsCounted,
    RowsShown,
    TokensShown,
)
from workers.protocol.jobs import Browse, Job
from workers.protocol.recipe import Source
from workers.protocol.requests import Request, ShowRows, ShowTokens

ROWS = [{"prompt": f"What is {n}+1?", "completion": f"It is {n + 1}: ü, 数."} for n in range(260)]
Told = TypeVar("Told")


def job_of(folder: Path, source: Source, **more: Any) -> Path:
    """A browse job of this process's, with a home beside it."""
    me = psutil.Process()
    owner = {"owner_pid": me.pid, "owner_started": me.create_time()} | more
    folder.mkdir()
    home = str(folder.parent / "home")
    wire.write_job(
        folder, Job(id="b", name="b", created="", home=home, task=Browse(source=source, **owner))
    )
    return folder


class Look:
    """A dataset that is open in this process."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = job_of(folder, source)
        self.home = folder.parent / "home"
        self.host = Host(self.folder)
        self.host.__enter__()
        task = self.host.job.task
        assert isinstance(task, Browse)
        found = find(task.source.source)
        self.rows = open_rows(found, self.folder)
        self.browser = Browser(self.host, task, found, self.rows)
        self._events = wire.follow_events(self.folder)
        self._heard: list[Event] = []
        self.browser.open()
        self.opening: Opening = self.told(Opened).opening

    def told(self, kind: type[Told]) -> Told:
        """The first event of a kind that was not yet taken."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            self._heard += [line.event for line in self._events.read()]
            for event in self._heard:
                if isinstance(event, kind):
                    self._heard.remove(event)
                    return event
            serve_once(self.host, self.browser.handlers, self.browser.step)
        pytest.fail(f"no {kind.__name__} came")

    def ask(self, request: Request, kind: type[Told]) -> Told:
        wire.append_request(self.folder, request)
        return self.told(kind)

    def show(self, first: int, count: int = 50) -> list[RowView]:
        return self.ask(ShowRows(first=first, count=count), RowsShown).rows

    def tokens(self, row: int, **more: Any) -> TokensShown:
        return self.ask(ShowTokens(row=row, **more), TokensShown)

    def view(self, row: int = 0, **more: Any) -> TokenView:
        shown = self.tokens(row, **more)
        assert not shown.reason
        return shown.views[0]

    def counted(self) -> RowsCounted:
        while not self.browser.settled:
            serve_once(self.host, self.browser.handlers, self.browser.step)
        events = [line.event for line in wire.read_events(self.folder)]
        return [event for event in events if isinstance(event, RowsCounted)][-1]

    def close(self) -> None:
        self.browser.close()
        self.rows.close()
        self.host.__exit__(None, None, None)


Open = Callable[..., Look]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
