"""Rewards for a right final answer: as mathematics, as text, as a choice, by a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from workers.answers import final_answer, is_right
from workers.protocol.rewards import Match, MathAnswer
from workers.rewards.sample import Each, Sample, Scorer, unusable

PATTERN_LIMIT_S = 1.0
CHOICE = re.compile(r"\b([A-Z])\b")


def build(reward: MathAnswer | Match, _home: Path, _stack: ExitStack) -> Scorer:
    if isinstance(reward, MathAnswer):
        return Each(lambda sample: math_score(sample, boxed_only=reward.boxed_only))
    return Each(matcher(reward))


def math_score(sample: Sample, *, boxed_only: bool) -> float:
    if not sample.answer.strip():
        raise ValueError("the row has no answer to compare with")
    return float(is_right(sample.completion, sample.answer, boxed_only=boxed_only))


def matcher(reward: Match) -> Callable[[Sample], float]:
    """The function for one mode of `match`."""

    def fold(text: str) -> str:
        tidy = " ".join(text.split())
        return tidy if reward.case_sensitive else tidy.casefold()

    def right(sample: Sample) -> str:
        if not sample.answer.strip():
            raise ValueError("the row has no answer to compare with")
        return fold(sample.answer)

    match reward.mode:
        case "exact":
            return lambda sample: fold(final_answer(sample.completion) or "") == right(sample)
        case "contains":
            return lambda sample: right(sample) in fold(sample.completion)
        case "choice":
            return lambda sample: _choice(sample.completion) == sample.answer.strip().upper()
    if not reward.pattern:
        raise unusable("match", "mode = 'regex' needs a pattern.", "Set rewards.pattern.")
    found = compiled("match", reward.pattern, ignore_case=not reward.case_sensitive)

    def by_pattern(sample: Sample) -> float:
        hits = list(found.finditer(sample.completion, timeout=PATTERN_LIMIT_S))
        if not hits:
            return 0.0
        return fold(hits[-1].group(1) or "") == right(sample) if found.groups else 1.0

    return by_pattern


def _choice(text: str) -> str:
    """The option letter of the final answer; empty when there is none or there are several."""
    said = set(CHOICE.findall((final_answer(text) or "").upper()))
    return said.pop() if len(said) == 1 else ""


def compiled(kind: str, pattern: str, *, ignore_case: bool = False) -> Any:
    """A pattern of the `regex` library, whose searches take a time limit.

    A single backslash before `boxed` is meant as one: in a regular expression it would be a word
    boundary, which nobody wants there.
    """
    import regex

    flags = regex.DOTALL | (regex.IGNORECASE if ignore_case else 0)
    try:
        return regex.compile(re.sub(r"(?<!\\)\\boxed", r"\\\\boxed", pattern), flags)
    except regex.error as fault:
        raise unusable(
            kind, f"Its pattern is no regular expression: {fault}.", "Mend rewards.pattern."
        ) from None
