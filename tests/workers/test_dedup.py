"""Words, shingles and overlaps, against what a plain loop finds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from workers.data.audit.dedup import (
    GRAM,
    SHINGLE,
    NearDuplicates,
    TestOverlap,
    grams_of,
    plain,
    similarity,
    words_of,
)

WORDS = [f"{one}{other}" for one in ("lamp", "reef", "storm", "crew") for other in range(60)]


def prose(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def test_equal_words_hash_alike_wherever_they_stand() -> None:
    words = words_of(["One two, one!", "", "TWO (one) größer +5"])
    assert words.text.tolist() == [0, 0, 0, 2, 2, 2, 2]
    one, two, again, upper, bracketed, *_ = words.hashes.tolist()
    assert one == again == bracketed != two == upper
    assert len(set(words.hashes.tolist())) == 4
    assert words.digits.tolist() == [0, 0, 1]


def test_hashes_of_a_batch_are_those_of_each_text_alone() -> None:
    texts = [prose(seed, seed % 40) for seed in range(50)]
    together = words_of(texts)
    for number, text in enumerate(texts):
        alone = words_of([text]).hashes
        assert np.array_equal(together.hashes[together.text == number], alone)
    distinct = {word for text in texts for word in text.split()}
    assert len(set(together.hashes.tolist())) == len(distinct)


def test_runs_of_words_stay_within_their_text() -> None:
    grams, text = grams_of(words_of(["a b c d", "a b", "b c d"]), 3)
    assert text.tolist() == [0, 0, 2]
    assert grams[1] == grams[2] != grams[0]


def jaccard(one: str, other: str) -> float:
    sets = [
        {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
        for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_similarity_is_the_jaccard_of_shingles() -> None:
    one = "the keeper lit the lamp and the crew saw it from far beyond the reef at night"
    other = one.replace("crew", "men")
    assert similarity(one, other) == pytest.approx(jaccard(one, other))
    assert similarity(one, one.upper()) == 1.0
    assert similarity(f"{one} 12", f"{one} 13") == 0.0


def test_planted_near_duplicates_are_met_and_others_are_not() -> None:
    texts = [prose(seed) for seed in range(400)]
    planted = {}
    for number in range(40):
        words = texts[number].split()
        words[number % 50] = "otherwise"
        planted[len(texts)] = number
        texts.append(" ".join(words))
    near = NearDuplicates()
    for at in range(0, len(texts), 64):
        near.add(words_of(texts[at : at + 64]))
    pairs = set(near.candidates())
    apart = np.arange(len(texts)) == 400
    assert set(near.candidates(apart)) == {pair for pair in pairs if 400 not in pair}
    near.close()
    met = [later for later, first in planted.items() if (first, later) in pairs]
    assert len(met) >= 38
    assert len(pairs - {(first, later) for later, first in planted.items()}) < 20


def test_a_test_row_is_found_inside_a_longer_row_and_as_a_short_whole() -> None:
    test = [prose(1, 30), "What is  70 minus 25?", prose(2, 30)]
    overlap = TestOverlap(test)
    rows = [prose(9), f"{prose(8)} {test[0].upper()} {prose(7)}", "what is 70 minus 25?"]
    overlap.add(words_of(rows), rows, np.arange(3))
    assert overlap.found() == [(0, 1), (1, 2)]


def test_forms_of_words_are_no_copies() -> None:
    form = prose(3, GRAM)
    test = [f"{form} {prose(4, 3)}"]
    rows = [f"{form} {prose(seed, 20)}" for seed in range(100, 120)]
    overlap = TestOverlap(test)
    overlap.add(words_of(rows), rows, np.arange(len(rows)))
    assert overlap.found() == []


def test_rows_set_apart_are_passed_over() -> None:
    overlap = TestOverlap([prose(1)])
    overlap.add(words_of([prose(1)]), [prose(1)], np.array([-1]))
    assert overlap.found() == []


def test_plain_regards_neither_capitals_nor_spaces() -> None:
    assert plain(" A  b\n") == plain("a B")
