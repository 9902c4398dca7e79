"""What a reward is given, what it must offer, and how it refuses options that make no sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from workers.data.schema.messages import Message
from workers.protocol.refusal import Refusal
from workers.rewards.sandbox import Outcome


class Sample(NamedTuple):
    """One completion to be scored."""

    prompt: list[Message]
    completion: str
    answer: str
    """What a right completion comes to; empty when the row has none."""
    tokens: int
    """Length of the completion."""
    tools: Sequence[dict[str, Any]] = ()
    """Definitions of those that it may call."""

    @property
    def question(self) -> str:
        """The user's last turn."""
        asked = [turn["content"] for turn in self.prompt if turn["role"] == "user"]
        return asked[-1] if asked else ""


class Scorer(Protocol):
    """One reward, ready to score."""

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        """An outcome for each sample, in order."""
        ...


class Each:
    """Scores samples one by one with a function; a raise costs that sample."""

    def __init__(self, function: Callable[[Sample], float]) -> None:
        self._function = function

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Outcome:
        try:
            return Outcome(float(self._function(sample)))
        except Exception as fault:
            return Outcome(None, f"{type(fault).__name__}: {fault}"[:300])


def unusable(kind: str, why: str, remedy: str) -> Refusal:
    """The refusal of a reward whose options make no sense."""
    return Refusal(f"The reward '{kind}' cannot be used.", why, remedy)
