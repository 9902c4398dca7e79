"""Rows of every kind that a stage takes: single and multi-turn, system, tools, thinking, long."""

from __future__ import annotations

from typing import Any

from workers.data.reader import Row, serves
from workers.protocol.recipe import Stage
from workers.protocol.stages import STAGES

WORDS = "boat lamp reef storm crew rope sail wind tide gull größer 🦊 数".split()  # noqa: SIM905
TOOLS = [{"type": "function", "function": {
    "name": "tide", "description": "The tide at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
}}]  # fmt: skip
ROWS = 200


def said(number: int, words: int) -> str:
    return " ".join(WORDS[(number * 7 + at * (1 + number % 5)) % len(WORDS)] for at in range(words))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def prompt_of(number: int) -> list[dict[str, Any]]:
    """One turn or several, with and without a system turn; one in ten fills MAX_LENGTH alone."""
    turns: list[dict[str, Any]] = []
    if number % 3 == 0:
        turns.append({"role": "system", "content": f"Be brief. {said(number, 2)}"})
    for turn in range(number % 4 // 2 * (1 + number % 2)):
        turns += [user(f"{number}.{turn}: {said(number, 3)}?"), assistant(said(number + 1, 2))]
    return [*turns, user(f"{number}: {said(number, 60 if number % 10 == 9 else 4)}?")]


def answer_of(number: int) -> list[dict[str, Any]]:
    """Short, long, with thinking, or of several lines."""
    text = said(number + 3, 70 if number % 6 == 5 else 1 + number % 9)
    if number % 5 == 2:
        text = f"<think>{said(number, 4)}</think>\n{text}"
    if number % 7 == 3:
        text = f"{text}\n\nSo: {number}"
    return [assistant(text)]


def tool_row(number: int) -> Row:
    call = {
        "type": "function",
        "function": {"name": "tide", "arguments": {"place": WORDS[number % 5]}},
    }
    turns = [
        user(f"{number}: high?"), assistant("") | {"tool_calls": [call]},
        {"role": "tool", "content": f"{number} m"},
    ]  # fmt: skip
    return Row(prompt=turns, completion=[assistant("High.")], tools=TOOLS)


def rows_for(stage: Stage, *, tools: bool = False) -> list[Row]:
    """200 rows that a stage can learn from."""
    made = []
    for number in range(ROWS):
        prompt, answer = prompt_of(number), answer_of(number)
        match STAGES[stage].supervision:
            case "text":
                made.append(Row(text=said(number, 5 + number)))
            case "prompts":
                made.append(Row(prompt=prompt, answer="1"))
            case "completions" if tools and number % 8 == 1:
                made.append(tool_row(number))
            case "completions":
                made.append(Row(prompt=prompt, completion=answer))
            case "labels" if number % 2:
                made.append(Row(prompt=prompt, completion=answer, label=number % 4 == 1))
            case _:
                rejected = [assistant(f"{said(number + 5, 1 + number % 4)} no")]
                made.append(Row(prompt=prompt, completion=answer, rejected=rejected))
    assert all(serves(row, stage) for row in made)
    return made
