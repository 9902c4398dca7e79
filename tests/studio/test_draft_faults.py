"""What is wrong with a draft, step by step and as a whole."""

from __future__ import annotations

import msgspec
import pytest

from studio.draft import Base, RecipeDraft, RewardModelChoice, by_epochs, recipe
from studio.draft_faults import fault, few_rows, first_fault, impossible, warning
from tests.studio.drafts import SMOLLM2, STARTER, SUMS, on_sums
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import MathAnswer


def _words(refusal: Refusal | None) -> str:
    return str(refusal or "")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (Base(kind="hub", name="name"), "not a model id"),
        (Base(kind="folder", name="/nowhere"), "not a model folder"),
        (Base(kind="run", name="run:"), "no earlier run"),
        (Base(kind="hub", name="org/name"), ""),
        (Base(kind="run", name="run:one"), ""),
        (STARTER, ""),
    ],
)
def test_a_base_has_to_be_there(base: Base, words: str) -> None:
    assert words in _words(fault(on_sums(base=base), "Model"))
    assert bool(fault(on_sums(base=base), "Model")) is bool(words)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"weight": ""}, "The weight of"),
        ({"weight": "-1"}, "The weight of"),
        ({"weight": "inf"}, "The weight of"),
        ({"limit": "many"}, "not a whole number"),
        ({"weight": "0.5", "limit": ""}, ""),
    ],
)
def test_what_is_typed_of_a_dataset_has_to_be_numbers(typed: dict[str, str], words: str) -> None:
    draft = on_sums().with_source_changed(SUMS.source, **typed)

    assert words in _words(fault(draft, "Data"))
    assert bool(fault(draft, "Data")) is bool(words)


@pytest.mark.parametrize(
    ("source", "there"),
    [("gone.jsonl", False), ("folder/gone.csv", False), ("org/name", True), ("", False)],
)
def test_datasets_have_to_be_there_as_far_as_that_is_known(source: str, there: bool) -> None:
    assert (fault(RecipeDraft().with_source(Source(source=source)), "Data") is None) is there
    if source:
        assert (fault(on_sums(test=source), "Data") is None) is there


def test_rewards_are_needed_where_they_score() -> None:
    assert "No reward is chosen" in _words(fault(on_sums("grpo"), "Rewards"))
    assert fault(on_sums("grpo", rewards=(MathAnswer(),)), "Rewards") is None
    faulty = on_sums("grpo", rewards=(MathAnswer(),), reward_faults=("Format, Pattern: no.",))
    assert "Format, Pattern: no." in _words(fault(faulty, "Rewards"))
    assert "no reward model" in _words(fault(on_sums("rlhf"), "Rewards"))


def test_ppo_wants_a_reward_model_with_the_policys_tokens() -> None:
    draft = on_sums(
        "rlhf",
        reward_model="run:r",
        reward_models=(RewardModelChoice("run:r", "r", "smollm2"),),
    )

    assert "trained from smollm2" in _words(fault(draft, "Rewards"))
    assert fault(draft.with_option("rl.algorithm", "rloo"), "Rewards") is None
    assert fault(msgspec.structs.replace(draft, base=SMOLLM2), "Rewards") is None


def test_a_setting_that_cannot_be_used_is_a_fault_while_it_is_asked_for() -> None:
    draft = on_sums().with_option_fault("lora.rank", "At least 1.")

    assert "LoRA rank: At least 1." in _words(fault(draft, "Settings"))
    assert recipe(draft).lora.rank == 16
    assert fault(draft.with_method("full"), "Settings") is None
    assert fault(draft.with_option("lora.rank", 8), "Settings") is None


def test_a_teacher_has_to_be_named() -> None:
    draft = on_sums("distill")

    assert "No teacher" in _words(fault(draft, "Settings"))
    assert fault(draft.with_option("distill.teacher", "smollm2"), "Settings") is None


def test_the_first_fault_is_in_a_step_that_is_asked() -> None:
    draft = RecipeDraft(stage="grpo", base=STARTER)

    assert first_fault(draft) == "Data"
    assert first_fault(draft.with_source(SUMS.given)) == "Rewards"
    assert first_fault(on_sums()) is None


def test_what_does_not_go_together_or_is_out_of_bounds_is_impossible() -> None:
    draft = on_sums("grpo", rewards=(MathAnswer(),))

    assert impossible(draft) is None
    uneven = draft.with_option("training.effective_batch_size", 60)
    assert "cannot be split into groups" in _words(impossible(uneven))
    cold = draft.with_option("rl.temperature", 0.0)
    assert "rl.temperature" in _words(impossible(cold))


def test_a_real_model_that_sees_few_rows_is_warned_of_and_helped() -> None:
    counted = msgspec.structs.replace(on_sums("sft", SMOLLM2), rows={SUMS.source: 10_000})
    short = counted.with_option("training.max_steps", 60)

    assert few_rows(counted) == ""
    assert few_rows(short).startswith("It sees 960 of 9,936 rows to learn from (10%, 0.097 epochs)")
    assert few_rows(by_epochs(short)) == ""
    tiny = msgspec.structs.replace(short, base=STARTER)
    assert few_rows(tiny) == ""


def test_a_base_that_does_not_answer_is_warned_of() -> None:
    assert "never fine-tuned to answer" in warning(on_sums("dpo"))
    assert warning(on_sums("dpo", SMOLLM2)) == warning(on_sums("orpo")) == ""
