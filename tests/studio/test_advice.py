"""The advice for every combination of answers, and the warnings of stages that come too early."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from studio.advice import (
    DATA_KINDS,
    MEMORIES,
    DataKind,
    Memory,
    advise,
    answers,
    different_tokenizers,
    family,
    missing_prerequisite,
    relevant_questions,
    with_sft_first,
)
from workers.protocol.catalogue import read_catalogue
from workers.protocol.pipeline import PREVIOUS
from workers.protocol.recipe import Model, Recipe, Source, Stage, Training, check_recipe
from workers.protocol.stages import spec_of


@pytest.mark.parametrize(
    ("have", "tuned", "memory", "steps"),
    [
        ("examples", False, "laptop", ["sft"]),
        ("examples", True, "large", ["sft"]),
        ("pairs", True, "laptop", ["dpo"]),
        ("pairs", False, "card", ["orpo"]),
        ("pairs_and_prompts", True, "laptop", ["dpo"]),
        ("pairs_and_prompts", False, "laptop", ["orpo"]),
        ("pairs_and_prompts", True, "card", ["reward", "rlhf"]),
        ("pairs_and_prompts", False, "large", ["sft", "reward", "rlhf"]),
        ("labels", True, "card", ["kto"]),
        ("labels", False, "card", ["sft", "kto"]),
        ("checkable", True, "laptop", ["grpo"]),
        ("checkable", False, "laptop", ["sft", "grpo"]),
        ("text", False, "card", ["cpt", "sft"]),
        ("teacher", False, "card", ["distill"]),
        ("teacher", False, "laptop", ["sft"]),
        ("nothing", False, "laptop", ["sft"]),
    ],
)
def test_the_lightest_way_is_advised(
    have: DataKind, tuned: bool, memory: Memory, steps: list[str]
) -> None:
    assert advise(have, tuned, memory).steps == steps


@pytest.mark.parametrize(
    ("have", "tuned", "memory"), list(product(DATA_KINDS, (True, False), MEMORIES))
)
def test_every_answer_leads_to_a_whole_advice(have: DataKind, tuned: bool, memory: Memory) -> None:
    found = advise(have, tuned, memory)
    assert found.stage in found.steps
    assert set(found.steps) <= set(get_args(Stage))
    for words in (found.why, found.data, found.cost):
        assert words.endswith(".")
        assert len(words) < 320
    # What is advised never comes too early for the base that was told of.
    known: list[str] = []
    for stage in found.steps:
        base = "smollm2" if tuned else "starter"
        assert not missing_prerequisite(stage, answers(base, known, []))
        known.append(stage)


def test_only_what_matters_needs_to_be_asked() -> None:
    assert relevant_questions("examples") == (False, False)
    assert relevant_questions("pairs") == (True, False)
    assert relevant_questions("teacher") == (False, True)
    assert relevant_questions("pairs_and_prompts") == (True, True)


def test_four_models_are_told_of_where_ppo_fits() -> None:
    assert "four models in memory" in advise("pairs_and_prompts", True, "large").cost
    assert "RLOO" in advise("pairs_and_prompts", True, "card").cost


@pytest.mark.parametrize(
    ("base", "stages", "known"),
    [
        ("starter", [], False),
        ("starter", ["cpt"], False),
        ("starter", ["dpo"], False),
        ("starter", ["cpt", "sft"], True),
        ("starter", ["orpo"], True),
        ("starter", ["distill", "dpo"], True),
        ("smollm2", [], True),
        ("Qwen/Qwen3-4B-Base", [], False),
        ("Qwen/Qwen3-4B", [], True),
        ("meta-llama/Llama-3.1-8B", [], False),
        ("somebody/tiny-base", [], False),
        ("somebody/tiny", [], None),
        ("/models/some-base", ["sft"], True),
        ("run:gone", [], None),
    ],
)
def test_what_a_base_has_learnt_is_known_from_its_chain(
    base: str, stages: list[str], known: bool | None
) -> None:
    assert answers(base, stages, read_catalogue().models) is known


@pytest.mark.parametrize("stage", get_args(Stage))
def test_a_warning_comes_on_an_untaught_base_alone(stage: str) -> None:
    assert bool(missing_prerequisite(stage, False)) is bool(spec_of(stage).too_early)
    assert missing_prerequisite(stage, True) == missing_prerequisite(stage, None) == ""


def test_orpo_and_continued_pretraining_are_exempt() -> None:
    for stage in ("orpo", "cpt", "sft", "distill", "reward"):
        assert not spec_of(stage).too_early


def test_sft_first_is_a_pipeline_that_can_be_run() -> None:
    recipe = Recipe(
        name="polish", stage="dpo", model=Model(base="starter", method="full"),
        data=[Source(source="builtin:preferences")], training=Training(learning_rate=5e-7),
    )  # fmt: skip
    first, second = with_sft_first(recipe)
    assert (first.stage, first.model.base, first.model.method) == ("sft", "starter", "lora")
    assert first.data == recipe.data
    assert first.training == Training()
    assert (second.stage, second.model.base) == ("dpo", PREVIOUS)
    assert second.training == recipe.training
    for one in (first, second):
        check_recipe(one)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("Qwen/Qwen3-4B-Base", "Qwen/Qwen3-0.6B", False),
        ("smollm2", "HuggingFaceTB/SmolLM2-1.7B-Instruct", False),
        ("google/gemma-3-1b-pt", "google/gemma-3-4b-it", False),
        ("starter", "smollm2", True),
        ("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B", True),
        ("starter", "/models/mine", False),
        ("run:gone", "starter", False),
    ],
)
def test_families_are_told_apart_where_both_are_known(one: str, other: str, apart: bool) -> None:
    assert different_tokenizers(one, other) is apart
    assert different_tokenizers(other, one) is apart


def test_a_family_has_no_size() -> None:
    assert family("meta-llama/Llama-3.1-8B-Instruct") == "meta-llama/llama-3.1"
    assert family("") == ""
