"""The wizard's banner says what is at fault, for as long as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.draft import values
from studio.pages.train import TrainPage
from studio.pages.train.step import Step
from tests.gui.conftest import Driver
from workers.protocol.recipe import RL, Model, Recipe, Source
from workers.protocol.rewards import MathAnswer
from workers.protocol.stages import STAGES


@pytest.fixture
def train(driver: Driver) -> TrainPage:
    driver.go("Train")
    return driver.window.train


def _next(driver: Driver, train: TrainPage, step: Step) -> None:
    """Tries to go on from a step."""
    train.go_to(step)
    driver.click("next")


def test_a_fault_of_the_data_goes_when_it_is_mended(
    driver: Driver, train: TrainPage, tmp_path: Path
) -> None:
    _next(driver, train, train.data)
    assert "No data is chosen." in train.banner.text
    train.data.add(str(tmp_path / "none.jsonl"))
    assert "There is no file" in train.banner.text
    driver.click(f"remove:{tmp_path / 'none.jsonl'}")
    train.data.add("builtin:arithmetic")
    assert not train.banner.isVisible()
    train.data.lines[0].weight.setText("")
    assert not train.banner.isVisible()  # nothing is told before one wants to go on
    driver.click("next")
    assert "The weight of" in train.banner.text
    train.data.lines[0].weight.setText("2")
    assert not train.banner.isVisible()
    train.data.test.choose(str(tmp_path / "none.jsonl"))
    driver.click("next")
    assert "There is no test set" in train.banner.text
    train.data.test.choose("")
    assert not train.banner.isVisible()


def test_a_fault_of_the_rewards_goes_when_it_is_mended(driver: Driver, train: TrainPage) -> None:
    train.stage.choices.choose(["grpo"])
    for asked in ("next", "try-rewards"):
        train.rewards.editor.set_value([])
        train.go_to(train.rewards)
        driver.click(asked)
        assert "No reward is chosen." in train.banner.text
        train.rewards.editor.add("math_answer")
        assert not train.banner.isVisible()


def test_a_fault_of_the_model_goes_when_it_is_mended(driver: Driver, train: TrainPage) -> None:
    train.model.bases.choose(["hub"])
    _next(driver, train, train.model)
    assert "not a model id" in train.banner.text
    train.model.hub.setText("org/name")
    assert not train.banner.isVisible()
    train.model.bases.choose(["folder"])
    driver.click("next")
    assert "not a model folder" in train.banner.text
    train.model.bases.choose(["starter"])
    assert not train.banner.isVisible()


def test_a_fault_of_the_settings_goes_when_it_is_mended(driver: Driver, train: TrainPage) -> None:
    field = train.settings.forms.fields["training.batch_size"]
    field.set_value(-1)
    _next(driver, train, train.settings)
    assert "At least 0" in train.banner.text
    field.set_value(4)
    assert not train.banner.isVisible()


def test_a_judge_of_another_base_is_no_fault_once_another_is_chosen(
    driver: Driver, train: TrainPage
) -> None:
    train.show_recipe(Recipe(name="liked", stage="rlhf", rl=RL(algorithm="rloo")))
    _next(driver, train, train.rewards)
    assert "There is no reward model." in train.banner.text
    train.rewards.reward_model.choose("/models/judge")
    assert not train.banner.isVisible()


def test_what_is_no_fault_stays_until_one_goes_on(driver: Driver, train: TrainPage) -> None:
    train.go_to(train.data)
    train.banner.inform("Look whether this data has answers.")
    train.data.add("builtin:arithmetic")
    assert train.banner.isVisible()


def test_a_file_takes_the_place_of_what_was_typed_and_cannot_be_used(train: TrainPage) -> None:
    field = train.settings.forms.fields["training.batch_size"]
    field.set_value("many")
    assert field.fault
    recipe = Recipe(name="one", stage="grpo", data=[Source(source="builtin:sums")],
                    rewards=[MathAnswer()])  # fmt: skip
    train.show_recipe(recipe)
    assert field.fault == ""
    assert train.recipe() == recipe


def test_the_base_that_a_file_names_stays_while_other_pages_are_seen(
    driver: Driver, train: TrainPage
) -> None:
    recipe = Recipe(name="two", model=Model(base="run:gone"), data=[Source(source="builtin:sums")])
    train.show_recipe(recipe)
    driver.go("Runs")
    driver.go("Train")
    assert train.recipe() == recipe
    assert train.model.runs.currentData() == "gone"


def test_no_step_says_anything_else_than_the_draft(train: TrainPage) -> None:
    for stage in STAGES:
        train.stage.choices.choose([stage])
        assert train.draft_model.draft.stage == stage
        assert train.model.methods.chosen == [train.recipe().model.method]
        shown = {path: field.value for path, field in train.settings.forms.fields.items()}
        assert shown == values(train.draft_model.draft)
