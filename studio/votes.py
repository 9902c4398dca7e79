"""Votes on answers, kept for good as they are cast, and the datasets that are made of them.

Knows no toolkit and no job. One vote is one line of `arena/votes.jsonl` under the home; lines are
appended and never rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from studio.gate import wilson
from workers.protocol.refusal import Refusal
from workers.protocol.wire import write_atomically

Verdict = Literal["left", "right", "tie", "both_good", "both_bad", "up", "down"]
"""Of two answers, or for up and down of one."""
Message = dict[str, str]


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one or two answers to the same conversation."""

    prompt: list[Message]
    """All turns so far, the last one the user's."""
    answers: list[str]
    """As they were shown: left, right; a thumb goes to one alone."""
    models: list[str]
    """Who gave them: a file, or a folder."""
    verdict: Verdict
    settings: dict[str, Any] = {}
    """How they were sampled."""
    time: str = ""
    """ISO 8601, UTC."""

    @property
    def winner(self) -> str:
        """The model that was preferred; empty where none was."""
        places = {"left": 0, "right": 1}
        return self.models[places[self.verdict]] if self.verdict in places else ""


class Votes:
    """The votes under one home."""

    def __init__(self, home: Path) -> None:
        self.path = home / "arena" / "votes.jsonl"

    def add(self, vote: Vote) -> Vote:
        """Appends a vote with the present time; it is with the system when this returns.

        Raises:
            Refusal: the file cannot be written.
        """
        vote = msgspec.structs.replace(vote, time=datetime.now(UTC).isoformat(timespec="seconds"))
        line = msgspec.json.encode(vote) + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write((b"\n" if _torn(self.path) else b"") + line)
        except OSError as fault:
            raise Refusal(
                f"The vote could not be written to {self.path}: {fault.strerror}.",
                "The disk may be full or read-only.",
                "Free some space, then vote again.",
            ) from fault
        return vote

    def read(self) -> list[Vote]:
        """All votes, oldest first; a line that was broken off is passed over."""
        found: list[Vote] = []
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Vote))
            except msgspec.DecodeError:
                continue
        return found


def _torn(path: Path) -> bool:
    """Whether the last line has no end: its writer died."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read(1) != b"\n"


# Who wins


class Tally(msgspec.Struct, frozen=True):
    """Votes between two models."""

    first: int
    second: int
    ties: int
    """No winner: ties, both good, both bad."""

    @property
    def votes(self) -> int:
        return self.first + self.second + self.ties

    @property
    def rate(self) -> float:
        """The share that the first one wins, a tie counting half; a half where nobody voted."""
        return (self.first + self.ties / 2) / self.votes if self.votes else 0.5

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate (Wilson 1927)."""
        return wilson(self.rate, self.votes) if self.votes else (0.0, 1.0)


def tally(votes: Iterable[Vote], first: str, second: str) -> Tally:
    """How two models fared against each other."""
    winners = [vote.winner for vote in votes if set(vote.models) == {first, second}]
    return Tally(winners.count(first), winners.count(second), winners.count(""))


# Datasets


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Rows made of votes, and how many votes gave none."""

    rows: list[dict[str, Any]]
    left_out: dict[str, int]
    """Why, to how many votes."""


def pairs(votes: Sequence[Vote]) -> Made:
    """A better and a worse answer from every vote that has a winner."""
    rows: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for vote in votes:
        if not vote.winner or vote.answers[0] == vote.answers[1]:
            reason = "same" if vote.winner else vote.verdict
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        better = 0 if vote.verdict == "left" else 1
        rows.append({
            "prompt": vote.prompt,
            "chosen": [_said(vote.answers[better])],
            "rejected": [_said(vote.answers[1 - better])],
            "chosen_model": vote.models[better],
            "rejected_model": vote.models[1 - better],
            "voted": vote.time,
        })  # fmt: skip
    return Made(rows=rows, left_out=left_out)


THUMBS = {"up": True, "both_good": True, "down": False, "both_bad": False}


def labelled(votes: Sequence[Vote]) -> Made:
    """Single answers with a label; who changed his mind about one is heard the last time."""
    rows: dict[bytes, dict[str, Any]] = {}
    left_out: dict[str, int] = {}
    for vote in votes:
        if vote.verdict not in THUMBS:
            left_out[vote.verdict] = left_out.get(vote.verdict, 0) + 1
            continue
        for answer, model in zip(vote.answers, vote.models, strict=True):
            rows[msgspec.json.encode([vote.prompt, answer, model])] = {
                "prompt": vote.prompt,
                "completion": [_said(answer)],
                "label": THUMBS[vote.verdict],
                "model": model,
                "voted": vote.time,
            }
    return Made(rows=list(rows.values()), left_out=left_out)


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def write_rows(home: Path, rows: Sequence[dict[str, Any]], stem: str) -> Path:
    """Writes rows as `data/STEM-DATE.jsonl` under the home, under a name that is free.

    Raises:
        Refusal: the file cannot be written.
    """
    folder = home / "data"
    name = f"{stem}-{datetime.now(UTC):%Y-%m-%d}"
    taken = {path.name for path in folder.glob(f"{name}*.jsonl")}
    number = next(n for n in range(1, len(taken) + 2) if _numbered(name, n) not in taken)
    path = folder / _numbered(name, number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    except OSError as fault:
        raise Refusal(
            f"The dataset could not be written to {path}: {fault.strerror}.",
            "The disk may be full or read-only.",
            "Free some space; the votes are kept.",
        ) from fault
    return path


def _numbered(name: str, number: int) -> str:
    return f"{name}.jsonl" if number == 1 else f"{name}-{number}.jsonl"
