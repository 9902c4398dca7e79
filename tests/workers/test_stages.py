"""The declarations of stages: whole, and true of the recipe's options and of the trainers."""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import pytest

from workers.protocol.options import Option, options_of
from workers.protocol.recipe import Recipe, Stage, sections
from workers.protocol.stages import (
    STAGE_OPTIONS,
    STAGES,
    Default,
    Variant,
    applies,
    defaults_for,
    spec_of,
)

OPTIONS: dict[str, Option] = {
    option.path: option
    for table, section in sections().items()
    for option in options_of(section, f"{table}." if table else "")
}
DEFAULTS = [(stage, default) for stage, spec in STAGES.items() for default in spec.defaults]
VARIANTS = [variant for spec in STAGES.values() for variant in spec.variants.values()]
STARTER = 2_590_464
SMOLLM2 = 134_515_008


def test_every_stage_is_declared() -> None:
    assert sorted(STAGES) == sorted(get_args(Stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_all_that_people_are_shown(stage: str) -> None:
    spec = spec_of(stage)

    assert all((spec.title, spec.words, spec.icon, spec.bring, spec.charts))
    assert bool(spec.rewards_words) == bool(spec.scored_by)
    assert spec.policy <= spec.generates
    assert not (spec.teaches_to_answer and spec.too_early)


@pytest.mark.parametrize("made", [*STAGES.values(), *VARIANTS])
def test_a_trainer_is_a_module(made: Any) -> None:
    assert importlib.util.find_spec(f"workers.train.{made.trainer}") is not None


def test_options_are_the_recipes() -> None:
    """What a stage alone looks at is an option, and of those tables every option has a stage."""
    tables = ("preference.", "rl.", "distill.")

    assert set(OPTIONS) >= STAGE_OPTIONS
    assert {path for path in OPTIONS if path.startswith(tables)} <= STAGE_OPTIONS


@pytest.mark.parametrize(("stage", "default"), DEFAULTS)
def test_defaults_are_values_that_options_take(stage: str, default: Default) -> None:
    assert default.source
    for path, value in default.values.items():
        option = OPTIONS[path]
        assert isinstance(value, option.kind)
        assert not option.choices or value in option.choices
        assert applies(path, stage, "ppo" if path == "rl.algorithm" else "")
    assert set(default.methods) <= set(OPTIONS["model.method"].choices)


def test_an_algorithm_changes_what_applies() -> None:
    assert applies("rl.group_size", "rlhf", "rloo")
    assert not applies("rl.group_size", "rlhf", "ppo")
    assert applies("rl.gae_lambda", "rlhf", "ppo")
    assert not applies("rl.gae_lambda", "grpo", "grpo")
    assert not applies("rl.group_size", "distill")
    assert applies("rl.max_completion_tokens", "distill")
    assert applies("training.seed", "cpt")
    assert isinstance(spec_of("rlhf").variants["ppo"], Variant)
    assert spec_of("rlhf", "ppo").trainer == "ppo"
    assert spec_of("rlhf", "rloo") == STAGES["rlhf"]


RATES = [
    ("sft", "lora", STARTER, 4e-3),
    ("sft", "full", STARTER, 5e-4),
    ("sft", "lora", SMOLLM2, 2e-4),
    ("sft", "lora", None, 2e-4),
    ("sft", "qlora", 14_000_000_000, 1e-4),
    ("sft", "full", 14_000_000_000, 1e-5),
    ("dpo", "lora", None, 1e-5),
    ("dpo", "full", None, 1e-6),
    ("dpo", "lora", STARTER, 1e-3),
    ("dpo", "full", STARTER, 3e-4),
    ("orpo", "lora", STARTER, 2e-3),
    ("reward", "full", STARTER, 5e-4),
    ("grpo", "lora", STARTER, 1e-5),
    ("grpo", "full", STARTER, 2e-4),
    ("rlhf", "lora", STARTER, 1e-3),
    ("rlhf", "full", STARTER, 3e-4),
    ("rlhf", "full", SMOLLM2, 1e-6),
    ("simpo", "full", None, 5e-7),
    ("orpo", "full", None, 8e-6),
    ("grpo", "full", SMOLLM2, 1e-6),
]
"""Stage, method, parameters and the learning rate that suits them."""


@pytest.mark.parametrize(("stage", "method", "parameters", "rate"), RATES)
def test_rates_follow_stage_method_and_size(
    stage: str, method: str, parameters: int | None, rate: float
) -> None:
    assert defaults_for(stage, method, parameters).get("training.learning_rate") == rate


def test_what_a_recipe_says_is_not_among_the_defaults() -> None:
    assert defaults_for("rlhf")["rl.algorithm"] == "rloo"
    assert defaults_for("rlhf", "lora", STARTER)["rl.algorithm"] == "ppo"
    assert defaults_for("rlhf", "qlora")["rl.algorithm"] == "rloo"
    assert "rl.algorithm" not in defaults_for("rlhf", "lora", None, "grpo")
    assert defaults_for("grpo", None, STARTER)["model.method"] == "full"
    assert defaults_for("grpo", None, SMOLLM2)["model.method"] == Recipe().model.method
    assert "model.method" not in defaults_for("grpo", "lora", STARTER)


@pytest.mark.parametrize(
    ("algorithm", "path", "value"),
    [
        ("gspo", "rl.clip_epsilon", 3e-4),
        ("gspo", "rl.clip_epsilon_high", 4e-4),
        ("luspo", "rl.clip_epsilon", 2e-3),
        ("dr_grpo", "rl.scale_rewards", "none"),
        ("rloo", "rl.scale_rewards", "none"),
        ("grpo", "rl.scale_rewards", None),
        ("cispo", "rl.clip_epsilon", None),
    ],
)
def test_an_algorithm_comes_with_what_it_was_published_with(
    algorithm: str, path: str, value: object
) -> None:
    for stage in ("grpo", "rlhf"):
        assert defaults_for(stage, "lora", None, algorithm).get(path) == value
