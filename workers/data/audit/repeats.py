"""What shows in all rows together: one answer to everything, rows that stand twice or nearly so.

Of each row 16 bytes are held, the hashes of its answer and of all of it, and those of `dedup`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.audit.dedup import (
    SIMILAR,
    NearDuplicates,
    Words,
    alike,
    halves,
    similarity,
)
from workers.data.audit.findings import EXAMPLES, Findings
from workers.data.audit.row_text import completion_of, system_of, text_of
from workers.data.schema.row import Row

ONE_ANSWER, LEAST_ROWS = 0.5, 20
"""The share of rows from which one and the same answer is found, where there are rows enough."""


class Repeats:
    """Takes up all rows.

    Args:
        row: gives a row by its place.
        folder: where a file may lie until `close`.
    """

    def __init__(
        self, findings: Findings, row: Callable[[int], Row], folder: Path | None = None
    ) -> None:
        self._findings = findings
        self._row = row
        self._answers, self._keys = array("q"), array("q")
        """Of each row, the hash of its answer (0 for none) and of all of it."""
        self._near = NearDuplicates(folder)

    def close(self) -> None:
        self._near.close()

    def look_at_words(self, words: Words) -> None:
        """Takes up the words of a batch of rows."""
        self._near.add(words)

    def look(self, row: Row, text: str) -> None:
        """Takes up one row, whose text `said` gave."""
        self._answers.append(_hashed(completion_of(row)) if row.completion else 0)
        self._keys.append(_hashed((text, system_of(row), row.answer, row.label)))

    def end(self) -> None:
        """Says what stands twice, once all rows are seen."""
        self._one_answer()
        self._near_duplicates(self._exact_duplicates())

    def _one_answer(self) -> None:
        answers = np.frombuffer(self._answers, np.int64)
        given = answers[answers != 0]
        if len(given) < LEAST_ROWS:
            return
        distinct, counts = np.unique(given, return_counts=True)
        most = int(counts.argmax())
        if counts[most] / len(given) > ONE_ANSWER:
            for at in np.flatnonzero(answers == distinct[most])[:EXAMPLES].tolist():
                self._findings.add("identical_answers", at, completion_of(self._row(at)))
            self._findings.set_total("identical_answers", int(counts[most]))

    def _exact_duplicates(self) -> NDArray[np.bool_]:
        """Which rows stand in the dataset before."""
        keys = np.frombuffer(self._keys, np.int64)
        first, later = halves(alike(np.arange(len(keys), dtype=np.uint32), keys))
        order = np.argsort(later)
        self._add_repeats("exact_duplicates", "As", first[order], later[order])
        duplicate = np.zeros(len(keys), bool)
        duplicate[later] = True
        return duplicate

    def _near_duplicates(self, duplicate: NDArray[np.bool_]) -> None:
        first_of = np.full(len(duplicate), -1, np.int32)
        for first, later in self._near.candidates(duplicate):
            if first_of[later] < 0 and (
                similarity(text_of(self._row(first)), text_of(self._row(later))) >= SIMILAR
            ):
                first_of[later] = first
        later = np.flatnonzero(first_of >= 0)
        self._add_repeats("near_duplicates", "Nearly", first_of[later], later)

    def _add_repeats(
        self, kind: str, like: str, first: NDArray[np.integer], later: NDArray[np.integer]
    ) -> None:
        """Takes up rows that are like earlier ones, in the dataset's order."""
        for one, other in zip(first[:EXAMPLES].tolist(), later[:EXAMPLES].tolist(), strict=True):
            number = self._findings.number(one)
            self._findings.add(kind, other, f"{like} row {number}: {text_of(self._row(other))}")
        self._findings.set_total(kind, len(later))


def _hashed(value: Any) -> int:
    """A hash of 64 bits that is never 0; another one in every process."""
    return hash(value) or 1
