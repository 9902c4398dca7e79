"""The health coach on recorded runs: it names each sickness, and is quiet on healthy runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from workers.protocol.events import Finding, FindingCleared
from workers.protocol.recipe import RL, Preference, Recipe, Source, parse_recipe
from workers.protocol.rewards import Format, MathAnswer
from workers.train.health import PASSED_AFTER, Coach

RECORDINGS = Path(__file__).parents[1] / "recordings"
SICK = {
    "entropy-collapse": "entropy_collapse",
    "zero-std-groups": "zero_std_groups",
    "kl-drift": "kl_drift",
    "length-blow-up": "length_blow_up",
    "reward-hacking": "reward_hacking",
    "diverging-loss": "diverging_loss",
    "farmed-reward-model": "reward_hacking",
}
HEALTHY = sorted(path.stem for path in RECORDINGS.glob("healthy-*.json"))
RL_RECIPE = Recipe(
    stage="grpo", data=[Source(source="x")], rewards=[MathAnswer(), Format(weight=0.2)]
)  # fmt: skip


def heard(name: str) -> list[Finding | FindingCleared]:
    recording: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text())
    coach = Coach(parse_recipe(recording["recipe"]))
    return [told for step, values in recording["metrics"] for told in coach.hear(step, values)]


Stream = Sequence[Mapping[str, float | None]]
"""The values of each step, in order."""


def hear(coach: Coach, stream: Stream) -> list[Finding | FindingCleared]:
    return [told for step, values in enumerate(stream, 1) for told in coach.hear(step, values)]


@pytest.mark.parametrize("name", SICK)
def test_each_sickness_is_named_on_a_run_that_had_it(name: str) -> None:
    findings = [told for told in heard(name) if isinstance(told, Finding)]
    assert SICK[name] in [found.kind for found in findings]
    for found in findings:
        assert found.meaning
        assert found.remedy
        assert found.metric
        assert found.step > 0


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_are_left_in_peace(name: str) -> None:
    assert heard(name) == []


def test_there_are_healthy_runs_of_both_kinds() -> None:
    assert len([name for name in HEALTHY if "grpo" in name]) >= 3
    assert len([name for name in HEALTHY if "sft" in name]) >= 2


def test_a_finding_is_told_once_and_again_only_after_it_has_passed() -> None:
    far, near = {"kl": 0.9}, {"kl": 0.01}
    told = hear(Coach(RL_RECIPE), [far] * 20 + [near] * 20 + [far] * 20)
    assert [type(one).__name__ for one in told] == ["Finding", "FindingCleared", "Finding"]
    first, cleared, second = told
    assert first.step == 10
    assert cleared.step > 20 + PASSED_AFTER
    assert second.step > 40


def test_a_loss_that_is_no_number_is_an_alarm_at_once() -> None:
    (found,) = hear(Coach(RL_RECIPE), [{"loss": 1.0}, {"loss": None}])
    assert isinstance(found, Finding)
    assert (found.kind, found.level, found.step) == ("not_a_number", "alarm", 2)


def test_gradients_that_leap_again_and_again_are_told_and_single_ones_are_not() -> None:
    calm: list[dict[str, float | None]] = [{"gradient_norm": 1.0 + step % 3} for step in range(30)]
    leaping = [*calm[:20], *[{"gradient_norm": 50.0}, {"gradient_norm": 1.5}] * 3]
    assert hear(Coach(RL_RECIPE), [*calm[:15], {"gradient_norm": 50.0}, *calm[15:]]) == []
    assert [one.kind for one in hear(Coach(RL_RECIPE), leaping)] == ["gradient_spikes"]


def test_equal_groups_of_a_solved_task_are_good_news() -> None:
    solved = {"reward": 1.2, "frac_reward_zero_std": 1.0, "entropy": 0.001}
    start = {"reward": 0.6, "frac_reward_zero_std": 0.1, "entropy": 0.5}
    told = hear(Coach(RL_RECIPE), [start] * 10 + [solved] * 20)
    assert [one.kind for one in told] == ["solved"]


def test_falling_accuracy_under_a_rising_reward_is_hacking() -> None:
    stream: list[dict[str, float | None]] = [
        {"reward": step / 40, "reward/math_answer": 0.5, "reward/format": 0.5} for step in range(40)
    ]
    stream[0]["eval_accuracy"], stream[30]["eval_accuracy"] = 0.6, 0.3
    assert "reward_hacking" in [one.kind for one in hear(Coach(RL_RECIPE), stream)]


def test_held_out_loss_that_turns_up_is_learning_by_heart() -> None:
    curve = [2.0, 1.5, 1.4, 1.45, 1.6]
    told = hear(Coach(Recipe(data=[Source(source="x")])), [{"eval_loss": loss} for loss in curve])
    assert [one.kind for one in told] == ["overfitting"]


# Preferences and reward models

PAIRS = Recipe(stage="dpo", data=[Source(source="x")])


def leading(step: int, **more: float) -> dict[str, float]:
    """A healthy step of DPO: both rewards move apart."""
    far = step / 40
    return {"reward_chosen": 0.5 * far, "reward_rejected": -far, "margin": 1.5 * far,
            "pair_accuracy": 0.5 + 0.4 * far, "logp_chosen": -20.0 + far,
            "logp_rejected": -20.0 - 10 * far} | more  # fmt: skip


def kinds(recipe: Recipe, stream: Stream) -> list[str]:
    return [told.kind for told in hear(Coach(recipe), stream)]


def test_preference_runs_that_go_well_are_left_in_peace() -> None:
    assert kinds(PAIRS, [leading(step) for step in range(40)]) == []


def test_a_falling_reward_of_better_answers_under_a_growing_margin_is_said_to_be_normal() -> None:
    stream = [
        leading(step, reward_chosen=-step / 80, margin=step / 80, logp_chosen=-20 - step / 10)
        for step in range(40)
    ]
    (told,) = hear(Coach(PAIRS), stream)
    assert isinstance(told, Finding)
    assert (told.kind, told.level) == ("chosen_falls", "advice")
    assert "normal" in told.meaning


def test_better_answers_that_are_given_up_are_displaced() -> None:
    stream = [
        leading(step, reward_chosen=-step / 10, logp_chosen=-20.0 - step) for step in range(60)
    ]
    assert "likelihood_displacement" in kinds(PAIRS, stream)


def test_answers_far_from_the_reference_tell_of_a_beta_too_low() -> None:
    loose = Recipe(stage="dpo", data=PAIRS.data, preference=Preference(beta=0.01))
    stream = [leading(step, reward_rejected=-step / 20) for step in range(40)]
    assert kinds(loose, stream) == ["beta_too_low"]
    assert kinds(PAIRS, stream) == []


def test_a_margin_that_few_pairs_carry_is_told() -> None:
    stream = [leading(step, pair_accuracy=0.52, margin=step / 10) for step in range(40)]
    assert kinds(PAIRS, stream) == ["margin_without_accuracy"]


def test_a_reward_model_that_measures_length_is_told_and_one_whose_data_does_is_not() -> None:
    judge = Recipe(stage="reward", data=PAIRS.data)
    before: dict[str, float | None] = {"eval_length_bias": 0.5, "eval_longer_chosen": 0.5}
    assert kinds(judge, [before, {"eval_length_bias": 0.9, "eval_longer_chosen": 0.5}]) == [
        "length_bias"
    ]
    assert kinds(judge, [before, {"eval_length_bias": 0.9, "eval_longer_chosen": 0.85}]) == []


def test_a_policy_that_runs_away_under_ppo_is_an_alarm() -> None:
    policy = Recipe(stage="rlhf", data=PAIRS.data, rl=RL(algorithm="ppo"))
    (told,) = hear(Coach(policy), [{"kl": step / 10, "reward": 1.0} for step in range(15)])
    assert isinstance(told, Finding)
    assert (told.kind, told.metric) == ("kl_drift", "kl")
    far = hear(Coach(policy), [{"kl": 3.0}] * 12)
    assert [one.level for one in far if isinstance(one, Finding)] == ["alarm"]


def test_a_value_model_that_foresees_nothing_is_told_after_it_had_time() -> None:
    policy = Recipe(stage="rlhf", data=PAIRS.data, rl=RL(algorithm="ppo"))
    assert kinds(policy, [{"explained_variance": -0.5}] * 12) == []
    assert kinds(policy, [{"explained_variance": -0.5}] * 25) == ["negative_explained_variance"]


@pytest.mark.parametrize(("share", "named"), [(0.5, True), (0.05, False)])
def test_thoughts_that_are_cut_off_are_named(share: float, named: bool) -> None:
    told = hear(Coach(RL_RECIPE), [{"reward": 0.1, "cut_thinking_rate": share}] * 20)
    kinds = [one.kind for one in told if isinstance(one, Finding)]
    assert ("cut_thinking" in kinds) == named
