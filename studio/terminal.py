"""What the headless verbs print: one JSON object on stdout, progress and tables on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from workers.protocol.events import (
    Answered,
    Artifact,
    Checked,
    Evaluated,
    Event,
    Metrics,
    Note,
    Phase,
    Retried,
    Sampled,
    Token,
)
from workers.protocol.events import Progress as Advance
from workers.protocol.refusal import Refusal

PLAIN_EVERY_S = 10.0
"""Without a terminal, progress is one line so often."""


class Terminal:
    """Where a verb speaks; `json` keeps stdout for one object."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.err = Console(stderr=True, highlight=False)
        self.out = Console(highlight=False)

    def result(self, value: Any) -> None:
        """The verb's answer as one JSON object; without --json nothing."""
        if self.json:
            sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
            sys.stdout.flush()

    def refuse(self, refusal: Refusal) -> None:
        """A refusal: one JSON object, or three sentences for people."""
        if self.json:
            self.result(refusal_fields(refusal.what, refusal.cause, refusal.remedy))
            return
        self.err.print(f"[bold red]{_plain(refusal.what)}[/]", soft_wrap=True)
        self.say(refusal.cause)
        self.err.print(f"[bold]{_plain(refusal.remedy)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        self.err.print(_plain(text), soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: Iterable[Iterable[str]]) -> None:
        """A table for people; with --json it is left out."""
        if self.json:
            return
        table = Table(*columns, title=title, title_justify="left", title_style="bold")
        for row in rows:
            table.add_row(*map(_plain, row))
        self.out.print(table)


def refusal_fields(what: str, cause: str, remedy: str) -> dict[str, str]:
    return {"error": what, "cause": cause, "remedy": remedy}


def _plain(text: str) -> str:
    """Text from elsewhere must not be read as rich's markup."""
    return text.replace("[", r"\[")


class Follow:
    """Shows one job's events on stderr as they come. A context: the bar is cleared at the end."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=terminal.err,
            transient=True,
            disable=not terminal.err.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("Starting", total=None, state="")
        self._told = 0.0
        self._total = 0

    def __enter__(self) -> Follow:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        match event:
            case Phase(name=name):
                self._bar.update(self._task, description=name, total=None, state="")
                if not self._terminal.err.is_terminal:
                    self._terminal.say(name)
            case Advance(done=done, total=total, seconds_left=left):
                self._total = total
                self._bar.update(self._task, completed=done, total=total or None)
                if left is not None:
                    self._tell(event.words)
            case Metrics(step=step, values=values) if "loss" in values:
                self._step(step, values["loss"])
            case Evaluated(when=when, values=values) if values.get("loss") is not None:
                self._terminal.say(f"Held-out loss {when} training: {values['loss']:.4f}")
            case Sampled(step=step, prompt=prompt, completion=completion):
                self._terminal.say(f"Step {step}: {_short(prompt)} → {_short(completion)}")
            case Note(text=text) | Retried(detail=text):
                self._terminal.say(text)
            case Checked(check=check, passed=passed, detail=detail):
                self._terminal.say(f"{'✓' if passed else '✗'} {check}: {detail}")
            case Artifact(path=path, bytes=size):
                self._terminal.say(f"Wrote {path} ({size / 1e6:.1f} MB)")
            case Token(text=text) if not self._terminal.json:
                self._bar.stop()
                sys.stdout.write(text)
                sys.stdout.flush()
            case Answered() if not self._terminal.json:
                sys.stdout.write("\n")

    def _step(self, step: int, loss: float | None) -> None:
        shown = "not a number" if loss is None else f"{loss:.4f}"
        of = f"/{self._total}" if self._total else ""  # not known of a run joined on its way
        state = f"step {step}{of}  loss {shown}"
        self._bar.update(self._task, completed=step)
        self._tell(state)

    def _tell(self, state: str) -> None:
        """What stands behind the bar; without a terminal a line now and then."""
        self._bar.update(self._task, state=state)
        now = time.monotonic()
        if not self._terminal.err.is_terminal and now - self._told > PLAIN_EVERY_S:
            self._told = now
            self._terminal.say(state)


def _short(text: str, width: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
