"""What may be changed when a run goes on from its checkpoint."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from workers.protocol.jobs import Resolved
from workers.protocol.recipe import (
    RL,
    Evaluation,
    Gate,
    Recipe,
    Source,
    Training,
    check_recipe,
)
from workers.protocol.refusal import Refusal
from workers.protocol.resume import (
    differences,
    for_less_memory,
    resume_options,
    rungs,
    settings_of,
    with_settings,
)
from workers.protocol.rewards import MathAnswer

PLAIN = Recipe(
    name="r", data=[Source(source="builtin:arithmetic")], training=Training(batch_size=8)
)


def test_only_what_a_checkpoint_can_be_continued_with_may_change() -> None:
    assert set(resume_options()) == {
        "training.effective_batch_size", "training.batch_size", "training.gradient_accumulation",
        "training.max_length",
        "training.gradient_checkpointing", "training.max_steps", "training.epochs",
        "training.save_every_steps", "training.max_grad_norm", "evaluation.every_steps",
        "evaluation.max_completion_tokens", "evaluation.gate.metric", "evaluation.gate.min_gain",
        "rl.max_completion_tokens", "rl.mask_truncated_completions",
        "rl.fast_generation", "training.save_total_limit", "training.attention",
        "training.optimizer", "training.device",
        "training.activation_offloading", "training.torch_compile", "training.liger_kernel",
        "evaluation.early_stopping_patience", "evaluation.keep_best",
    }  # fmt: skip


def test_settings_are_changed_and_the_difference_is_known() -> None:
    settings = {"training.batch_size": 4, "training.epochs": 2, "evaluation.gate.min_gain": 0.1}
    changed = with_settings(PLAIN, settings, "abc")
    assert (changed.training.batch_size, changed.training.epochs) == (4, 2.0)
    assert changed.evaluation.gate == Gate(min_gain=0.1)
    assert differences(PLAIN, changed) == {
        "training.batch_size": (8, 4), "training.epochs": (1.0, 2.0),
        "evaluation.gate.metric": (None, "accuracy"), "evaluation.gate.min_gain": (None, 0.1),
    }  # fmt: skip
    assert with_settings(PLAIN, {}, "abc") == PLAIN


def test_a_setting_may_be_given_by_its_former_name() -> None:
    changed = with_settings(PLAIN, {"evaluation.max_answer_tokens": 32}, "abc")
    assert changed.evaluation.max_completion_tokens == 32


def test_a_gate_that_is_not_set_offers_no_settings() -> None:
    assert "evaluation.gate.metric" not in settings_of(PLAIN)
    gated = msgspec.structs.replace(PLAIN, evaluation=Evaluation(gate=Gate()))
    assert settings_of(gated)["evaluation.gate.metric"] == "accuracy"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("training.learning_rate", 1e-5, "model.base = 'run:abc'"),
        ("training.scheduler", "linear", "its schedule live in the checkpoint"),
        ("model.base", "smollm2", "model.base cannot be changed"),
        ("evaluation.holdout", 0.2, "evaluation.holdout cannot be changed"),
        ("evaluation.max_rows", 128, "evaluation.max_rows cannot be changed"),
        ("evaluation.test", "x", "evaluation.test cannot be changed"),
        ("data", [], "data cannot be changed"),
        ("lora.rank", 4, "lora.rank cannot be changed"),
        ("training.batchsize", 4, "Did you mean 'training.batch_size'?"),
        ("qwerty", 4, "training.batch_size"),
        ("training.batch_size", -1, "training.batch_size is not usable"),
        ("training.batch_size", "four", "training.batch_size is not usable"),
    ],
)
def test_any_other_key_is_refused_by_name_with_what_to_do(
    path: str, value: Any, words: str
) -> None:
    with pytest.raises(Refusal) as refused:
        with_settings(PLAIN, {path: value}, "abc")
    assert words in str(refused.value)
    assert refused.value.remedy


def test_the_changed_recipe_is_checked_as_a_whole() -> None:
    grpo = msgspec.structs.replace(PLAIN, stage="grpo", rewards=[MathAnswer()])
    with pytest.raises(Refusal, match="cannot be split into groups"):
        with_settings(grpo, {"training.batch_size": 6}, "abc")


@pytest.mark.parametrize(
    ("batch", "accumulation", "smaller"),
    [(8, 1, (4, 2)), (6, 2, (3, 4)), (9, 1, (3, 3)), (7, 1, (1, 7))],
)
def test_less_memory_keeps_the_examples_of_a_step(
    batch: int, accumulation: int, smaller: tuple[int, int]
) -> None:
    training = Training(batch_size=batch, gradient_accumulation=accumulation)
    found = for_less_memory(msgspec.structs.replace(PLAIN, training=training))
    paths = ("training.batch_size", "training.gradient_accumulation")
    assert found == dict(zip(paths, smaller, strict=True))


def test_less_memory_of_one_example_is_checkpointing_and_then_shorter_examples() -> None:
    alone = msgspec.structs.replace(PLAIN, training=Training(batch_size=1))
    assert for_less_memory(alone) == {"training.gradient_checkpointing": True}
    most = Training(batch_size=1, gradient_checkpointing=True)
    shortest = for_less_memory(msgspec.structs.replace(PLAIN, training=most))
    assert shortest == {"training.max_length": 512}


@pytest.mark.parametrize("stage", ["sft", "kto", "grpo"])
def test_what_is_proposed_can_be_done(stage: Any) -> None:
    for batch in (2, 4, 8):
        rl = RL(group_size=2)
        recipe = msgspec.structs.replace(
            PLAIN, stage=stage, training=Training(batch_size=batch), rewards=[MathAnswer()], rl=rl
        )
        check_recipe(with_settings(recipe, for_less_memory(recipe), "abc"))


ON_A_GPU = Resolved(
    device="cuda", batch={"effective": 16, "micro": 2, "accumulation": 8, "checkpointing": 1}
)


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("sft", ["smaller micro-batch", "8-bit paged optimizer", "activation offloading",
                 "shorter examples"]),
        ("grpo", ["smaller micro-batch", "8-bit paged optimizer", "shorter completions",
                  "shorter examples"]),
    ],
)  # fmt: skip
def test_the_ladder_goes_from_what_costs_least_to_what_needs_consent(
    stage: Any, names: list[str]
) -> None:
    recipe = msgspec.structs.replace(
        PLAIN, stage=stage, training=Training(), rewards=[MathAnswer()]
    )
    ways = rungs(recipe, ON_A_GPU)
    assert [way.name for way in ways] == names
    assert ways[0].settings == {"training.batch_size": 1, "training.gradient_accumulation": 16}
    assert [way.by_itself for way in ways] == [True, *[False] * (len(ways) - 1)]
    assert [way.consent for way in ways] == [name.startswith("shorter") for name in names]
    for way in ways:
        changed = with_settings(recipe, way.settings, "abc")
        assert way.name == "smaller micro-batch" or way.name not in {
            left.name for left in rungs(changed, ON_A_GPU) if not left.consent
        }


def test_what_the_recipe_says_counts_before_what_an_earlier_start_worked_with() -> None:
    recipe = msgspec.structs.replace(
        PLAIN, training=Training(batch_size=1, gradient_accumulation=16)
    )
    assert rungs(recipe, ON_A_GPU)[0].name == "8-bit paged optimizer"
