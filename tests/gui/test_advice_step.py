"""The wizard's advice, its warnings, and the stages that learn from a judge or a teacher."""

from __future__ import annotations

import msgspec
import pytest

from studio.app import Studio
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.jobs import Train
from workers.protocol.pipeline import PREVIOUS
from workers.protocol.recipe import (
    RL,
    Distill,
    Model,
    Recipe,
    Source,
    Training,
)
from workers.protocol.rewards import RewardModel


def _train(driver: Driver, studio: Studio, recipe: Recipe) -> str:
    """A finished run of a recipe."""
    run = studio.jobs.train(recipe)

    def finished() -> bool:
        row = studio.store.job(run)
        return row is not None and row.status == "finished"

    driver.wait(finished)
    return run


def _recipe(stage: str, base: str = "starter") -> Recipe:
    return msgspec.structs.replace(
        Recipe(), name=f"a {stage}", stage=stage, model=Model(base=base),
        data=[Source(source="builtin:preferences")], training=Training(max_steps=2),
    )  # fmt: skip


def test_a_few_answers_lead_to_a_stage(driver: Driver) -> None:
    driver.go("Train")
    page = driver.window.train
    assert not page.advice.answer.isVisible()
    assert not page.wizard.forward.isVisible()
    driver.click("choice:have:examples")
    assert not page.advice.tuned.isVisible()
    assert not page.advice.memory.isVisible()
    driver.click("choice:have:pairs")
    assert page.advice.way.text() == "ORPO"
    page.advice.tuned.setCurrentIndex(1)
    assert page.advice.way.text() == "DPO"
    assert not page.advice.memory.isVisible()
    driver.click("take-advice")
    assert page.recipe().stage == "dpo"
    assert page.model.isVisible()


def test_a_chain_begins_with_its_first_stage(driver: Driver) -> None:
    driver.go("Train")
    page = driver.window.train
    driver.click("choice:have:pairs_and_prompts")
    page.advice.memory.setCurrentIndex(2)
    assert page.advice.way.text() == "SFT → reward model → RLHF"
    assert "four models in memory" in page.advice.cost.text()
    driver.click("take-advice")
    assert page.recipe().stage == "sft"


def test_who_has_nothing_gets_the_starter_and_sums(driver: Driver) -> None:
    driver.go("Train")
    driver.click("choice:have:nothing")
    driver.click("take-advice")
    recipe = driver.window.train.recipe()
    assert (recipe.stage, recipe.model.base) == ("sft", "starter")
    assert [source.source for source in recipe.data] == ["builtin:arithmetic"]


def test_advice_can_be_passed_over(driver: Driver) -> None:
    driver.begin()
    assert driver.window.train.stage.isVisible()
    driver.click("back")
    assert driver.window.train.advice.isVisible()


def test_a_base_that_does_not_answer_is_warned_of_and_taught_first(
    driver: Driver, studio: Studio
) -> None:
    driver.go("Train")
    page = driver.window.train
    page.show_recipe(_recipe("dpo"))
    assert page.review.early.isVisible()
    assert "never fine-tuned to answer" in page.review.warning.text()
    assert page.wizard.finish.isEnabled()
    driver.click("begin-with-sft")
    assert not page.review.early.isVisible()
    first, then = page.pipeline().stages
    assert (first.stage, first.model.base, first.training.learning_rate) == ("sft", "starter", 4e-3)
    assert (then.stage, then.model.base) == ("dpo", PREVIOUS)
    driver.click("start")
    job = wire.read_job(studio.jobs.folder(driver.window.run.run))
    assert isinstance(job.task, Train)
    assert job.task.recipe.stage == "sft"
    assert [recipe.stage for recipe in job.then] == ["dpo"]


@pytest.mark.parametrize("stage", ["orpo", "cpt", "reward", "sft"])
def test_stages_for_untaught_bases_are_not_warned_of(driver: Driver, stage: str) -> None:
    driver.go("Train")
    driver.window.train.show_recipe(_recipe(stage))
    assert not driver.window.train.review.early.isVisible()


def test_a_chain_with_sft_in_it_is_not_warned_of(driver: Driver, studio: Studio) -> None:
    taught = _train(driver, studio, _recipe("sft"))
    more = _train(driver, studio, _recipe("dpo", f"run:{taught}"))
    driver.go("Train")
    page = driver.window.train
    page.show_recipe(_recipe("kto", f"run:{more}"))
    assert not page.review.early.isVisible()
    assert page.draft_model.draft.base.root == "starter"
    assert page.draft_model.draft.base.answers
    page.show_recipe(_recipe("kto"))
    assert page.review.early.isVisible()
    page.go_to(page.model)
    assert page.model.warning.isVisible()
    driver.click("choice:smollm2")
    assert not page.model.warning.isVisible()


def test_rlhf_leads_to_a_reward_model_where_there_is_none(driver: Driver) -> None:
    driver.begin()
    page = driver.window.train
    driver.click("more-stages")
    driver.click("choice:rlhf")
    assert page.recipe().rl.algorithm == "ppo"
    page.go_to(page.rewards)
    assert page.rewards.reward_model.none.isVisible()
    driver.click("next")
    assert "There is no reward model" in driver.find("banner").text
    driver.click("begin-reward-model")
    assert page.recipe().stage == "reward"
    assert "First a reward model" in driver.find("banner").text


def test_rlhf_takes_a_trained_reward_model(driver: Driver, studio: Studio) -> None:
    judge = _train(driver, studio, _recipe("reward"))
    other = _train(driver, studio, _recipe("reward", "smollm2"))
    driver.begin()
    page = driver.window.train
    driver.click("more-stages")
    driver.click("choice:rlhf")
    page.go_to(page.rewards)
    offered = [page.rewards.reward_model.box.itemData(at) for at in range(2)]
    assert set(offered) == {f"run:{judge}", f"run:{other}"}
    page.rewards.reward_model.box.setCurrentIndex(offered.index(f"run:{other}"))
    driver.click("next")
    assert "trained from smollm2" in driver.find("banner").text
    page.rewards.reward_model.box.setCurrentIndex(offered.index(f"run:{judge}"))
    driver.click("next")
    assert page.settings.isVisible()
    recipe = page.recipe()
    assert recipe.rewards == [RewardModel(model=f"run:{judge}")]
    assert (recipe.model.method, recipe.rl.algorithm) == ("full", "ppo")


def test_only_what_the_algorithm_looks_at_is_shown(driver: Driver) -> None:
    driver.begin()
    page = driver.window.train
    page.stage.choices.choose(["rlhf"])
    page.go_to(page.settings)
    page.settings.forms.own["rl"].folded.expand(animate=False)
    fields = page.settings.forms.fields
    assert fields["rl.value_coefficient"].isVisible()
    assert not fields["rl.group_size"].isVisible()
    fields["rl.algorithm"].set_value("rloo")
    assert not fields["rl.value_coefficient"].isVisible()
    assert fields["rl.group_size"].isVisible()
    page.stage.choices.choose(["grpo"])
    assert page.recipe().rl.algorithm == "rloo"
    fields["rl.algorithm"]._on_reset()
    page.model.methods.choose(["qlora"])
    page.stage.choices.choose(["rlhf"])
    assert page.recipe().rl.algorithm == "rloo"
    page.stage.choices.choose(["distill"])
    assert fields["rl.max_completion_tokens"].isVisible()
    assert not fields["rl.algorithm"].isVisible()


def test_distillation_asks_for_a_teacher(driver: Driver) -> None:
    driver.begin()
    page = driver.window.train
    page.stage.choices.choose(["distill"])
    page.go_to(page.settings)
    driver.click("next")
    assert "No teacher is named" in driver.find("banner").text
    driver.type("field:distill.teacher", "smollm2")
    page.data.add("builtin:arithmetic")
    driver.click("next")
    assert page.recipe().distill == Distill(teacher="smollm2")
    assert "this one, and smollm2" in page.review._words.text()


def test_a_recipe_of_rlhf_fills_the_wizard_as_it_stands(driver: Driver) -> None:
    driver.go("Train")
    recipe = msgspec.structs.replace(
        _recipe("rlhf"), rl=RL(algorithm="ppo", gae_lambda=0.9),
        rewards=[RewardModel(model="/models/judge", weight=2.0)],
    )  # fmt: skip
    driver.window.train.show_recipe(recipe)
    assert driver.window.train.recipe() == recipe
