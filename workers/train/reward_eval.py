"""What completions of the held-out prompts earn, and how often they beat the first ones."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from transformers import Trainer

from workers.evaluate import Measured, accuracy_of
from workers.protocol.stages import spec_of
from workers.protocol.wire import write_atomically
from workers.rewards import EQUAL, Rewards, Sample
from workers.train.context import TrainingContext, generator_of

FIRST = "held-out-before.json"
"""What the first completions earned, in the run's folder: a resumed run compares with it."""


def evaluate_rewards(
    context: TrainingContext, trainer: Trainer, rewards: Rewards, longest: int
) -> Measured:
    """Completions of the held-out prompts, scored: greedy ones, or in stage `rlhf`, whose aim is
    the mean over what the policy says, sampled at rl.temperature with a fixed RNG state.

    Returns:
        `reward`, the mean of what they earn; `win_rate`, the share of prompts whose completion
        earns more than the one before training, ties counting half, once there is one; and of rows
        that say what is right the share answered right.
    """
    rows = [row for row in context.held_out if row.prompt]
    if not rows:
        return Measured()
    generator = generator_of(context, trainer)
    prompts, tools = [row.prompt for row in rows], [row.tools for row in rows]
    if spec_of(context.recipe.stage).scored_by == "reward_model":
        with torch.random.fork_rng():
            torch.manual_seed(context.recipe.training.seed)
            completions = generator.complete(
                prompts, longest, context.recipe.rl.temperature, tools=tools
            )
    else:
        completions = generator.complete(prompts, longest, tools=tools)
    samples = [
        Sample(row.prompt, one.text, row.answer, one.tokens, row.tools)
        for row, one in zip(rows, completions, strict=True)
    ]
    totals = rewards.score(samples).totals
    scored = [total for total in totals if total is not None]
    found = Measured(_compared(context.host.folder / FIRST, totals))
    if scored:
        found |= Measured({"reward": sum(scored) / len(scored)}, {"reward": totals})
    known = [pair for pair in zip(rows, completions, strict=True) if pair[0].answer]
    return found | accuracy_of(*map(list, zip(*known, strict=True))) if known else found


def _compared(path: Path, totals: list[float | None]) -> dict[str, float]:
    """Keeps the first totals, and compares later ones with them."""
    if not path.is_file():
        write_atomically(path, msgspec.json.encode(totals))
        return {}
    first = msgspec.json.decode(path.read_bytes(), type=list[float | None])
    if len(first) != len(totals):
        return {}
    rate = win_rate(first, totals)
    return {} if rate is None else {"win_rate": rate}


def win_rate(before: list[float | None], after: list[float | None]) -> float | None:
    """The share of pairs that `after` wins, ties counting half; None where none is scored."""
    pairs = [
        (one, other)
        for one, other in zip(before, after, strict=True)
        if one is not None and other is not None
    ]
    if not pairs:
        return None
    wins = sum(other > one + EQUAL for one, other in pairs)
    ties = sum(abs(other - one) <= EQUAL for one, other in pairs)
    return (wins + ties / 2) / len(pairs)
