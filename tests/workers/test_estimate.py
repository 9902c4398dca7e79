"""The arithmetic of memory: what must hold of it whatever its constants are."""

from __future__ import annotations

from typing import Any

import pytest

from workers.estimate import (
    GIB,
    Geometry,
    estimate,
    known_geometry,
    largest_micro,
    largest_rank,
    longest_sequence,
    plan,
    with_changes,
)
from workers.estimate.weights import adapter_weights, weight_bytes
from workers.protocol.recipe import Recipe, check_recipe, parse_recipe

HOW: dict[str, Any] = {"micro": 2, "longest": 1024, "checkpointing": True}

REWARDS = {"grpo": 'kind = "math_answer"', "rlhf": 'kind = "reward_model"\nmodel = "run:judged"'}


def geometry(model: str = "Qwen/Qwen3-4B") -> Geometry:
    found = known_geometry(model)
    assert found is not None
    return found


def recipe(stage: str = "sft", base: str = "Qwen/Qwen3-4B", **settings: Any) -> Recipe:
    """A recipe of a stage, with settings by key path, `.` written as two underscores."""
    tables: dict[str, list[str]] = {"model": [f'base = "{base}"']}
    for path, value in settings.items():
        table, _, key = path.partition("__")
        shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
        tables.setdefault(table, []).append(f"{key} = {shown}")
    lines = [f'name = "a"\nstage = "{stage}"']
    lines += [f"[{table}]\n" + "\n".join(keys) for table, keys in tables.items()]
    lines.append('[[data]]\nsource = "somebody/rows"')
    if stage in REWARDS:
        lines.append(f"[[rewards]]\n{REWARDS[stage]}")
    if stage == "distill":
        lines.append('[distill]\nteacher = "Qwen/Qwen3-8B"')
    return parse_recipe("\n".join(lines))


def test_8b_lies_in_four_bits_within_its_budget() -> None:
    """NF4 with nested scales, embeddings and norms in 16 bits: bitsandbytes gives 5.7 GB."""
    assert weight_bytes(geometry("Qwen/Qwen3-8B"), "qlora") < 5.8 * GIB
    assert weight_bytes(geometry("Qwen/Qwen3-8B"), "lora") == 2 * 8_190_735_360


def test_an_adapter_has_as_many_weights_as_peft_makes() -> None:
    """PEFT 0.21 on Qwen3-4B, rank 16, all linear layers: 33,030,144."""
    assert adapter_weights(geometry(), recipe()) == 33_030_144


def test_parts_make_the_total_and_lie_within_the_band() -> None:
    found = estimate(recipe(), geometry(), **HOW)
    assert found.total == sum(found.parts.values())
    assert found.low < found.total < found.high
    assert found.counted < found.total
    assert {"weights", "adapter", "gradients", "optimizer", "activations"} <= set(found.parts)


@pytest.mark.parametrize(
    "more",
    [
        {"micro": 4},
        {"longest": 4096},
        {"checkpointing": False},
    ],
)
def test_more_work_at_once_takes_more_memory(more: dict[str, Any]) -> None:
    assert (
        estimate(recipe(), geometry(), **HOW).total
        < estimate(recipe(), geometry(), **{**HOW, **more}).total
    )


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_pairs_are_two_rows(stage: str) -> None:
    pairs = estimate(recipe(stage), geometry(), **HOW)
    rows = estimate(recipe(), geometry(), **{**HOW, "micro": 4})
    assert pairs.parts["activations"] == rows.parts["activations"]


def test_packed_rows_are_masked_as_one_long_row_and_so_taken_singly() -> None:
    """TRL lays a micro-batch of them one after another; sdpa then has a mask of all their tokens
    squared."""
    packed = recipe("cpt", training__packing=True, training__max_length=2048)
    flash = recipe("cpt", training__packing=True, training__attention="flash_attention_2")
    assert largest_micro(packed, geometry(), 24 * GIB, 2048) == 1
    assert plan(packed, geometry(), 24 * GIB).accumulation == 32
    assert largest_micro(flash, geometry(), 24 * GIB, 2048) > 1
    fixed = recipe("cpt", training__packing=True, training__batch_size=16)
    how: dict[str, Any] = {**HOW, "micro": 16, "longest": 2048}
    mask = estimate(fixed, geometry(), **how).total - estimate(flash, geometry(), **how).total
    assert mask > GIB


def test_methods_are_ordered_by_their_hunger() -> None:
    taken = [
        estimate(recipe(model__method=method), geometry(), **HOW).total
        for method in ("qlora", "lora", "dora", "full")
    ]
    assert taken == sorted(taken)


@pytest.mark.parametrize(
    ("method", "checkpointing", "simulated"), [("lora", True, 3234), ("lora", False, 6088),
                                               ("full", False, 11819)],
)  # fmt: skip
def test_computing_in_32_bits_takes_what_was_simulated(
    method: str, checkpointing: bool, simulated: int
) -> None:
    """Two rows of Qwen3-0.6B, of 1,024 tokens with checkpointing, else of 512; MiB."""
    base = "Qwen/Qwen3-0.6B"
    asked = recipe(base=base, model__method=method, training__precision="fp32",
                   training__effective_batch_size=2)  # fmt: skip
    found = estimate(asked, geometry(base), micro=2, longest=1024 if checkpointing else 512,
                     checkpointing=checkpointing)  # fmt: skip
    assert found.counted / 2**20 == pytest.approx(simulated, rel=0.1)


def test_an_embedding_that_is_trained_whole_has_a_copy_gradients_and_an_optimizer() -> None:
    plain = estimate(recipe(), geometry(), **HOW).parts
    whole = estimate(recipe(lora__modules_to_save="embed_tokens, lm_head"), geometry(), **HOW).parts
    tied = 151_936 * 2560  # both are one weight in Qwen3-4B
    assert whole["adapter"] - plain["adapter"] == 4 * tied
    assert whole["gradients"] - plain["gradients"] == 4 * tied
    assert whole["optimizer"] - plain["optimizer"] == 8 * tied


@pytest.mark.parametrize(
    "setting",
    [{"training__optimizer": "paged_adamw_8bit"}, {"training__activation_offloading": True}],
)
def test_options_that_save_memory_do(setting: dict[str, Any]) -> None:
    how: dict[str, Any] = {**HOW, "micro": 8}
    plain = estimate(recipe(), geometry(), **how).total
    assert estimate(recipe(**setting), geometry(), **how).total < plain


def test_a_reference_is_held_where_all_weights_are_trained_alone() -> None:
    full = estimate(recipe("dpo", model__method="full"), geometry(), **HOW)
    assert full.parts["reference"] == full.parts["weights"]
    assert "reference" not in estimate(recipe("dpo"), geometry(), **HOW).parts


def test_a_teacher_lies_beside_the_student() -> None:
    found = estimate(recipe("distill"), geometry(), **HOW, teacher=geometry("Qwen/Qwen3-8B"))
    assert found.parts["teacher"] == 2 * 8_190_735_360


def test_ppo_trains_a_value_model_beside_the_policy() -> None:
    asked = recipe("rlhf", rl__algorithm="ppo")
    found = estimate(asked, geometry(), **HOW, reward=geometry())
    assert found.parts["value_model"] > found.parts["reward_model"] > 0
    assert "value_model" not in estimate(recipe("rlhf"), geometry(), **HOW).parts


@pytest.mark.parametrize("card", [8, 12, 16, 24])
def test_what_is_solved_for_fits_and_one_more_does_not(card: int) -> None:
    asked, sizes, budget = recipe(model__method="qlora"), geometry(), card * GIB
    micro = largest_micro(asked, sizes, budget, 2048)
    longest = longest_sequence(asked, sizes, budget, micro)
    rank = largest_rank(asked, sizes, budget, 2048, micro)
    assert micro >= 1
    assert longest >= 2048
    assert rank >= 16

    def most(**how: Any) -> int:
        return estimate(asked, sizes, **{**HOW, "micro": micro, **how}).high

    assert most(longest=longest) <= budget < most(longest=longest + 1)
    if micro < 16:
        assert most(micro=micro + 1, longest=2048) > budget


def test_nothing_fits_where_the_weights_do_not() -> None:
    asked, sizes = recipe(base="Qwen/Qwen3-14B"), geometry("Qwen/Qwen3-14B")
    assert largest_micro(asked, sizes, 12 * GIB, 512) == 0
    assert longest_sequence(asked, sizes, 12 * GIB) == 0
    assert largest_rank(asked, sizes, 12 * GIB, 512) == 0


def test_a_plan_finds_the_micro_batch_and_keeps_the_batch() -> None:
    made = plan(recipe(), geometry(), 12 * GIB)
    assert made.fits
    assert made.micro * made.accumulation == 16
    assert made.suggestions == []
    assert made.cards == [12, 16, 24]
    assert made.high_bytes <= 12 * GIB


def test_without_a_card_a_plan_is_for_the_least_and_says_which_cards_would_do() -> None:
    made = plan(recipe(), geometry())
    assert made.fits is None
    assert made.micro == 1
    assert made.cards == [12, 16, 24]


def test_a_plan_that_does_not_fit_says_what_does() -> None:
    made = plan(recipe(), geometry(), 8 * GIB)
    assert made.fits is False
    first = made.suggestions[0]
    assert first.changes == {"model.method": "qlora"}
    assert first.high_bytes <= 8 * GIB
    assert made.suggestions[-1].changes == {"model.base": "Qwen/Qwen3-1.7B"}


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        ("reward", {}),
        ("sft", {"lora__init": "pissa"}),
        ("sft", {"training__precision": "fp32"}),
        ("grpo", {"rl__fast_generation": "vllm"}),
    ],
)
def test_nothing_is_suggested_that_the_recipe_would_be_refused_with(
    stage: str, setting: dict[str, Any]
) -> None:
    """QLoRA would be enough each time."""
    asked = recipe(stage, **setting)
    made = plan(asked, geometry(), 8 * GIB)
    assert made.suggestions
    for one in made.suggestions:
        check_recipe(with_changes(asked, one.changes))


def test_the_least_costly_change_comes_first() -> None:
    fixed = recipe(training__batch_size=8, training__gradient_checkpointing=False)
    made = plan(fixed, geometry(), 24 * GIB)
    micro, checkpointing, *others = [one.changes for one in made.suggestions]
    assert micro["training.batch_size"] == 0
    assert micro["training.effective_batch_size"] == 8
    assert checkpointing == {"training.gradient_checkpointing": True}
    assert {"model.method": "qlora"} not in others  # that alone would not be enough


def test_8b_over_four_bits_is_made_to_fit_8_gb_at_once() -> None:
    """Rows of 2,048 tokens need 8.1 to 8.8 GB."""
    asked = recipe(base="Qwen/Qwen3-8B", model__method="qlora")
    made = plan(asked, geometry("Qwen/Qwen3-8B"), 8 * GIB)
    assert made.fits is False
    changes = made.suggestions[0].changes
    assert changes == {"training.optimizer": "paged_adamw_8bit", "training.max_length": 768}
    assert plan(with_changes(asked, changes), geometry("Qwen/Qwen3-8B"), 8 * GIB).fits


def test_several_changes_are_told_together_where_no_single_one_is_enough() -> None:
    asked = recipe(base="Qwen/Qwen3-8B", training__max_length=4096)
    made = plan(asked, geometry("Qwen/Qwen3-8B"), 9 * GIB)
    first = made.suggestions[0]
    assert set(first.changes) >= {"model.method", "training.max_length"}
    assert first.high_bytes <= 9 * GIB


def test_the_rank_of_an_adapter_that_goes_on_is_its_own() -> None:
    asked = recipe(lora__rank=256)
    ranks = [set(one.changes) for one in plan(asked, geometry(), 12 * GIB).suggestions]
    assert {"lora.rank"} in ranks
    asked = with_changes(asked, {"model.continue_adapter": True})
    ranks = [set(one.changes) for one in plan(asked, geometry(), 12 * GIB).suggestions]
    assert not any("lora.rank" in one for one in ranks)
