"""The names of columns that are known, and what the first rows tell of the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

CONVERSATIONS = ("messages", "conversations", "conversation")
CHOSEN, REJECTED = ("chosen", "chosen_response"), ("rejected", "rejected_response")
PROMPTS = ("prompt", "question", "problem", "query", "instruction", "input", "user")
CONTEXTS = ("input", "context")
"""What an instruction may be followed by."""
COMPLETIONS = ("completion", "response", "output", "generated_solution", "assistant", "target")
ANSWERS = ("answer", "expected_answer", "final_answer", "ground_truth")
NESTED_ANSWER = "reward_model.ground_truth"
"""Where DAPO's and verl's sets keep it."""
TOOLS = ("tools",)
LABELS = ("label", "kto_tag")
"""Where it stands whether an answer is good."""
SYSTEMS = ("system", "system_prompt")
TEXTS = ("text", "content")
LONG = 100
"""Characters beyond which an answer is a completion, as is one of several lines."""


class ColumnStatistics(msgspec.Struct, frozen=True):
    """What the first rows tell beyond the names of their columns."""

    long: frozenset[str] = frozenset()
    """Columns with long text or text of several lines."""
    labels: frozenset[str] = frozenset()
    """Columns that are true or false throughout; 1 and 0 may mean anything."""


def statistics_of(rows: Iterable[Mapping[str, Any]]) -> ColumnStatistics:
    """Looks at the first rows."""
    long: set[str] = set()
    labels: dict[str, bool] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and (len(value) > LONG or "\n" in value.strip()):
                long.add(name)
            if value is not None:
                labels[name] = labels.get(name, True) and (
                    isinstance(value, bool) or str(value).lower() in ("true", "false")
                )
    return ColumnStatistics(
        frozenset(long), frozenset(name for name, label in labels.items() if label)
    )


def first_of(keys: Collection[str], names: Iterable[str]) -> str:
    """The first of these names that is there; empty where none is."""
    return next((name for name in names if name in keys), "")


def columns_of(item: dict[str, Any]) -> list[str]:
    """The columns that a row fills, the nested one that is known among them."""
    filled = [name for name, value in item.items() if value is not None]
    if picked(item, NESTED_ANSWER) is not None:
        filled.append(NESTED_ANSWER)
    return filled


def picked(item: dict[str, Any], name: str) -> Any:
    """A column's value; a dot leads into an object unless a column is called just so."""
    if name in item or "." not in name:
        return item.get(name)
    outer, _, inner = name.partition(".")
    value = item.get(outer)
    return picked(value, inner) if isinstance(value, dict) else None
