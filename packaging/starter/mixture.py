"""What the starter model reads: worked, hasty and plain answers, small talk, and stories.

The sums are mostly answered hastily, in one go, as a careless pupil would; the worked columns are
there too, but less often. So the skill lies ready and shows only a little: fine-tuning on worked
answers brings it out, and reinforcement learning makes it sure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from skills import ARITHMETIC, REASONING, Question, questions
from talk import SYSTEMS, exchange, story

SHARES = {"arithmetic": 0.55, "reasoning": 0.3, "talk": 0.1, "story": 0.05}
"""What share of the rows is of which kind."""
STYLES = {"quick": 0.6, "worked": 0.3, "plain": 0.1}
"""How the sums are answered."""
SYSTEM_SHARE = 0.15


@dataclass(frozen=True)
class Reading:
    """One row: a chat, or plain text when `answer` is empty."""

    system: str
    prompt: str
    answer: str


def readings(seed: str) -> Iterator[Reading]:
    """Endless rows of the mixture; no held-out question is among them."""
    draw = Random(seed)
    sums = questions(draw, ARITHMETIC, held_out=False)
    others = questions(draw, REASONING, held_out=False)
    while True:
        (kind,) = draw.choices(list(SHARES), list(SHARES.values()))
        if kind == "story":
            yield Reading("", story(draw), "")
            continue
        system = draw.choice(SYSTEMS) if draw.random() < SYSTEM_SHARE else ""
        if kind == "talk":
            yield Reading(system, *exchange(draw))
            continue
        question = next(sums if kind == "arithmetic" else others)
        yield Reading(system, question.prompt, _answer(draw, question))


def _answer(draw: Random, question: Question) -> str:
    """Sums in one of the styles; the other skills always worked."""
    if not question.quick:
        return question.reply
    (style,) = draw.choices(list(STYLES), list(STYLES.values()))
    if style == "worked":
        return question.reply
    if style == "quick":
        return f"<think>{question.quick}</think>\\boxed{{{question.answer}}}"
    return f"The answer is {question.answer}."
