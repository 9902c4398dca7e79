"""reasoning-gym's own verifiers (Stojanovski et al. 2025) as rewards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from workers.answers import final_answer
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import ReasoningGym
from workers.rewards.sample import Each, Sample, Scorer, unusable


def build(reward: ReasoningGym, _home: Path, _stack: ExitStack) -> Scorer:
    try:
        import reasoning_gym
    except ImportError as fault:
        raise Refusal(
            "reasoning-gym is not installed.",
            f"{fault}.",
            'Install it into this environment: pip install "finetune-studio[gym]"',
        ) from fault
    try:
        verify: Any = reasoning_gym.get_score_answer_fn(reward.task)
    except ValueError:
        raise unusable(
            "reasoning_gym", f"There is no task called '{reward.task}'.",
            "Its tasks stand in reasoning-gym's gallery; one is chain_sum.",
        ) from None  # fmt: skip

    def score(sample: Sample) -> float:
        entry = {"question": sample.question, "answer": sample.answer, "metadata": {}}
        return verify(final_answer(sample.completion), entry)

    return Each(score)
