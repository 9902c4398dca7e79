"""What the audit of a dataset found, before any step is trained on it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from workers.protocol.browse import TemplateFinding
from workers.protocol.mapping import Proposal

NAMED_LINES = 3
"""Lines of a group of faults that are named."""


def counted(rows: int, documents: str = "") -> str:
    """So many rows, or so many documents of text files, which were split by a rule."""
    if not documents:
        return f"{rows:,} rows"
    return f"{rows:,} documents, {documents}" if rows != 1 else "1 document"


class BadLine(msgspec.Struct, frozen=True):
    """A line that cannot be used, and why. `line` counts from 1."""

    line: int
    reason: str
    file: str = ""
    """Where the dataset has several."""


class BadGroup(msgspec.Struct, frozen=True):
    """Lines that cannot be used for one and the same reason, but for numbers in it."""

    reason: str
    """The first line's."""
    count: int
    places: list[str]
    """The first lines: their numbers, with the file's name where the dataset has several."""

    @property
    def where(self) -> str:
        """As `line 2` or `300 lines (2, 3, 4, …)`."""
        if self.count == 1:
            return _at(self.places[0])
        more = ", …" if self.count > len(self.places) else ""
        return f"{self.count:,} lines ({', '.join(self.places)}{more})"

    @property
    def words(self) -> str:
        """As `line 2: …` or `line 2: … (and 299 more lines: 3, 4, …)`."""
        first = f"{_at(self.places[0])}: {self.reason}"
        if self.count == 1:
            return first
        others = self.places[1:]
        more = ", …" if self.count > len(self.places) else ""
        lines = "line" if self.count == 2 else "lines"
        return f"{first} (and {self.count - 1:,} more {lines}: {', '.join(others)}{more})"


def _at(place: str) -> str:
    file, _, line = place.rpartition(":")
    return f"{file} line {line}" if file else f"line {line}"


class Groups:
    """Takes up bad lines and counts them by their reason."""

    def __init__(self) -> None:
        self._groups: dict[str, BadGroup] = {}

    def add(self, bad: BadLine) -> None:
        key = re.sub(r"\d+", "0", bad.reason)
        place = f"{bad.file}:{bad.line}" if bad.file else str(bad.line)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = BadGroup(bad.reason, 1, [place])
            return
        places = group.places if len(group.places) >= NAMED_LINES else [*group.places, place]
        self._groups[key] = BadGroup(group.reason, group.count + 1, places)

    def all(self) -> list[BadGroup]:
        """The largest group first."""
        return sorted(self._groups.values(), key=lambda group: -group.count)


def grouped(bad: Iterable[BadLine]) -> list[BadGroup]:
    """Bad lines by their reason, the largest group first."""
    groups = Groups()
    for line in bad:
        groups.add(line)
    return groups.all()


class AuditExample(msgspec.Struct, frozen=True):
    """Where a finding shows: the row's number, from 1, and a piece of its text."""

    row: int
    text: str


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the data has too much or too little of."""

    kind: str
    level: str
    """advice, warning or alarm."""
    count: int
    share: float
    """Of the rows that could have it, 0 to 1."""
    examples: list[AuditExample] = []
    """Three at most."""
    meaning: str
    remedy: str


class Bar(msgspec.Struct, frozen=True):
    """So many rows have `low` to `high` tokens, both counted in."""

    low: int
    high: int
    count: int


class TokenStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How long the rows are in the model's tokens, before truncation."""

    total: int
    trained: int
    """Tokens in the loss, of what the trainer takes at `max_length`."""
    max_length: int
    mean: float
    percentiles: dict[str, int]
    """p5, p25, p50, p75, p95, p99 and p100."""
    histogram: list[Bar]


class AuditResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `inspect` tells of one dataset."""

    source: str
    format: str | None
    """None when no line could be used."""
    stages: list[str]
    """The stages that at least one row can serve."""
    stage: str | None
    """The stage that the audit was made for."""
    model: str
    """The base whose tokenizer and chat template were used."""
    rows: int
    """Usable ones."""
    bad: list[BadLine]
    """The first ones, where they are very many."""
    bad_total: int = 0
    bad_groups: list[BadGroup] = []
    """All of them by their reason, the commonest first."""
    proposal: Proposal | None = None
    """The likeliest mapping, where no line could be used as the columns are."""
    findings: list[AuditFinding]
    trained_token_share: float | None
    """Of the tokens left after truncation; None where the model samples its own completions, or no
    row is left."""
    tokens: TokenStatistics | None
    seconds: float
    path: str = ""
    sha256: str = ""
    documents: str = ""
    """How text files were split into documents; empty where there are none."""
    test: str = ""
    """The test set compared with; empty means the held-out share."""
    template_findings: list[TemplateFinding] = []
    """Of the chat template that was asked for; none of the model's own."""

    @property
    def groups(self) -> list[BadGroup]:
        """The bad lines by their reason, the commonest first."""
        return self.bad_groups or grouped(self.bad)

    @property
    def counted(self) -> str:
        """How many rows can be used, or documents and where they were split."""
        return counted(self.rows, self.documents)

    @property
    def unusable(self) -> int:
        """How many lines cannot be used, those that are not listed among them."""
        return max(self.bad_total, len(self.bad))
