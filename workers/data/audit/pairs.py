"""What shows in pairs and labels: equal answers, a length that tells the better one, one label."""

from __future__ import annotations

from workers.data.audit.dedup import plain
from workers.data.audit.findings import Findings
from workers.data.audit.row_text import completion_of
from workers.data.schema.row import Row

LONGER, LONGER_BY, LEAST_PAIRS = 0.9, 1.1, 20
"""Chosen answers longer in 9 of 10 pairs, and by a tenth in all: length alone then tells the better
one (Singhal et al. 2023, "A long way to go: investigating length correlations in RLHF")."""


class Pairs:
    """Takes up the chosen and rejected answers of all pairs."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._pairs = self._longer = self._chosen_letters = self._rejected_letters = 0

    def look(self, at: int, chosen: str, rejected: str) -> None:
        self._pairs += 1
        self._longer += len(chosen) > len(rejected)
        self._chosen_letters += len(chosen)
        self._rejected_letters += len(rejected)
        if plain(chosen) == plain(rejected):
            self._findings.add("chosen_equals_rejected", at, chosen)

    def end(self) -> None:
        """Says whether length tells the better answer, once all pairs are seen."""
        if self._pairs < LEAST_PAIRS or self._longer < LONGER * self._pairs:
            return
        if self._chosen_letters >= LONGER_BY * self._rejected_letters:
            self._findings.set_total("length_leak", self._longer)
            self._findings.set_of("length_leak", self._pairs)


class Labels:
    """Takes up the labels of all answers; a pair has one of each kind."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._first: tuple[int, str] | None = None
        self._answers = self._good = 0

    def look(self, at: int, row: Row) -> None:
        self._first = self._first or (at, f"{str(row.label).lower()}: {completion_of(row)}")
        self._answers += 2 if row.rejected else 1
        self._good += 1 if row.rejected else bool(row.label)

    def end(self) -> None:
        """Says whether all are of one kind, once all are seen."""
        if self._first is not None and self._good in (0, self._answers):
            self._findings.add("one_label", *self._first)
            self._findings.set_total("one_label", self._answers)
