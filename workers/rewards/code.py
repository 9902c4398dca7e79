"""Rewards that run code in the sandbox: the user's own function, and tests of a model's answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from workers.protocol.refusal import Refusal
from workers.protocol.rewards import CodeTests, Python
from workers.rewards.sample import Sample, Scorer
from workers.rewards.sandbox import Outcome, Sandbox, bubblewrap

FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)


def build(reward: Python | CodeTests, _home: Path, stack: ExitStack) -> Scorer:
    bwrap = bubblewrap()
    if isinstance(reward, Python):
        sandbox = stack.enter_context(Sandbox("reward", reward.code, reward.memory_mb, bwrap))
        sandbox.check()
        return Own(sandbox, reward.seconds)
    if bwrap is None and not reward.without_bubblewrap:
        raise Refusal(
            "Code written by a model is not run without bubblewrap.",
            "It is not installed or not allowed here, so the code could read and change files.",
            "Install bubblewrap (Linux only), or set rewards.without_bubblewrap = true if you "
            "accept that.",
        )
    sandbox = stack.enter_context(Sandbox("tests", "", reward.memory_mb, bwrap))
    return Tests(sandbox, reward.seconds)


class Own:
    """The user's own `reward(prompt, completion, answer)`."""

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        self._sandbox = sandbox
        self._seconds = seconds

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        calls = [
            {"prompt": sample.question, "completion": sample.completion, "answer": sample.answer}
            for sample in samples
        ]
        return self._sandbox.run(calls, self._seconds)


class Tests:
    """The share of the row's tests that the answer's code passes."""

    __test__ = False

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        self._sandbox = sandbox
        self._seconds = seconds

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        calls = [
            {"completion": code_of(sample.completion), "answer": sample.answer}
            for sample in samples
        ]
        outcomes = self._sandbox.run(calls, self._seconds)
        # Code that fails is a wrong answer, not a broken reward.
        return [Outcome(out.value or 0.0, out.fault) for out in outcomes]


def code_of(text: str) -> str:
    """The last fenced block after any thinking, or the whole of it."""
    said = text.rpartition("</think>")[2]
    fenced = FENCE.findall(said)
    return fenced[-1] if fenced else said
