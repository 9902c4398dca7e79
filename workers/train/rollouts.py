"""What reinforcement learning samples from, and the record of what was sampled.

GRPO, RLOO and PPO share it: the prompts that fit, and a file of completions for every step.
"""

from __future__ import annotations

import msgspec

from workers.data.reader import Row
from workers.data.tokenize.encode import Example, encode, fit
from workers.protocol.events import Rollout
from workers.protocol.refusal import Refusal
from workers.protocol.rollouts import Rollouts, Sampling, path_of
from workers.protocol.wire import write_atomically
from workers.rewards import Scored
from workers.train.context import TrainingContext
from workers.train.encoding import encoded, tell_long
from workers.train.fitting import settle_batches

SHOWN_PROMPTS = 8
LONGEST_SHOWN = 8000
"""Bounds of what a step keeps for looking at: prompts, and characters of a completion."""


def fitting_prompts(context: TrainingContext) -> list[tuple[Row, list[int]]]:
    """Rows whose prompt fits into training.max_length, each with its prompt's token ids.

    Raises:
        Refusal: there are none.
    """
    longest, stage = context.recipe.training.max_length, context.recipe.stage

    def prompt_of(row: Row) -> tuple[Row, list[Example]]:
        return row, fit(encode(row, stage, context.loaded.tokenizer), stage, longest)

    prompts = encoded(context, context.training, prompt_of)
    kept = [(row, examples[0].input_ids) for row, examples in prompts if examples]
    if not kept:
        raise Refusal(
            "No prompt is short enough to train on.",
            f"All are longer than training.max_length = {longest} tokens.",
            "Raise training.max_length.",
        )
    tell_long(context, "prompts", len(prompts), len(prompts) - len(kept))
    settle_batches(context, max(len(ids) for _, ids in kept))
    return kept


def sampling(
    scored: Scored, at: int, completion: str, *, tokens: int, advantage: float, truncated: bool
) -> Sampling:
    """The record of the completion at this place in the scored batch."""
    outcomes = [part[at] for part in scored.parts]
    return Sampling(
        text=completion[:LONGEST_SHOWN],
        rewards=[outcome.value for outcome in outcomes],
        reward=scored.totals[at],
        advantage=advantage,
        tokens=tokens,
        truncated=truncated,
        faults=[outcome.fault for outcome in outcomes if outcome.fault],
    )


def save_rollouts(context: TrainingContext, record: Rollouts) -> None:
    """Writes a step's completions beside the run, and says where."""
    path = context.host.folder / path_of(record.step)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, msgspec.json.encode(record))
    context.host.emit(Rollout(step=record.step, path=path_of(record.step)))
