"""Limits and splits rows by their own hash, and mixes sources by weight."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.data.reader import Row

T = TypeVar("T")
Rows = list[Row]


def split_hash(row: Row) -> float:
    """A row's fixed place in [0, 1), from the SHA-256 of what it asks (or of its text).

    Rows that ask the same share it, whatever they answer: a held-out question is never trained on.
    """
    asked = "".join([segment.text for segment in row.segments if not segment.trained])
    return _hashed([row.prompt, asked or row.plain])


def limit(rows: Rows, most: int) -> Rows:
    """So many rows at most, spread over all by the hash of the whole row; 0 takes all.

    Stable: a higher limit adds rows and takes none away, and the file's order does not matter. The
    hash is not the split's, which would hold the rows of the least positions out.
    """
    if not 0 < most < len(rows):
        return rows
    places = [_hashed(["limit", row], LATER) for row in rows]
    kept = sorted(sorted(range(len(rows)), key=places.__getitem__)[:most])
    return [rows[at] for at in kept]


LATER = b',"segments":[]}]'
"""How the JSON of a row without segments ends, which is hashed as it was before rows had any."""


def _hashed(value: Any, later: bytes = b"") -> float:
    data = msgspec.json.encode(value, order="deterministic")
    if later and data.endswith(later):
        data = data.removesuffix(later) + b"}]"
    digest = hashlib.sha256(data).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split(rows: Rows, holdout: float) -> tuple[Rows, Rows]:
    """Training and held-out rows. Stable as rows come and go; duplicates never straddle it.

    When a share is asked for and the hash gives none, the row nearest to it is held out, as long
    as two different rows are there.
    """
    places = [split_hash(row) for row in rows]
    bound = held_out_below(places, holdout)
    training = [row for row, place in zip(rows, places, strict=True) if place >= bound]
    held_out = [row for row, place in zip(rows, places, strict=True) if place < bound]
    return training, held_out


def split_all(sources: list[Rows], holdout: float, most: int) -> tuple[list[Rows], Rows]:
    """Training rows of each source, and the held-out rows of all: about `most` at most.

    Those of the least split hashes are held out, so that a higher bound adds rows and takes none
    away. Rows that ask the same as the last one are held out with it.
    """
    pairs = [split(rows, holdout) for rows in sources]
    held_out = [row for _, rows in pairs for row in rows]
    places = sorted(map(split_hash, held_out))
    if len(held_out) <= most:
        return [training for training, _ in pairs], held_out
    held = {place for place in places if place <= places[most - 1]}
    kept = [[row for row in rows if split_hash(row) not in held] for rows in sources]
    return kept, [row for row in held_out if split_hash(row) in held]


def held_out_below(places: Sequence[float] | NDArray[np.float64], holdout: float) -> float:
    """The split hash below which rows are held out, by those of all of them."""
    least = min(places, default=0.0)
    if holdout <= 0 or least < holdout:
        return holdout
    return min((place for place in places if place > least), default=holdout)


class Share(NamedTuple):
    """What one source gives to a mixture."""

    available: int
    sampled: int

    @property
    def epochs(self) -> float:
        """How often each of its rows comes, on the average."""
        return self.sampled / self.available if self.available else 0.0


def shares(sizes: Sequence[int], weights: Sequence[float]) -> list[Share]:
    """How many rows each source gives to a mixture that is as long as all sources together."""
    total = sum(sizes)
    if len(sizes) == 1:
        return [Share(total, total)]
    return [
        Share(size, round(total * weight / sum(weights)) if size else 0)
        for size, weight in zip(sizes, weights, strict=True)
    ]


def mix(sources: list[list[T]], weights: list[float], seed: int) -> list[T]:
    """Rows of all sources in the proportions of `weights`, shuffled; as many as there are in all.

    A source that is drawn on beyond its size begins anew; one drawn on less gives a random part.
    """
    draw = random.Random(seed)
    mixed: list[T] = []
    for rows, share in zip(sources, shares(list(map(len, sources)), weights), strict=True):
        wanted = share.sampled
        while wanted > 0:
            part = draw.sample(rows, min(wanted, len(rows)))
            mixed.extend(part)
            wanted -= len(part)
    draw.shuffle(mixed)
    return mixed
