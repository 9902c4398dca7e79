"""Splitting by hash and mixing by weight."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from workers.data.mix import limit, mix, shares, split, split_all, split_hash
from workers.data.reader import Row
from workers.protocol.recipe import Evaluation, Recipe, Source, Training
from workers.train.dataset import build_dataset


def _rows(count: int) -> list[Row]:
    return [Row(prompt=[{"role": "user", "content": str(n)}], answer=str(n)) for n in range(count)]


def test_rows_that_ask_the_same_fall_on_one_side() -> None:
    one, other = _rows(1)[0], Row(prompt=_rows(1)[0].prompt, answer="another")
    assert split_hash(one) == split_hash(other) != split_hash(_rows(2)[1])


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


def test_no_more_rows_are_held_out_than_are_measured() -> None:
    one, other = _rows(1000), _rows(2000)[1000:]
    (few, none), held_out = split_all([one, other], 0.1, 10_000)
    assert (few, none) == (split(one, 0.1)[0], split(other, 0.1)[0])
    (first, second), held = split_all([one, other], 0.1, 64)
    assert len(held) == 64
    assert len(first) + len(second) == 2000 - 64
    assert held == [row for row in held_out if row in held]
    assert max(map(split_hash, held)) < min(split_hash(row) for row in held_out if row not in held)
    assert [row for row in one if row not in held] == first  # in the file's order
    (repeated, _), same = split_all([one + one, other], 0.1, 64)
    assert not {str(row) for row in repeated} & {str(row) for row in same}


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


# A limit


def test_a_limit_takes_rows_from_everywhere_and_is_stable() -> None:
    rows = _rows(1000)
    few, more = limit(rows, 100), limit(rows, 300)
    assert (len(few), len(more)) == (100, 300)
    numbers = [int(row.answer) for row in few]
    assert numbers == sorted(numbers)
    assert sum(number < 500 for number in numbers) == pytest.approx(50, abs=15)
    assert {row.answer for row in few} < {row.answer for row in more}
    shuffled = random.Random(2).sample(rows, 1000)
    assert {row.answer for row in limit(shuffled, 100)} == {row.answer for row in few}
    assert limit(rows, 0) == limit(rows, 1000) == limit(rows, 5000) == rows


def test_limited_rows_are_split_as_all_rows_are() -> None:
    training, held_out = split(limit(_rows(4000), 1000), 0.1)
    assert len(held_out) == pytest.approx(100, abs=35)
    assert len(training) + len(held_out) == 1000


# What each source gives


def test_a_share_tells_how_often_rows_come() -> None:
    small, large, none = shares([100, 900, 0], [1.0, 1.0, 2.0])
    assert (small.available, small.sampled, small.epochs) == (100, 250, 2.5)
    assert (large.sampled, round(large.epochs, 3)) == (250, 0.278)
    assert (none.sampled, none.epochs) == (0, 0.0)
    assert shares([7], [3.0])[0].epochs == 1.0


def _set(path: Path, name: str, count: int) -> str:
    lines = [json.dumps({"prompt": f"{name} {n}?", "completion": name}) for n in range(count)]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("case", range(12))
def test_proportions_match_the_weights_through_gather(tmp_path: Path, case: int) -> None:
    """Whatever sizes, weights, limits and held-out share: over the whole mixture the proportions
    are exact, and over any part of it they match within sampling error."""
    draw = random.Random(case)
    names = "abcd"[: draw.randint(2, 4)]
    sizes = [draw.randint(20, 400) for _ in names]
    limits = [draw.choice([0, draw.randint(10, size + 50)]) for size in sizes]
    weights = [draw.choice([0.25, 1.0, 1.0, 3.0, draw.uniform(0.1, 5.0)]) for _ in names]
    data = [
        Source(source=_set(tmp_path / f"{name}.jsonl", name, size), weight=weight, limit=most)
        for name, size, weight, most in zip(names, sizes, weights, limits, strict=True)
    ]
    recipe = Recipe(data=data, training=Training(seed=case),
                    evaluation=Evaluation(holdout=draw.choice([0.0, 0.1, 0.3])))  # fmt: skip
    rows = build_dataset(recipe)
    said = [row.completion[0]["content"] for row in rows.training]
    for part, name, size, most, weight in zip(
        rows.parts, names, sizes, limits, weights, strict=True
    ):
        wanted = weight / sum(weights)
        assert said.count(name) == part.share.sampled
        assert part.share.available <= min(size, most or size)
        assert abs(part.share.sampled - wanted * len(said)) <= len(names)
        half = said[: len(said) // 2]
        error = (wanted * (1 - wanted) / len(half)) ** 0.5
        assert abs(half.count(name) / len(half) - wanted) < 4 * error + len(names) / len(half)
        times = Counter(row.prompt[0]["content"] for row in rows.training
                        if row.completion[0]["content"] == name)  # fmt: skip
        assert len(times) == min(part.share.available, part.share.sampled)
        assert max(times.values()) - min(times.values()) <= 1


def test_a_limit_takes_the_rows_that_it_took_before_rows_had_segments() -> None:
    """Which rows a recipe with a limit learns from outlives new fields of a row."""
    rows = [
        Row(
            prompt=[{"role": "user", "content": f"{n}+1?"}],
            completion=[{"role": "assistant", "content": str(n + 1)}],
        )
        for n in range(40)
    ]
    assert [rows.index(row) for row in limit(rows, 6)] == [9, 16, 17, 30, 32, 37]


def test_a_run_tells_what_reading_passed_over(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    rows = [{"messages": said, "label": n > 1} for n in range(6)]
    rows[3] |= {"messages": [*said, {"role": "user", "content": "And?"}]}
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    recipe = Recipe(stage="sft", data=[Source(source=str(path))])
    told = [note.text for note in build_dataset(recipe).notes]
    assert told[:2] == [
        "1 conversation goes on behind the last answer; what nobody answers is left out.",
        f"2 of 6 rows of {path} do not serve the stage and are left out; 2 of them hold an answer "
        "that is labelled bad.",
    ]
