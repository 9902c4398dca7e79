"""Votes are kept as they are cast, counted, and become rows that the stages read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from studio.votes import Tally, Verdict, Vote, Votes, labelled, pairs, tally, write_rows
from workers.data.reader import read_table, stages_of
from workers.protocol.refusal import Refusal

ASKED = [{"role": "user", "content": "Hello?"}]


def vote(verdict: Verdict, left: str = "a", right: str = "b", question: str = "Hello?") -> Vote:
    prompt = [{"role": "user", "content": question}]
    return Vote(
        prompt=prompt, answers=[f"I am {left}", f"I am {right}"], models=[left, right],
        verdict=verdict, settings={"temperature": 0.7},
    )  # fmt: skip


def thumb(good: bool, answer: str = "Hi.") -> Vote:
    return Vote(prompt=ASKED, answers=[answer], models=["a"], verdict="up" if good else "down")


def test_a_vote_is_read_back_as_it_was_cast(tmp_path: Path) -> None:
    votes = Votes(tmp_path)
    assert votes.read() == []
    cast = [votes.add(vote("left")), votes.add(thumb(True))]
    assert Votes(tmp_path).read() == cast
    assert cast[0].time.endswith("+00:00")


def test_a_line_that_was_broken_off_harms_no_other(tmp_path: Path) -> None:
    votes = Votes(tmp_path)
    first = votes.add(vote("left"))
    with votes.path.open("ab") as file:
        file.write(b'{"prompt": [{"ro')
    second = votes.add(vote("tie"))
    assert votes.read() == [first, second]


def test_a_vote_outlives_the_process_that_is_killed_after_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from studio.votes import Vote, Votes\n"
        "Votes(Path(sys.argv[1])).add(Vote(prompt=[], answers=['x'], models=['m'], verdict='up'))\n"
        "os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == 9
    assert [one.verdict for one in Votes(tmp_path).read()] == ["up"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "arena").write_text("in the way")
    with pytest.raises(Refusal, match="could not be written"):
        Votes(tmp_path).add(vote("left"))
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(Refusal, match="could not be written"):
        write_rows(tmp_path, [{}], "arena")


def test_votes_are_counted_whichever_side_a_model_stood_on() -> None:
    cast = [
        vote("left"), vote("right"), vote("left", "b", "a"), vote("tie"), vote("left", "a", "c"),
        vote("both_bad", "b", "a"), thumb(True),
    ]  # fmt: skip
    assert tally(cast, "a", "b") == Tally(1, 2, 2)
    assert tally(cast, "b", "a") == Tally(2, 1, 2)
    assert tally(cast, "b", "c") == Tally(0, 0, 0)


def test_the_rate_counts_a_tie_half_and_has_wilsons_interval() -> None:
    counted = Tally(7, 4, 1)
    assert counted.rate == pytest.approx(7.5 / 12)
    # Wilson 1927, by hand: p = 0.625, n = 12, z = 1.96.
    assert counted.interval == pytest.approx((0.3546, 0.8347), abs=5e-4)
    assert Tally(0, 0, 0).interval == (0.0, 1.0)


def test_pairs_are_what_preference_stages_read(tmp_path: Path) -> None:
    cast = [
        vote("left"), vote("right"), vote("tie"), vote("both_good"), vote("both_bad"), thumb(True),
        msgspec.structs.replace(vote("left"), answers=["same", "same"]),
    ]  # fmt: skip
    made = pairs(cast)
    assert len(made.rows) == 2
    assert made.left_out == {"tie": 1, "both_good": 1, "both_bad": 1, "up": 1, "same": 1}
    path = write_rows(tmp_path, made.rows, "arena")
    table = read_table(str(path))
    assert table.format == "preference"
    first, second = table.rows
    assert first.prompt == ASKED
    assert (first.completion[0]["content"], first.rejected[0]["content"]) == ("I am a", "I am b")
    assert (second.completion[0]["content"], second.rejected[0]["content"]) == ("I am b", "I am a")
    assert {"dpo", "reward", "kto"} <= set(stages_of(table.rows))


def test_thumbs_are_what_kto_reads(tmp_path: Path) -> None:
    cast = [thumb(True), thumb(False, "Go."), thumb(False), vote("both_good"), vote("left")]
    made = labelled(cast)
    assert [row["label"] for row in made.rows] == [False, False, True, True]
    assert made.left_out == {"left": 1}
    table = read_table(str(write_rows(tmp_path, made.rows, "thumbs")))
    assert table.format == "feedback"
    assert [row.label for row in table.rows] == [False, False, True, True]


def test_a_later_dataset_of_the_day_takes_another_name(tmp_path: Path) -> None:
    paths = [write_rows(tmp_path, [{"text": "x"}], "arena") for _ in range(3)]
    assert len(set(paths)) == 3
    assert paths[0].parent == tmp_path / "data"
    assert paths[2].stem.endswith("-3")
