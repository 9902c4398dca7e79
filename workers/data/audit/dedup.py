"""Rows that say the same: near duplicates within a dataset, and test rows inside training rows.

Texts are split into words and hashed in batches with NumPy, since hashing word by word in Python
takes longer than tokenizing. Words are runs of letters, digits and signs of arithmetic, in lower
case; letters beyond ASCII count as letters.

Of our own for speed: on 20,000 texts of 30 to 90 words, 2,000 of them near duplicates, datasketch
2.0 (`MinHash.bulk` and `MinHashLSH`, as many minima and bands) takes 15 times as long, 2.9 s of one
core against 0.19 s, and finds no more of the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.data.row_store import Columns

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

SHINGLE = 5
"""Words that make one shingle (Lee et al. 2022, "Deduplicating training data makes language models
better", section 4.2: 5-grams)."""
SIMILAR = 0.8
"""Jaccard similarity of shingles from which two rows are near duplicates (ibid.)."""
LEAST_SHINGLES = 12
"""Rows with fewer say too little to be called alike by their shingles."""
BANDS, WIDTH = 16, 6
"""Two rows are compared when one of 16 bands of 6 minima is equal: 99 % of the pairs at 0.8, 22 %
at 0.5, by 1 - (1 - s^6)^16."""
BINS = BANDS * WIDTH
PAIRS_AT_ONCE = 10_000
HALF = np.uint64(32)
GRAM = 13
"""Words of an n-gram that two texts share by copying rather than by chance (Brown et al. 2020,
"Language models are few-shot learners", appendix C)."""
BOILERPLATE = 10
"""An n-gram in more training rows than this is a form of words, not a copy (ibid.)."""
COVERED = 0.8
"""Share of a test row's words in shared n-grams from which it is contaminated (Touvron et al. 2023,
"Llama 2", appendix A.6: "dirty")."""

_WORD = np.zeros(256, dtype=bool)
_WORD[[*b"abcdefghijklmnopqrstuvwxyz0123456789+-*/=<>^_", *range(0x80, 0x100)]] = True
_BASE = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint32(0xFFFFFFFF)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""Keep so many bytes of the eight that are read at once."""


class Words(NamedTuple):
    """The hashed words of several texts, one after the other."""

    hashes: Hashes
    text: Numbers
    """Which text each word is of, from 0."""
    texts: int
    digits: Numbers
    """How many digits each text has."""


def words_of(texts: Sequence[str]) -> Words:
    """Hashes every word by its first, middle and last eight bytes and its length."""
    parts = [text.lower().encode(errors="replace") for text in texts]
    data = np.frombuffer(b"\n".join([*parts, b"\0" * 8]), np.uint8)
    begins = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) + 1 for part in parts], out=begins[1:])
    numerals = np.flatnonzero((data - np.uint8(48)) < np.uint8(10))
    digits = np.diff(np.searchsorted(numerals, begins))
    inside = _WORD[data]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate([[0], edges])
    first, last = edges[0::2], edges[1::2]
    text = np.repeat(np.arange(len(parts)), np.diff(np.searchsorted(first, begins)))
    return Words(_hashed(data, first, last - first), text, len(parts), digits)


def _hashed(data: NDArray[np.uint8], first: Numbers, length: Numbers) -> Hashes:
    eights = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    mask = _MASKS[np.minimum(length, 8)]
    hashes = (eights[first] & mask) + length.astype(np.uint64) * _BASE
    long = np.flatnonzero(length > 8)
    for place in (length[long] // 2 - 4, length[long] - 8):
        hashes[long] = hashes[long] * _BASE + eights[first[long] + place]
    return _mixed(hashes)


def _mixed(hashes: Hashes) -> Hashes:
    """Spreads every bit over all (the finalizer of MurmurHash3, Appleby)."""
    for factor in (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * factor
    return hashes ^ (hashes >> np.uint64(33))


def grams_of(words: Words, size: int) -> tuple[Hashes, Numbers]:
    """The hash of every run of `size` words within one text, and that text's number."""
    count = len(words.hashes) - size + 1
    if count <= 0:
        return words.hashes[:0], words.text[:0]
    total = np.zeros(count, np.uint64)
    for at in range(size):
        total = total * _BASE + words.hashes[at : at + count]
    whole = words.text[:count] == words.text[size - 1 :]
    return _mixed(total[whole]), words.text[:count][whole]


class NearDuplicates:
    """Finds pairs of rows that may be near duplicates, by MinHash and banding.

    One permutation with rotation (Li, Owen and Zhang 2012; Shrivastava and Li 2014): every shingle
    falls into one of 96 bins, each bin keeps its least hash, and an empty one borrows the next's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Keeps 64 bytes a row in a file of `folder`, and 4 in memory."""
        self._keys = Columns(BANDS, np.uint32, folder)
        self._rows: list[NDArray[np.uint32]] = []
        self._count = 0

    def add(self, words: Words) -> None:
        """Takes up the next rows."""
        shingles, text = grams_of(words, SHINGLE)
        size = np.bincount(text, minlength=words.texts)
        rows = np.flatnonzero(size >= LEAST_SHINGLES)
        self._rows.append((rows + self._count).astype(np.uint32))
        self._keys.append(_bands(_minima(shingles, text, words.texts)[rows]))
        self._count += words.texts

    def candidates(self, apart: NDArray[np.bool_] | None = None) -> Iterator[tuple[int, int]]:
        """Pairs of row numbers from 0, the earlier one first; each pair once.

        Args:
            apart: of each row, whether it is left out of all pairs.
        """
        if not self._rows:
            return
        rows = np.concatenate(self._rows)
        kept = np.arange(len(rows)) if apart is None else np.flatnonzero(~apart[rows])
        rows = rows[kept]
        pairs = np.zeros(0, np.uint64)
        for band in range(BANDS if len(rows) else 0):
            pairs = np.union1d(pairs, alike(rows, self._keys.column(band)[kept]))
        for at in range(0, len(pairs), PAIRS_AT_ONCE):
            first, later = halves(pairs[at : at + PAIRS_AT_ONCE])
            yield from zip(first.tolist(), later.tolist(), strict=True)

    def close(self) -> None:
        self._keys.close()


def alike(rows: NDArray[np.uint32], keys: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Rows whose keys are equal, each with the first of them, as the halves of one number."""
    order = np.argsort(keys, kind="stable")
    here = keys[order]
    new = np.concatenate([[True], here[1:] != here[:-1]])[: len(order)]
    begins = np.flatnonzero(new)
    leader = np.repeat(order[begins], np.diff(np.append(begins, len(order))))[~new]
    return (rows[leader].astype(np.uint64) << HALF) | rows[order[~new]]


def halves(pairs: NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
    """The first and the later rows of pairs."""
    return (pairs >> HALF).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _minima(shingles: Hashes, text: Numbers, texts: int) -> NDArray[np.uint32]:
    bins = ((shingles >> np.uint64(32)) * np.uint64(BINS)) >> np.uint64(32)
    least = np.full(texts * BINS, _EMPTY, np.uint32)
    np.minimum.at(least, text * BINS + bins.astype(np.int64), shingles.astype(np.uint32))
    least = least.reshape(texts, BINS)
    twice = np.concatenate([least, least], axis=1)
    at = np.where(twice != _EMPTY, np.arange(2 * BINS), 2 * BINS - 1)
    following = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1][:, :BINS]
    return np.take_along_axis(twice, following, axis=1)


def _bands(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """One number a band. Two of 32 bits are equal by chance in one pair of 4 billion, which is
    then found unlike."""
    parts = minima.reshape(len(minima), BANDS, WIDTH).astype(np.uint64)
    total = np.zeros((len(minima), BANDS), np.uint64)
    for at in range(WIDTH):
        total = total * _BASE + parts[:, :, at]
    return (_mixed(total) >> np.uint64(32)).astype(np.uint32)


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles; 0 when a number differs.

    Two sums told in the same words with other numbers are two tasks, not one twice.
    """
    if _numbers(one) != _numbers(other):
        return 0.0
    mine, theirs = (np.unique(grams_of(words_of([text]), SHINGLE)[0]) for text in (one, other))
    shared = len(np.intersect1d(mine, theirs, assume_unique=True))
    return shared / max(1, len(mine) + len(theirs) - shared)


def _numbers(text: str) -> list[str]:
    return sorted(word for word in text.split() if any(map(str.isdigit, word)))


class Overlap(NamedTuple):
    """A test row that stands in the training rows; both numbered from 0."""

    test: int
    row: int


class TestOverlap:
    """Finds test rows that training rows hold: by 13-grams, or by the whole text."""

    __test__ = False  # to pytest

    def __init__(self, texts: Sequence[str]) -> None:
        """Takes what each test row asks."""
        words = words_of(texts)
        self._lengths = np.bincount(words.text, minlength=len(texts))
        grams, text = grams_of(words, GRAM)
        place = np.arange(len(words.hashes))[: max(0, len(words.hashes) - GRAM + 1)]
        whole = words.text[: len(place)] == words.text[GRAM - 1 :]
        self._first_word = place[whole] - np.searchsorted(words.text, text)
        self._text = text
        self._grams, self._which = np.unique(grams, return_inverse=True)
        self._table = np.zeros(1 << 22, bool)  # spares most look-ups
        self._table[self._slot(self._grams)] = True
        self._rows_with = np.zeros(len(self._grams), np.int64)
        self._first_row = np.full(len(self._grams), -1, np.int64)
        self._heads = {_head(text) for text in texts}
        self._whole: dict[str, list[int]] = {}
        for number, asked in enumerate(map(plain, texts)):
            if asked:
                self._whole.setdefault(asked, []).append(number)
        self._found: dict[int, int] = {}

    def _slot(self, grams: Hashes) -> NDArray[np.int64]:
        return (grams & np.uint64(len(self._table) - 1)).astype(np.int64)

    def add(self, words: Words, asked: Sequence[str], numbers: Numbers) -> None:
        """Looks through the next training rows.

        Args:
            words: everything that each row says.
            asked: what each row asks.
            numbers: each row's number; -1 passes a row over.
        """
        for text, number in zip(asked, numbers.tolist(), strict=True):
            if number >= 0 and _head(text) in self._heads:
                for test in self._whole.get(plain(text), []):
                    self._found.setdefault(test, number)
        if not len(self._grams):
            return
        grams, text = grams_of(words, GRAM)
        likely = self._table[self._slot(grams)]
        grams, rows = grams[likely], numbers[text[likely]]
        at = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        hit = (self._grams[at] == grams) & (rows >= 0)
        if hit.any():
            self._count(np.unique(np.stack([at[hit], rows[hit]], axis=1), axis=0))

    def _count(self, hits: NDArray[np.int64]) -> None:
        gram, row = hits[:, 0], hits[:, 1]
        np.add.at(self._rows_with, gram, 1)
        fresh = self._first_row[gram[::-1]] < 0
        self._first_row[gram[::-1][fresh]] = row[::-1][fresh]

    def found(self) -> list[Overlap]:
        """The test rows that were met, in order, each with the first training row that holds it."""
        copied = ((self._rows_with > 0) & (self._rows_with <= BOILERPLATE))[self._which]
        for test in np.unique(self._text[copied]).tolist():
            low, high = np.searchsorted(self._text, [test, test + 1])
            mine = low + np.flatnonzero(copied[low:high])
            covered = np.zeros(self._lengths[test], bool)
            for word in self._first_word[mine].tolist():
                covered[word : word + GRAM] = True
            if covered.mean() >= COVERED:
                self._found.setdefault(test, int(self._first_row[self._which[mine[0]]]))
        return [Overlap(test, row) for test, row in sorted(self._found.items())]


def _head(text: str) -> str:
    """A text's first letters, to spare comparing it whole."""
    return "".join(text[:64].lower().split())[:16]


def plain(text: str) -> str:
    """A text without regard to capitals and spaces, to be compared whole."""
    return " ".join(text.lower().split())
