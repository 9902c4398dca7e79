"""What the fake worker says of reinforcement learning: curves, answers and a passing illness."""

from __future__ import annotations

import math
import statistics

import msgspec

from workers.host import Host
from workers.protocol import events
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import names_of
from workers.protocol.rollouts import Group, Rollouts, Sampling, path_of
from workers.protocol.wire import write_atomically

ILL, WELL = 4, 12
"""Between these steps a run that is called sick is unwell."""
GROUPS = 2
HELD_OUT = 8
"""Rows that are measured on."""


def _risen(step: int, over: float = 20.0) -> float:
    """From 0 towards 1, with a little unrest."""
    return 1 - math.exp(-step / over) + 0.04 * math.sin(2.1 * step)


def scores(recipe: Recipe, step: int) -> dict[str, float | None]:
    share = step / max(recipe.training.max_steps, 1)
    if "worsens" in recipe.name:
        share = 1 - share
    return {"reward": 0.2 + share, "accuracy": 0.125 + 0.5 * share}


def outcomes(values: dict[str, float | None]) -> dict[str, list[float | None]]:
    """Single rows that come to these means, before and after a run; the first ones are right."""
    right = round((values["accuracy"] or 0.0) * HELD_OUT)
    made: dict[str, list[float | None]] = {
        "reward": [values["reward"]] * HELD_OUT,
        "accuracy": [*[1.0] * right, *[0.0] * (HELD_OUT - right)],
    }
    return made


def say_metrics(host: Host, recipe: Recipe, step: int, seconds: float) -> None:
    names = names_of(recipe.rewards)
    unwell = "sick" in recipe.name and ILL <= step < WELL
    values = {
        "loss": 0.01 * math.sin(step), "reward": 0.2 + _risen(step), "reward_std": 0.4 / step**0.3,
        "frac_reward_zero_std": 0.25, "entropy": 0.05 if unwell else 0.4 + 0.6 * 0.97**step,
        "kl": 0.002 * step, "clip_low": 0.01, "clip_high": 0.02, "clip_fraction": 0.03,
        "completion_length": 30 + 4 * _risen(step), "truncation_rate": 0.1,
        "unscored_share": 0.0, "gradient_norm": 1.0 + 0.2 * math.sin(step), "learning_rate": 1e-5,
        "tokens_per_second": 900.0, "memory_bytes": 1e9, "rollout_seconds": 1.5,
        "update_seconds": 0.6, "reward_seconds": 0.02,
    }  # fmt: skip
    for number, name in enumerate(names):
        values[f"reward/{name}"] = _risen(step, 8.0 + 20 * number)
        values[f"reward_std/{name}"] = 0.3
    if recipe.stage == "rlhf" and recipe.rl.algorithm == "ppo":
        values |= {
            "policy_loss": 0.01 * math.cos(step), "value_loss": 0.5 * 0.9**step,
            "explained_variance": 1 - 0.9**step, "value_clip_fraction": 0.05,
        }  # fmt: skip
    told: dict[str, float | None] = dict(values)
    host.emit(events.Metrics(step=step, values=told, seconds=seconds))


def roll_out(host: Host, recipe: Recipe, step: int) -> None:
    """Writes a step's answers as a real worker does; every group has a best and a worst."""
    names = names_of(recipe.rewards)
    record = Rollouts(
        step, names, [reward.weight for reward in recipe.rewards],
        [_group(recipe, names, step, number) for number in range(1, GROUPS + 1)],
    )  # fmt: skip
    path = host.folder / path_of(step)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, msgspec.json.encode(record))
    host.emit(events.Rollout(step=step, path=path_of(step)))


def _group(recipe: Recipe, names: list[str], step: int, number: int) -> Group:
    weights = [reward.weight for reward in recipe.rewards]
    samples = [_sampling(weights, step, number, at) for at in range(recipe.rl.group_size)]
    paid = [one.reward for one in samples if one.reward is not None]
    mean, spread = statistics.fmean(paid), statistics.pstdev(paid) + 1e-4
    samples = [
        msgspec.structs.replace(
            one, advantage=0.0 if one.reward is None else (one.reward - mean) / spread
        )
        for one in samples
    ]
    return Group(prompt=f"What is {step} + {number}?", answer=str(step + number), samples=samples)


def _sampling(weights: list[float], step: int, number: int, at: int) -> Sampling:
    """Every second answer is right, the first is cut off, the third gets no score."""
    right, cut, faulty = at % 2 == 1, at == 0, at == 2
    said = step + number + (0 if right else at + 1)
    thought = f"<think>I take {step} and count on by {number}.</think>"
    rewards = [float(right or (part == 0 and not cut)) for part in range(len(weights))]
    total = sum(weight * value for weight, value in zip(weights, rewards, strict=True))
    return Sampling(
        text=thought[:20] if cut else f"{thought}\n\\boxed{{{said}}}",
        rewards=[None] * len(weights) if faulty else list(rewards),
        reward=None if faulty else total,
        advantage=0.0,
        tokens=64 if cut else 20 + at,
        truncated=cut,
        faults=["python: the reward raised ValueError"] if faulty else [],
    )


def fall_ill(host: Host, recipe: Recipe, step: int) -> None:
    if "sick" not in recipe.name:
        return
    if step == ILL:
        host.emit(
            events.Finding(
                kind="entropy_collapse", level="warning", step=step, metric="entropy",
                meaning="The policy has become nearly certain of every word (entropy 1.0 to 0.05): "
                "it no longer tries anything new.",
                remedy="Raise the temperature or rl.clip_epsilon_high, or lower the learning rate.",
            )
        )  # fmt: skip
    if step == WELL:
        host.emit(events.FindingCleared(kind="entropy_collapse", step=step))
