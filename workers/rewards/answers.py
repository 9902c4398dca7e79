"""Rewards for a right final answer: as mathematics, as text, as a choice, by a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.protocol.rewards import Match, MathAnswer
from workers.rewards.sandbox import Outcome

if TYPE_CHECKING:
    from workers.rewards import Sample, Scorer

PATTERN_LIMIT_S = 1.0
PARSE_LIMIT_S = 2
LONGEST_FORMULA = 500
PLAIN_NUMBER = re.compile(r"[-+]?\d{1,15}")
CHOICE = re.compile(r"\b([A-Z])\b")


def build(reward: MathAnswer | Match, _home: Path, _stack: ExitStack) -> Scorer:
    if isinstance(reward, MathAnswer):
        return Each(lambda sample: math_score(sample, boxed_only=reward.boxed_only))
    return Each(matcher(reward))


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


def boxes(text: str) -> list[str]:
    r"""What stands in each `\boxed{}`, braces inside it balanced; an unclosed one is left out."""
    found: list[str] = []
    for start in re.finditer(r"\\boxed\s*\{", text):
        depth = 1
        for at in range(start.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                found.append(text[start.end() : at].strip())
                break
    return found


def final_answer(text: str, *, boxed_only: bool = False) -> str | None:
    r"""The last `\boxed{}`; else, unless only boxes count, the last line after any thinking."""
    found = boxes(text)
    if found:
        return found[-1]
    if boxed_only:
        return None
    lines = [line.strip() for line in text.rpartition("</think>")[2].splitlines() if line.strip()]
    return lines[-1] if lines else None


def math_score(sample: Sample, *, boxed_only: bool) -> float:
    if not sample.answer.strip():
        raise ValueError("the row has no answer to compare with")
    said = final_answer(sample.completion, boxed_only=boxed_only)
    if said is None:
        return 0.0
    # Several different boxes are a bet on all of them, not an answer.
    if len(set(boxes(sample.completion))) > 1:
        return 0.0
    return float(equal_as_mathematics(said, sample.answer, boxed=bool(boxes(sample.completion))))


def equal_as_mathematics(said: str, right: str, *, boxed: bool = True) -> bool:
    """Whether two answers are the same value, set or text.

    Equal texts and plain whole numbers are settled at once; all else goes to math-verify
    (Kydlíček 2025), which parses both with SymPy under a time limit.
    """
    said, right = said.strip(), right.strip()
    if said == right:
        return True
    if PLAIN_NUMBER.fullmatch(said) and PLAIN_NUMBER.fullmatch(right):
        return int(said) == int(right)
    if len(said) > LONGEST_FORMULA or not said:
        return False
    return _verified(said, right, boxed=boxed)


def _verified(said: str, right: str, *, boxed: bool) -> bool:
    from math_verify import parse, verify

    def parsed(text: str, as_box: bool) -> Any:
        shown = f"\\boxed{{{text}}}" if as_box else text
        return parse(shown, parsing_timeout=PARSE_LIMIT_S, raise_on_error=False)

    return bool(
        verify(parsed(right, True), parsed(said, boxed), timeout_seconds=PARSE_LIMIT_S,
               raise_on_error=False)
    )  # fmt: skip


def is_right(completion: str, answer: str) -> bool:
    """Whether a completion's final answer is the row's: the measure of accuracy everywhere."""
    said = final_answer(completion)
    if said is None or len(set(boxes(completion))) > 1:
        return False
    return equal_as_mathematics(said, answer, boxed=bool(boxes(completion)))


def matcher(reward: Match) -> Callable[[Sample], float]:
    """The function for one mode of `match`."""
    from workers.rewards import unusable

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

    from workers.rewards import unusable

    flags = regex.DOTALL | (regex.IGNORECASE if ignore_case else 0)
    try:
        return regex.compile(re.sub(r"(?<!\\)\\boxed", r"\\\\boxed", pattern), flags)
    except regex.error as fault:
        raise unusable(
            kind, f"Its pattern is no regular expression: {fault}.", "Mend rewards.pattern."
        ) from None
