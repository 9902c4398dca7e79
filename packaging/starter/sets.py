"""Writes the built-in datasets of assets/data: seeded, so that the same files come out each time.

Training sets hold no held-out question; the two test sets hold nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

import sums
from skills import ARITHMETIC, REASONING, Question, Skill, distinct, questions
from talk import distinct_texts, lighthouse_story

SEED = 20261121
TRAINING_ROWS = 400
TEST_ROWS = 250
STORIES = 300
IN_THE_HEAD = 0.8
"""Share of the two-digit sums solved in one go."""

Row = dict[str, Any]


def built_in_sets() -> dict[str, list[Row]]:
    """Every built-in set by its name, as rows."""
    shown = _operands_in_sums()
    tested = _found("arithmetic-test", ARITHMETIC, TEST_ROWS, held_out=True, without=shown)
    asked = shown | {question.key for question in tested}
    others = _found("reasoning-test", REASONING, TEST_ROWS, held_out=True, without=asked)
    return {
        "arithmetic": _solved("arithmetic", _found("arithmetic", ARITHMETIC, TRAINING_ROWS)),
        "arithmetic-test": _solved("arithmetic-test", tested),
        "reasoning": _solved("reasoning", _found("reasoning", REASONING, TRAINING_ROWS)),
        "reasoning-test": _solved("reasoning-test", others),
        "preferences": _preferences(),
        "feedback": _feedback(),
        "stories": [{"text": text} for text in _stories()],
    }


def write_sets(folder: Path) -> None:
    """Writes each set as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in built_in_sets().items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    sums.write(folder)


def _operands_in_sums() -> set[str]:
    """The keys of what sums.jsonl asks, so that no test asks it too."""
    pairs = (re.findall(r"\d+", str(row["prompt"])) for row in sums.rows())
    return {" ".join(map(str, sorted(map(int, pair)))) for pair in pairs}


def _draw(name: str) -> Random:
    return Random(f"{SEED} {name}")


def _found(
    name: str,
    skills: dict[Skill, float],
    count: int,
    *,
    held_out: bool = False,
    without: Collection[str] = (),
) -> list[Question]:
    return distinct(questions(_draw(name), skills, held_out=held_out), count, without)


def _solved(name: str, found: list[Question]) -> list[Row]:
    """Prompt, answer and the solved chat: one file serves SFT and RL.

    As pupils do, most sums of two digits are done in the head and those of three are written down
    in columns. The model gets the former wrong that way, and can find out by reinforcement
    learning that writing down pays.
    """
    draw = _draw(f"{name} in the head")
    return [
        {
            "prompt": question.prompt,
            "answer": question.answer,
            "messages": [*_asked(question), *_said(_solution(draw, question))],
        }
        for question in found
    ]


def _solution(draw: Random, question: Question) -> str:
    in_the_head = draw.random() < IN_THE_HEAD and "two" in question.skill and question.quick
    if in_the_head:
        return f"<think>{question.quick}</think>\\boxed{{{question.answer}}}"
    return question.reply


def _asked(question: Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": question.prompt}]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _preferences() -> list[Row]:
    """Pairs of a right and a bad answer; bad ones are longer and shorter by turns, so that length
    tells nothing."""
    draw = _draw("preferences")
    rows: list[Row] = []
    lead = 0
    for question in distinct(_mixed(draw), TRAINING_ROWS):
        rejected = worse(draw, question, longer=lead > 0)
        lead += _sign(len(question.reply) - len(rejected))
        rows.append(
            {
                "prompt": _asked(question),
                "chosen": _said(question.reply),
                "rejected": _said(rejected),
                "answer": question.answer,
            }
        )
    return rows


def _feedback() -> list[Row]:
    """Single answers with a thumb up or down, half and half."""
    draw = _draw("feedback")
    rows: list[Row] = []
    lead = 0
    for number, question in enumerate(distinct(_mixed(draw), TRAINING_ROWS)):
        good = number % 2 == 0
        said = question.reply if good else worse(draw, question, longer=lead > 0)
        lead += _sign(len(question.reply) - len(said))
        rows.append(
            {
                "prompt": _asked(question),
                "completion": _said(said),
                "label": good,
                "answer": question.answer,
            }
        )
    return rows


def _mixed(draw: Random) -> Iterator[Question]:
    both = {skill: share for skills in (ARITHMETIC, REASONING) for skill, share in skills.items()}
    return questions(draw, both, held_out=False)


def _stories() -> list[str]:
    return distinct_texts(lighthouse_story, _draw("stories"), STORIES)


def worse(draw: Random, question: Question, *, longer: bool) -> str:
    """A bad answer: one in four right but in the wrong form, the others wrong.

    A wrong one is a sum done in the head, where the model itself goes wrong; or the worked steps
    with a slip, where `longer` asks for it after they had been right once.
    """
    if draw.random() < 0.25:
        return _misplaced(draw, question)
    wrong = wrong_answer(draw, question.answer)
    if longer:
        work = f"{question.work}, {_slip(draw, question)}"
    elif question.quick:
        work = question.quick.replace(question.answer, wrong)
    else:
        work = _slip(draw, question)
    return f"<think>{work}</think>\\boxed{{{wrong}}}"


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _misplaced(draw: Random, question: Question) -> str:
    """The box before the thinking, or the thinking left open; about as long as the right form."""
    box = f"\\boxed{{{question.answer}}}"
    if draw.random() < 0.5:
        return f"{box}<think>{question.work}</think>"
    return f"<think>{question.work}<think>{box}"


def _slip(draw: Random, question: Question) -> str:
    """The worked steps with one digit or letter gone wrong."""
    places = [match.start() for match in re.finditer(r"[0-9a-z]", question.work)]
    at = draw.choice(places)
    return question.work[:at] + _other(draw, question.work[at]) + question.work[at + 1 :]


def wrong_answer(draw: Random, answer: str) -> str:
    """A different answer of the same kind and length."""
    if answer in ("odd", "even"):
        return "even" if answer == "odd" else "odd"
    if ", " in answer:
        parts = answer.split(", ")
        one, two = draw.sample(range(len(parts)), 2)
        parts[one], parts[two] = parts[two], parts[one]
        return ", ".join(parts)
    at = draw.randrange(len(answer))
    return answer[:at] + _other(draw, answer[at], leading=at == 0) + answer[at + 1 :]


def _other(draw: Random, character: str, *, leading: bool = False) -> str:
    """Another digit for a digit, another letter for a letter."""
    if character.isdigit():
        near = [str((int(character) + by) % 10) for by in (1, 9, 2, 8)]
        return draw.choice([digit for digit in near if not (leading and digit == "0")])
    return draw.choice([letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != character])
