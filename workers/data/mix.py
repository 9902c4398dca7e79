"""Splits rows into training and held-out by their own hash, and mixes sources by weight."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.data.formats import Row

T = TypeVar("T")
Rows = list[Row]


def position(row: Row) -> float:
    """A row's fixed place in [0, 1), from the SHA-256 of what it asks (or of its text).

    Rows that ask the same share it, whatever they answer: a held-out question is never trained on.
    """
    asked = [row.prompt, row.text]
    digest = hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split(rows: Rows, holdout: float) -> tuple[Rows, Rows]:
    """Training and held-out rows. Stable as rows come and go; duplicates never straddle it.

    When a share is asked for and the hash gives none, the row nearest to it is held out, as long
    as two different rows are there.
    """
    places = [position(row) for row in rows]
    bound = held_out_below(places, holdout)
    training = [row for row, place in zip(rows, places, strict=True) if place >= bound]
    held_out = [row for row, place in zip(rows, places, strict=True) if place < bound]
    return training, held_out


def held_out_below(places: Sequence[float] | NDArray[np.float64], holdout: float) -> float:
    """The position below which rows are held out, by the positions of all of them."""
    least = min(places, default=0.0)
    if holdout <= 0 or least < holdout:
        return holdout
    return min((place for place in places if place > least), default=holdout)


def mix(sources: list[list[T]], weights: list[float], seed: int) -> list[T]:
    """Rows of all sources in the proportions of `weights`, shuffled; as many as there are in all.

    A source that is drawn on beyond its size begins anew; one drawn on less gives a random part.
    """
    total = sum(len(rows) for rows in sources)
    shares = [weight / sum(weights) for weight in weights]
    draw = random.Random(seed)
    mixed: list[T] = []
    for rows, share in zip(sources, shares, strict=True):
        wanted = total if len(sources) == 1 else round(total * share)
        while wanted > 0 and rows:
            part = draw.sample(rows, min(wanted, len(rows)))
            mixed.extend(part)
            wanted -= len(part)
    draw.shuffle(mixed)
    return mixed
