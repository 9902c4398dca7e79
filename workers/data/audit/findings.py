"""What an audit has found so far, counted by kind, and what reading found before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from workers.data.audit.kinds import KINDS
from workers.data.reader import BadRow, Table
from workers.protocol.audit import AuditExample, AuditFinding, BadLine, Groups

EXAMPLES = 3
EXCERPT = 160
MOST_BAD = 1000
"""Bad lines that are listed one by one; the others are counted."""
LEVELS = ("advice", "warning", "alarm")


class Count:
    """The rows that one kind was found in."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self.examples: list[AuditExample] = []

    def add(self, row: int, text: str = "") -> None:
        """Takes up a row, numbered from 1."""
        self.rows += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(AuditExample(row, excerpt(text)))


def excerpt(text: str) -> str:
    line = " ".join(text[: 4 * EXCERPT].split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


class Findings:
    """The rows of each kind of finding.

    Args:
        number: gives a row's number in the dataset, from 1, for its place among the rows looked at.
    """

    def __init__(self, number: Callable[[int], int]) -> None:
        self.number = number
        self._counts: dict[str, Count] = {}
        self._of: dict[str, int] = {}
        self._gentle: set[str] = set()

    def add(self, kind: str, at: int, text: str) -> None:
        """Takes up the row at a place."""
        self._count(kind).add(self.number(at), text)

    def set_total(self, kind: str, rows: int) -> None:
        """In how many rows a kind was found, where not each of them was taken up."""
        self._count(kind).rows = rows

    def set_of(self, kind: str, rows: int) -> None:
        """How many rows could have a kind, where those are not all."""
        self._of[kind] = rows

    def soften(self, kind: str) -> None:
        """Lets a kind be advice, however many rows have it."""
        self._gentle.add(kind)

    def all(self, rows: int) -> list[AuditFinding]:
        """The findings in so many rows, the gravest first."""
        found = [
            finding(kind, count, self._of.get(kind, rows), gentle=kind in self._gentle)
            for kind, count in self._counts.items()
            if count.rows
        ]
        return sorted(found, key=lambda one: (-LEVELS.index(one.level), -one.share, one.kind))

    def _count(self, kind: str) -> Count:
        return self._counts.setdefault(kind, Count())


def finding(kind: str, count: Count, of: int, *, gentle: bool = False) -> AuditFinding:
    """One finding of a kind, as grave as its share of the rows makes it; a gentle one is advice."""
    declared = KINDS[kind]
    share = min(1.0, count.rows / max(1, of))
    level = (
        "advice"
        if gentle
        else "alarm"
        if share >= declared.alarm
        else "warning"
        if share > declared.warning
        else "advice"
    )
    return AuditFinding(
        kind=kind, level=level, count=count.rows, share=share, examples=count.examples,
        meaning=declared.meaning, remedy=declared.remedy,
    )  # fmt: skip


def unread_flags(unread: Mapping[str, int], rows: int) -> list[AuditFinding]:
    """That turns carry keys which nothing looks at, by the rows that each key stands in."""
    if not unread:
        return []
    count = Count()
    count.rows = max(unread.values())
    found = finding("unread_flags", count, rows)
    named = ", ".join(f"{key} ({number:,} rows)" for key, number in sorted(unread.items()))
    return [msgspec.structs.replace(found, meaning=f"{found.meaning} They are {named}.")]


class BadLines:
    """Lines that cannot be used: the first ones, and how many there are of each kind."""

    def __init__(self) -> None:
        self.first: list[BadLine] = []
        self.groups = Groups()
        self._total = 0
        self._counts: dict[str, Count] = {}

    def __len__(self) -> int:
        return self._total

    def append(self, row: BadRow) -> None:
        self._total += 1
        line = BadLine(row.line, row.reason, row.file)
        self.groups.add(line)
        if self._total <= MOST_BAD:
            self.first.append(line)
        if row.kind in KINDS:
            self._counts.setdefault(row.kind, Count()).add(row.line, row.reason)

    def findings(self, rows: int) -> list[AuditFinding]:
        """What is wrong with them where it is more than their form, beside so many usable rows."""
        return [finding(kind, count, rows + self._total) for kind, count in self._counts.items()]


def of_reading(table: Table) -> list[AuditFinding]:
    """What reading a dataset has to tell of its usable rows."""
    rows = {"goes_on": table.questions, "by_windows": len(table.rows) if table.windows else 0}
    counts = {kind: Count(number) for kind, number in rows.items() if number}
    found = [finding(kind, count, len(table.rows)) for kind, count in counts.items()]
    return [*found, *unread_flags(table.unread, len(table.rows))]


def merged(found: list[AuditFinding], more: list[AuditFinding]) -> list[AuditFinding]:
    """Both lists; of a kind that stands in both, the graver level holds."""
    known = {one.kind: one for one in more}
    kept = [_added(one, known.pop(one.kind)) if one.kind in known else one for one in found]
    return [*known.values(), *kept]


def _added(one: AuditFinding, other: AuditFinding) -> AuditFinding:
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        share=min(1.0, one.share + other.share),
        level=max(one.level, other.level, key=LEVELS.index),
        examples=[*one.examples, *other.examples][:EXAMPLES],
    )
