"""What is wrong with the reference answers that rewards compare with."""

from __future__ import annotations

from collections.abc import Sequence

from workers.answers import boxes
from workers.data.audit.completions import in_question
from workers.data.schema.row import Row
from workers.protocol.bench import BenchFinding
from workers.rewards import EQUAL, Rewards
from workers.rewards.sample import Sample

CHECKED_ROWS = 64
COMPARES, MAY_COMPARE = {"answers"}, {"code", "gym", "models"}
"""Families of rewards that compare with the reference, and those that do as they like."""
LONGEST_WORDS = 12
"""A longer reference is no final answer but a text, which nobody repeats word for word."""
MOST, SOME = 0.5, 0.2
EXCERPT = 80


def reference_findings(rewards: Rewards, rows: Sequence[Row]) -> list[BenchFinding]:
    """Reference answers that no reward can check, and those that stand in their own question."""
    known = [row for row in rows if row.answer][:CHECKED_ROWS]
    found = [_unchecked(rewards, known), _given_away(known)] if known else []
    return [one for one in found if one is not None]


def _unchecked(rewards: Rewards, rows: Sequence[Row]) -> BenchFinding | None:
    """None where a reward may compare in ways of its own, or none compares at all."""
    if MAY_COMPARE & {*rewards.modules} or not COMPARES & {*rewards.modules}:
        return None
    lost = [row for row in rows if not _is_checked(rewards, row)]
    if not lost:
        return None
    return BenchFinding(
        kind="unchecked_answers", level="suspect" if len(lost) >= MOST * len(rows) else "advice",
        text=f"No reward can check the reference answer of {len(lost)} of {len(rows)} rows: a "
        f"right answer earns nothing. The first one is “{_excerpt(lost[0].answer)}”.",
        remedy="Bring the final answer alone in the answer column, or a reward that can compare "
        "with such texts.",
    )  # fmt: skip


def _is_checked(rewards: Rewards, row: Row) -> bool:
    """Whether a reward that compares pays for the row's final answer in a box."""
    final = _final(row.answer)
    if len(final.split()) > LONGEST_WORDS:
        return False
    sample = Sample(row.prompt, f"\\boxed{{{final}}}", row.answer, 1)
    scores = [
        scorer.score([sample])[0].value
        for module, scorer in zip(rewards.modules, rewards.scorers, strict=True)
        if module in COMPARES
    ]
    return any(score is not None and score > EQUAL for score in scores)


def _final(answer: str) -> str:
    """What a right completion comes to, of a reference that may be worked out: its last box, or
    what stands behind GSM8K's ####."""
    found = boxes(answer)
    return found[-1] if found else answer.rpartition("####")[2].strip()


def _given_away(rows: Sequence[Row]) -> BenchFinding | None:
    told = [row for row in rows if in_question(row)]
    if not told or len(told) < SOME * len(rows):
        return None
    return BenchFinding(
        kind="answer_in_question", level="advice",
        text=f"The reference answer of {len(told)} of {len(rows)} rows stands in their own "
        f"question, “{_excerpt(told[0].answer)}” for example: it can be copied.",
        remedy="Remove it from the questions, unless it is one of several to choose from.",
    )  # fmt: skip


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
