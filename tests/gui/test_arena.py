"""Two models side by side, votes, and what is made of them; over fake chats in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton

from studio.app import Studio
from studio.pages.chat.arena import Arena
from studio.votes import Vote, Votes
from tests.gui.conftest import Driver
from workers.data.reader import read_table
from workers.protocol.recipe import Recipe


@pytest.fixture
def runs(driver: Driver, studio: Studio, recipe: Recipe) -> list[str]:
    """The folders of two finished runs."""
    made = [
        studio.jobs.train(msgspec.structs.replace(recipe, name=name)) for name in ("one", "two")
    ]

    def finished() -> bool:
        rows = [studio.store.job(run) for run in made]
        return all(row is not None and row.status == "finished" for row in rows)

    driver.wait(finished)
    return [str(studio.jobs.folder(run)) for run in made]


@pytest.fixture
def arena(driver: Driver, runs: list[str]) -> Arena:
    driver.go("Chat")
    driver.click("compare")
    made = driver.window.chat.arena
    for box, run in zip(made.models, runs, strict=True):
        box.setCurrentIndex(box.findData(run))
        box.activated.emit(box.currentIndex())
    driver.wait(lambda: made.send.isEnabled())
    return made


def _ask(driver: Driver, arena: Arena, text: str) -> None:
    driver.qtbot.keyClicks(arena.composer, text)
    driver.qtbot.keyClick(arena.composer, Qt.Key.Key_Return)
    driver.wait(lambda: arena.votes["left"].isVisible())


def _votes(studio: Studio) -> list[Vote]:
    return Votes(studio.home.root).read()


def test_a_vote_is_kept_names_are_told_and_the_winner_goes_on(
    driver: Driver, studio: Studio, arena: Arena, runs: list[str]
) -> None:
    _ask(driver, arena, "hello there")
    assert not any("one" in side.title.text() for side in arena.sides)
    assert not arena.send.isEnabled()
    assert [side.text.toPlainText() for side in arena.sides] == ["You said: hello there"] * 2
    driver.click("vote:right")
    kept = _votes(studio)
    assert len(kept) == 1
    assert kept[0].verdict == "right"
    assert kept[0].prompt == [{"role": "user", "content": "hello there"}]
    assert set(kept[0].models) == set(runs)
    assert kept[0].settings["temperature"] == 0.7
    assert kept[0].time
    left, right = (side.title.text() for side in arena.sides)
    assert right.startswith("Right: ")
    assert right.endswith(", preferred")
    assert left in ("Left: one", "Left: two")
    assert [bubble.text for bubble in arena.bubbles.turns] == [
        "hello there", "You said: hello there",
    ]  # fmt: skip
    assert "1 vote: " in arena.score.text()
    assert "95% interval" in arena.score.text()


def test_the_conversation_goes_on_from_the_winner(
    driver: Driver, studio: Studio, arena: Arena
) -> None:
    _ask(driver, arena, "first")
    driver.click("vote:tie")
    _ask(driver, arena, "second")
    driver.click("vote:both_bad")
    prompt = _votes(studio)[1].prompt
    assert [turn["content"] for turn in prompt] == ["first", "You said: first", "second"]
    assert "ties 2" in arena.score.text()


def test_sides_are_drawn_anew_every_time(
    driver: Driver, studio: Studio, arena: Arena, monkeypatch: pytest.MonkeyPatch, runs: list[str]
) -> None:
    monkeypatch.setattr("random.sample", lambda values, _: list(reversed(values)))
    _ask(driver, arena, "first")
    driver.click("vote:left")
    assert _votes(studio)[0].models == list(reversed(runs))
    assert _votes(studio)[0].winner == runs[1]


def test_one_click_makes_a_dataset_that_leads_to_the_wizard(
    driver: Driver, studio: Studio, arena: Arena
) -> None:
    driver.window.chat.sampling.fields["temperature"].set_value(0.2)
    votes = Votes(studio.home.root)
    pair = Vote(prompt=[{"role": "user", "content": "?"}], answers=["good", "bad"],
                models=["a", "b"], verdict="left")  # fmt: skip
    votes.add(pair)
    votes.add(msgspec.structs.replace(pair, verdict="both_bad"))
    votes.add(msgspec.structs.replace(pair, verdict="tie"))
    driver.click("compare")
    driver.click("compare")
    driver.click("make-dataset")
    told = arena.banner.text
    assert "1 row written to" in told
    assert "1 both bad" in told
    assert "1 ties" in told
    path = Path(arena._made)
    assert path.parent == studio.home.root / "data"
    assert read_table(str(path)).format == "preference"
    driver.click("train:reward")
    page = driver.window.train
    assert driver.window.page is page
    assert page.recipe().stage == "reward"
    assert [source.source for source in page.recipe().data] == [str(path)]
    driver.go("Chat")
    arena.kind.setCurrentIndex(1)
    driver.click("make-dataset")
    assert "2 rows written" in arena.banner.text
    driver.click("train:kto")
    assert page.recipe().stage == "kto"


def test_votes_without_a_winner_make_no_pairs(driver: Driver, studio: Studio, arena: Arena) -> None:
    _ask(driver, arena, "first")
    driver.click("vote:tie")
    driver.click("make-dataset")
    assert "No vote makes a row" in arena.banner.text
    assert not (studio.home.root / "data").exists()


def test_the_same_model_twice_is_refused(driver: Driver, arena: Arena, runs: list[str]) -> None:
    box = arena.models[1]
    box.setCurrentIndex(box.findData(runs[0]))
    box.activated.emit(box.currentIndex())
    assert "same model" in arena.banner.text
    assert not arena.send.isEnabled()


def test_an_answer_that_was_left_is_not_heard_later(
    driver: Driver, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.qtbot.keyClicks(arena.composer, "a b c d e f g h i j k l m n o p q r s t u v w x y z")
    driver.qtbot.keyClick(arena.composer, Qt.Key.Key_Return)
    driver.click("new-chat")
    _ask(driver, arena, "second")
    assert [side.text.toPlainText() for side in arena.sides] == ["You said: second"] * 2


def test_thumbs_on_answers_of_a_chat_are_kept(
    driver: Driver, studio: Studio, runs: list[str]
) -> None:
    chat = driver.window.chat
    driver.go("Chat")
    chat.open(runs[0])
    driver.wait(lambda: chat.send.isEnabled())
    composer = driver.find("composer")
    for text in ("first", "second"):
        driver.qtbot.keyClicks(composer, text)
        driver.qtbot.keyClick(composer, Qt.Key.Key_Return)
        driver.wait(lambda: driver.find("send").isEnabled())
    _press(driver, chat.bubbles.turns[1], "thumbs-up")
    _press(driver, chat.bubbles.turns[3], "thumbs-down")
    first, second = _votes(studio)
    assert (first.verdict, first.answers, first.models) == ("up", ["You said: first"], [runs[0]])
    assert second.verdict == "down"
    assert [turn["content"] for turn in second.prompt] == ["first", "You said: first", "second"]


def _press(driver: Driver, bubble: Any, name: str) -> None:
    made = bubble.findChild(QPushButton, name)
    driver.qtbot.mouseClick(made, Qt.MouseButton.LeftButton)
