"""Checks of an answer's text: is it empty, is its thinking closed, does it end as it should?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.answers import boxes, is_right
from workers.data.schema.messages import Message
from workers.data.schema.row import Row

NOTHING = {"nan", "null", "none", "undefined", "[deleted]", "[removed]", "..."}
"""What exports from spreadsheets and forums write where nothing is."""
NO_ANSWER = NOTHING - {"none", "null", "undefined"}
"""Without what may well be the right answer."""
SHORT = 16
TELLING = 3
"""Characters from which a reference answer in a question tells something."""


def asks_something(prompt: Sequence[Message]) -> bool:
    """Whether a prompt ends with a question, and not with what stands for nothing."""
    text = prompt[-1]["content"].strip() if prompt else ""
    return bool(text) and not (len(text) < SHORT and text.casefold() in NOTHING)


def in_question(row: Row) -> bool:
    """Whether the reference answer stands, as words of its own, in what is asked last; a letter or
    a number of two digits stands anywhere by chance."""
    answer = " ".join(row.answer.split()).casefold()
    if len(answer) < TELLING or not row.prompt:
        return False
    asked = " ".join(row.prompt[-1]["content"].split()).casefold()
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", asked) is not None


def is_empty(text: str) -> bool:
    """Whether an answer says nothing beside its thinking."""
    said = text.rpartition("</think>")[2].strip() if "</think>" in text else text.strip()
    if not said:  # an answer may stand before its thinking
        said = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    return not said or (len(said) < SHORT and said.casefold() in NO_ANSWER)


def is_unclosed(text: str) -> bool:
    """Whether the marks of thinking do not open and close in turn."""
    marks = re.findall(r"</?think>", text)
    return len(marks) % 2 == 1 or any(
        mark != ("<think>", "</think>")[at % 2] for at, mark in enumerate(marks)
    )


def agrees(text: str, reference: str) -> bool:
    r"""Whether the last `\boxed{}` comes to the row's answer; symbols are compared last."""
    found = boxes(text)
    if not found or _bare(found[-1]) == _bare(reference):
        return bool(found)
    final = reference.rpartition("####")[2]  # GSM8K's way to end a worked answer
    if _bare(found[-1]) == _bare(final):
        return True
    return is_right(text, final.strip(), boxed_only=True)


def _bare(text: str) -> str:
    return re.sub(r"[\s$,]|\\[!,;]", "", text).casefold()
