"""Splitting by hash and mixing by weight."""

from __future__ import annotations

import random

from workers.data.formats import Row
from workers.data.mix import mix, position, split


def _rows(count: int) -> list[Row]:
    return [Row(prompt=[{"role": "user", "content": str(n)}], answer=str(n)) for n in range(count)]


def test_rows_that_ask_the_same_fall_on_one_side() -> None:
    one, other = _rows(1)[0], Row(prompt=_rows(1)[0].prompt, answer="another")
    assert position(one) == position(other) != position(_rows(2)[1])


def test_the_split_is_stable_and_duplicates_never_straddle_it() -> None:
    rows = _rows(1000)
    training, held_out = split(rows, 0.1)
    assert 60 < len(held_out) < 140
    assert len(training) + len(held_out) == 1000
    shuffled = rows[:] + rows[:]
    random.Random(1).shuffle(shuffled)
    again, held_again = split(shuffled, 0.1)
    assert {str(r) for r in held_again} == {str(r) for r in held_out}
    assert not {str(r) for r in again} & {str(r) for r in held_again}
    fewer, held_fewer = split(rows[:500], 0.1)
    assert {str(r) for r in held_fewer} <= {str(r) for r in held_out}
    assert len(fewer) + len(held_fewer) == 500


def test_a_small_set_holds_out_one_row_and_no_share_holds_out_none() -> None:
    assert split(_rows(5), 0.0) == (_rows(5), [])
    training, held_out = split(_rows(5), 0.0001)
    assert (len(training), len(held_out)) == (4, 1)
    assert split(_rows(1), 0.5)[0] or split(_rows(1), 0.5)[1]


def test_mixed_proportions_match_the_weights() -> None:
    mixed = mix([["a"] * 300, ["b"] * 100], [1.0, 3.0], seed=0)
    assert len(mixed) == 400
    assert mixed.count("b") == 300
    assert mix([list("abc")], [2.0], 0) != []
    assert sorted(mix([list("abc")], [2.0], 0)) == list("abc")


def test_mixing_is_the_same_for_the_same_seed() -> None:
    sources = [list(range(50)), list(range(50, 80))]
    assert mix(sources, [1, 1], 3) == mix(sources, [1, 1], 3)
    assert mix(sources, [1, 1], 3) != mix(sources, [1, 1], 4)
