"""Real reinforcement learning of the starter model: every algorithm, rollouts, pause, faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.protocol import wire
from workers.protocol.events import (
    Evaluated,
    Failed,
    Finished,
    Metrics,
    Paused,
    Resumed,
    Rollout,
    Sampled,
)
from workers.protocol.options import options_of
from workers.protocol.recipe import RL, Evaluation, Model, Recipe, Source, Training
from workers.protocol.requests import Pause
from workers.protocol.rewards import AnyReward, Format, MathAnswer, Python
from workers.protocol.rollouts import Rollouts
from workers.train.grpo import warnings

Run = Callable[..., list[Any]]
ALGORITHMS = [
    pytest.param(algorithm, marks=pytest.mark.slow) if algorithm == "gspo" else algorithm
    for option in options_of(RL)
    if option.key == "algorithm"
    for algorithm in option.choices or ()
    if algorithm != "ppo"  # of stage rlhf, in test_rlhf
]


def learner(**changes: Any) -> Recipe:
    training: dict[str, Any] = {
        "max_steps": 2, "batch_size": 8, "learning_rate": 2e-4, "max_length": 128,
        "precision": "fp32", "save_every_steps": 0, "scheduler": "constant",
    }  # fmt: skip
    training |= changes.pop("training", {})
    rl: dict[str, Any] = {"group_size": 4, "max_completion_tokens": 24} | changes.pop("rl", {})
    rewards: list[AnyReward] = [MathAnswer(), Format(weight=0.2)]
    return Recipe(
        name=changes.pop("name", "rl"),
        stage="grpo",
        model=Model(base="starter", method=changes.pop("method", "full")),
        data=[Source(source="builtin:arithmetic")],
        training=Training(**training),
        rl=RL(**rl),
        rewards=changes.pop("rewards", rewards),
        evaluation=Evaluation(max_rows=8, test="builtin:arithmetic-test",
                              **changes.pop("evaluation", {})),
    )  # fmt: skip


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def steps_of(events: list[Any]) -> dict[int, dict[str, float]]:
    return {event.step: event.values for event in of(Metrics, events) if "loss" in event.values}


def rollouts(folder: Path, events: list[Any]) -> list[Rollouts]:
    return [
        msgspec.json.decode((folder / event.path).read_bytes(), type=Rollouts)
        for event in of(Rollout, events)
    ]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains(train_here: Run, algorithm: str) -> None:
    events = train_here(learner(rl={"algorithm": algorithm}, training={"max_steps": 1}))
    assert of(Failed, events) == []
    assert of(Finished, events)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_tells_all_that_a_chart_shows(train_here: Run, method: str) -> None:
    events = train_here(learner(method=method))
    assert of(Failed, events) == []
    values = steps_of(events)[2]
    for name in ("reward", "reward_std", "frac_reward_zero_std", "reward/math_answer",
                 "reward/format", "entropy", "kl", "clip_fraction", "completion_length",
                 "truncation_rate", "gradient_norm", "rollout_seconds", "update_seconds",
                 "reward_seconds", "tokens_per_second", "unscored_share"):  # fmt: skip
        assert values[name] is not None, name
    before, after = of(Evaluated, events)
    assert (before.when, after.when) == ("before", "after")
    assert {"accuracy", "reward", "completion_length", "truncation_rate"} <= set(after.values)
    for measured in (before, after):
        for name in ("accuracy", "reward"):
            rows = measured.each[name]
            assert len(rows) == measured.rows
            assert sum(rows) / len(rows) == pytest.approx(measured.values[name])
    assert {event.step for event in of(Sampled, events)} == {0, 2}


def test_what_makes_steps_noisy_or_has_no_effect_is_told() -> None:
    (few,) = warnings(RL(group_size=8), 8)
    assert "one question" in few
    assert "to 32 or more: 4 groups of 8" in few
    assert not list(warnings(RL(group_size=4), 16))
    (idle,) = warnings(RL(group_size=4, algorithm="rloo"), 16)
    assert "'group' changes nothing in rloo" in idle


def test_without_a_kl_coefficient_no_reference_is_held(train_here: Run) -> None:
    events = train_here(learner(rl={"kl_coefficient": 0.0}, training={"max_steps": 1}))
    assert "kl" not in steps_of(events)[1]


def test_the_answers_of_a_step_can_be_looked_at(train_here: Run, tmp_path: Path) -> None:
    events = train_here(learner(name="looked"))
    (folder,) = (tmp_path / "jobs").glob("looked*")
    first, second = rollouts(folder, events)
    assert (first.step, second.step) == (1, 2)
    assert first.rewards == ["math_answer", "format"]
    assert len(first.groups) == 2
    for group in (*first.groups, *second.groups):
        assert len(group.samples) == 4
        assert group.prompt
        assert sum(sample.advantage for sample in group.samples) == pytest.approx(0, abs=1e-3)
        for sample in group.samples:
            right, form = sample.rewards
            assert sample.reward == pytest.approx((right or 0) + 0.2 * (form or 0))
            assert sample.truncated == (not sample.text.endswith("}") and sample.tokens == 24)


def test_a_reward_that_fails_costs_its_samples_and_not_the_run(train_here: Run) -> None:
    code = (
        "def reward(prompt, completion, answer):\n"
        "    if '+' in prompt: raise ValueError('no sums')\n"
        "    return float(answer in completion)"
    )
    events = train_here(learner(rewards=[Python(code=code), MathAnswer()]))
    assert of(Failed, events) == []
    assert len(steps_of(events)) == 2
    shares = [values["unscored_share"] for values in steps_of(events).values()]
    assert any(share > 0 for share in shares)


def test_a_reward_that_hangs_ends_the_step_within_its_limit(
    train_here: Run, tmp_path: Path
) -> None:
    code = "def reward(prompt, completion, answer):\n    while True: pass"
    recipe = learner(
        name="hangs",
        rewards=[Python(code=code, seconds=1.0), MathAnswer()],
        training={"max_steps": 1},
    )
    events = train_here(recipe)
    (folder,) = (tmp_path / "jobs").glob("hangs*")
    values = steps_of(events)[1]
    assert values["unscored_share"] == 1.0
    assert values["reward_seconds"] < 2.0
    sample = rollouts(folder, events)[0].groups[0].samples[0]
    assert sample.reward is None
    assert "longer than" in sample.faults[0]


def test_a_pause_rests_at_a_checkpoint_and_the_run_goes_on_as_if_never_paused(
    train_here: Run, tmp_path: Path
) -> None:
    whole = learner(name="whole", training={"max_steps": 6})
    expected = train_here(whole)
    (folder,) = (tmp_path / "jobs").glob("whole*")
    seen = [group.prompt for step in rollouts(folder, expected) for group in step.groups]

    # A pause that is there from the start is obeyed after the first step.
    paused = tmp_path / "jobs" / "paused"
    paused.mkdir()
    job = wire.read_job(folder)
    wire.write_job(paused, msgspec.structs.replace(job, id="paused", resolved=None))
    wire.append_request(paused, Pause())
    rested = train_here(whole, paused)
    assert isinstance(rested[-1], Paused)
    assert rested[-1].step == 1

    events = train_here(whole, paused)
    assert of(Resumed, events)[0].step == 1
    assert isinstance(events[-1], Finished)
    again = [group.prompt for step in rollouts(paused, events) for group in step.groups]
    assert again == seen
    assert steps_of(events).keys() == steps_of(expected).keys()
    for step, values in steps_of(expected).items():
        assert steps_of(events)[step]["reward"] == pytest.approx(values["reward"], abs=1e-6), step
        assert steps_of(events)[step]["loss"] == pytest.approx(values["loss"], abs=5e-3), step


def test_prompts_without_an_answer_are_refused_by_no_stage_but_their_reward(
    train_here: Run,
) -> None:
    recipe = learner(training={"max_steps": 1}, rewards=[Format()])
    changed = msgspec.structs.replace(recipe, data=[Source(source="builtin:preferences")])
    assert of(Failed, train_here(changed)) == []


def test_plain_text_cannot_serve_reinforcement_learning(train_here: Run) -> None:
    recipe = msgspec.structs.replace(learner(), data=[Source(source="builtin:stories")])
    (failure,) = of(Failed, train_here(recipe))
    assert "cannot serve the stage 'grpo'" in failure.what
    assert failure.kind == "refused"
