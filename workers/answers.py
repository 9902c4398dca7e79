"""What a completion finally says, and whether that is the reference answer.

The reference answer is the row's `answer`. Accuracy, the rewards for right answers and the audit
all compare here. Knows strings alone.
"""

from __future__ import annotations

import re
from typing import Any

PARSE_LIMIT_S = 2
LONGEST_FORMULA = 500
PLAIN_NUMBER = re.compile(r"[-+]?\d{1,15}")


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
    r"""The last `\boxed{}`; else, unless only boxes count, the last line after any thinking, of
    which nothing is an answer before it ends."""
    found = boxes(text)
    if found:
        return found[-1]
    if boxed_only or text.rfind("<think>") > text.rfind("</think>"):
        return None
    lines = [line.strip() for line in text.rpartition("</think>")[2].splitlines() if line.strip()]
    return lines[-1] if lines else None


def is_right(completion: str, reference: str, *, boxed_only: bool = False) -> bool:
    """Whether a completion's final answer is the reference: the measure of accuracy everywhere.

    Several different boxes are a bet on all of them, not an answer.
    """
    found = boxes(completion)
    said = final_answer(completion, boxed_only=boxed_only)
    if said is None or len(set(found)) > 1:
        return False
    return equal_as_mathematics(said, reference, boxed=bool(found))


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
