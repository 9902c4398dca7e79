"""What the review says of a recipe."""

from __future__ import annotations

import msgspec
import pytest

from studio.recipe_words import in_words, seen
from workers.protocol.recipe import RL, Evaluation, Model, Recipe, Source, Training
from workers.protocol.rewards import RewardModel


def _recipe(stage: str, base: str = "starter") -> Recipe:
    return msgspec.structs.replace(
        Recipe(), name=f"a {stage}", stage=stage, model=Model(base=base),
        data=[Source(source="builtin:preferences")], training=Training(max_steps=2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "method", "algorithm", "words"),
    [
        ("dpo", "lora", "grpo", "adapter off: no second copy"),
        ("dpo", "full", "grpo", "a second copy in memory"),
        ("simpo", "full", "grpo", ""),
        ("grpo", "lora", "grpo", "adapter off"),
        ("rlhf", "lora", "ppo", "Three models are in memory, policy, value and reward model"),
        ("rlhf", "full", "ppo", "Four models are in memory, policy, reference, value and reward"),
        ("rlhf", "full", "rloo", "a second copy in memory"),
    ],
)
def test_the_review_says_how_many_models_stand_in_memory(
    stage: str, method: str, algorithm: str, words: str
) -> None:
    recipe = msgspec.structs.replace(
        _recipe(stage), model=msgspec.structs.replace(Model(), method=method),
        rl=msgspec.structs.replace(RL(), algorithm=algorithm),
        rewards=[RewardModel(model="run:judge")],
    )  # fmt: skip
    said = in_words(recipe)
    assert words in said
    assert ("in memory" in said) is bool(words)
    assert "  " not in said


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            "sft",
            "The answers alone are in the loss; examples longer than 1024 tokens are left out.",
        ),
        (
            "cpt",
            "Every token is in the loss; examples longer than 1024 tokens are split, without loss.",
        ),
        ("reward", "to get the higher score; examples longer than 1024 tokens are left out."),
        ("kto", "Answers that were liked are made likelier"),
        ("distill", "Two models are in memory: this one, and a teacher."),
    ],
)
def test_the_review_says_what_is_learnt(stage: str, words: str) -> None:
    assert words in in_words(_recipe(stage))


def test_the_share_of_rows_is_told_once_all_are_counted() -> None:
    recipe = _recipe("sft")
    recipe = msgspec.structs.replace(recipe, data=[*recipe.data, Source(source="more", limit=100)])

    assert seen(recipe, {"builtin:preferences": 400}) == ""
    # 500 rows, of which a tenth is held out; two steps of sixteen examples
    counts = {"builtin:preferences": 400, "more": 4000}
    assert "It sees 32 of 450 rows to learn from" in seen(recipe, counts)
    tested = msgspec.structs.replace(recipe, evaluation=Evaluation(test="builtin:sums"))
    assert "of 500 rows" in seen(tested, counts)
