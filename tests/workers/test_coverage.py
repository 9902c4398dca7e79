"""What share of its rows a run will see."""

from __future__ import annotations

import pytest

from workers.protocol.coverage import coverage
from workers.protocol.recipe import RL, Recipe, Stage, Training


def recipe(stage: Stage = "sft", **training: float) -> Recipe:
    return Recipe(stage=stage, training=Training(**training), rl=RL(group_size=8))  # type: ignore[arg-type]


def test_sixty_steps_see_a_part_of_ten_thousand_rows() -> None:
    found = coverage(recipe(max_steps=60, batch_size=8), 10_000)
    assert (found.seen, found.steps, found.share) == (480, 60, 0.048)
    assert found.epochs == pytest.approx(0.048)
    assert found.words().startswith("It sees 480 of 10,000 rows (5%, 0.048 epochs)")
    assert "steps to 0" in found.words()
    assert found.few
    assert found.told() == found.words()


def test_a_long_run_sees_all_of_them() -> None:
    found = coverage(recipe(max_steps=60, batch_size=16), 240)
    assert (found.seen, found.epochs) == (240, 4.0)
    assert found.words() == "It sees all 240 rows, 4 times over."
    assert found.told() == f"4 epochs: 60 steps. {found.words()}"
    assert not found.few


def test_epochs_count_where_there_are_no_steps() -> None:
    found = coverage(recipe(epochs=1.0, batch_size=8, gradient_accumulation=4), 1000)
    assert (found.steps, found.seen) == (32, 1000)


def test_a_group_of_answers_is_one_question() -> None:
    found = coverage(recipe("grpo", max_steps=60, batch_size=16), 1000)
    assert found.seen == 120
    assert coverage(recipe("rlhf", max_steps=1, batch_size=64), 10).seen == 8


def test_no_rows_are_no_share() -> None:
    assert coverage(recipe(), 0).share == 0.0
