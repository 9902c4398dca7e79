"""The names of columns that are known, and what the first rows tell of the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from workers.data.schema.transcripts import is_transcript

CONVERSATIONS = ("messages", "conversations", "conversation")
NESTED_TALK = "input.messages"
"""Where OpenAI's preference data has it."""
CHOSEN = ("chosen", "chosen_response", "chosen_messages", "preferred_output")
REJECTED = (
    "rejected", "rejected_response", "rejected_messages", "rejected_message",
    "non_preferred_output",
)  # fmt: skip
"""A worse answer: by TRL, by the hub, ms-swift and LLaMA-Factory, by OpenPipe, by OpenAI."""
PROMPTS = ("prompt", "question", "problem", "query", "instruction", "input", "user")
CONTEXTS = ("input", "context", "article")
"""What an instruction may be followed by and, but for the first, a question go by."""
COMPLETIONS = (
    "completion", "response", "output", "generated_solution", "assistant", "target", "generation",
)  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where the thinking before a completion stands, in words; elsewhere a switch goes by that name."""
CALLED = "answers"
"""xLAM's calls of tools, beside their definitions."""
ANSWERS = ("answer", "expected_answer", "final_answer", "ground_truth", "reference_answer")
NESTED_ANSWER = "reward_model.ground_truth"
"""Where DAPO's and verl's sets keep it."""
LABELS = ("label", "kto_tag")
"""Where it stands whether an answer is good."""
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tools", "functions", "input.tools")
NESTED = (NESTED_ANSWER, NESTED_TALK, "input.tools")
"""Columns inside others that are looked for."""
TRANSCRIPT = "chat"
"""Where glaive's sets have a conversation as one text."""
TEXTS = ("text", "content")
SEGMENTS = "segments"
ASKING = ("user", "human")
"""Roles of whoever asks."""
LONG = 100
"""Characters beyond which an answer is a completion, as is one of several lines."""


class ColumnStatistics(msgspec.Struct, frozen=True):
    """What the first rows tell beyond the names of their columns."""

    filled: frozenset[str] = frozenset()
    """Columns that hold anything."""
    long: frozenset[str] = frozenset()
    """Columns with long text or text of several lines."""
    texts: frozenset[str] = frozenset()
    """Columns that hold text throughout."""
    labels: frozenset[str] = frozenset()
    """Columns that are true or false throughout; those called a label may be 1 and 0 too, which in
    others may mean anything."""
    wordy: frozenset[str] = frozenset()
    """Columns that hold conversations or, somewhere, text of several words."""
    transcripts: frozenset[str] = frozenset()
    """Columns that hold conversations as one text."""
    asking: frozenset[str] = frozenset()
    """Columns of conversations most of which end with a question."""
    unanswered: frozenset[str] = frozenset()
    """Columns of conversations most of which have no answer at all."""


MOST_CELLS = 200_000
"""Looked at in all, so that rows of very many columns do not take minutes."""


def statistics_of(rows: Sequence[Mapping[str, Any]]) -> ColumnStatistics:
    """Looks at the first rows."""
    long: set[str] = set()
    wordy: set[str] = set()
    transcripts: set[str] = set()
    texts: dict[str, bool] = {}
    labels: dict[str, bool] = {}
    ends: dict[str, list[tuple[bool, bool]]] = {}
    most = MOST_CELLS // max([1, *map(len, rows)])
    for row in rows[: max(1, most)]:
        for name, value in row.items():
            if value is None:
                continue
            if isinstance(value, str) and (len(value) > LONG or "\n" in value.strip()):
                long.add(name)
            if _is_wordy(value):
                wordy.add(name)
            if name == TRANSCRIPT and isinstance(value, str) and is_transcript(value):
                transcripts.add(name)
            texts[name] = texts.get(name, True) and isinstance(value, str)
            labels[name] = labels.get(name, True) and _is_label(name, value)
            if name in CONVERSATIONS and (roles := _roles(value)):
                end = roles[-1] in ASKING, is_unanswered(value)
                ends.setdefault(name, []).append(end)
    return ColumnStatistics(
        filled=frozenset(texts),
        long=frozenset(long),
        wordy=frozenset(wordy),
        transcripts=frozenset(transcripts),
        texts=frozenset(name for name, text in texts.items() if text),
        labels=frozenset(name for name, label in labels.items() if label),
        asking=frozenset(name for name, seen in ends.items() if _most(asks for asks, _ in seen)),
        unanswered=frozenset(name for name, seen in ends.items() if _most(no for _, no in seen)),
    )


def _is_wordy(value: Any) -> bool:
    if isinstance(value, str):
        return " " in value.strip()
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)


def _is_label(name: str, value: Any) -> bool:
    words = ("true", "false", "1", "0", "1.0", "0.0") if name in LABELS else ("true", "false")
    return isinstance(value, bool) or str(value).lower() in words


def _roles(value: Any) -> list[Any]:
    """Who speaks in a conversation; nobody in anything else."""
    turns = value if isinstance(value, list) else []
    return [turn.get("role") or turn.get("from") for turn in turns if isinstance(turn, dict)]


def is_unanswered(value: Any) -> bool:
    """Whether a conversation has no answer at all."""
    roles = _roles(value)
    return bool(roles) and all(role in (*ASKING, "system", "developer") for role in roles)


def _most(said: Iterable[bool]) -> bool:
    found = list(said)
    return sum(found) * 2 > len(found)


def first_of(keys: Collection[str], names: Iterable[str]) -> str:
    """The first of these names that is there; empty where none is."""
    return next((name for name in names if name in keys), "")


def columns_of(item: dict[str, Any]) -> list[str]:
    """The columns that a row fills, the nested one that is known among them."""
    filled = [name for name, value in item.items() if value is not None]
    filled += [name for name in NESTED if picked(item, name) is not None]
    return filled


def picked(item: dict[str, Any], name: str) -> Any:
    """A column's value; a dot leads into an object unless a column is called just so."""
    if name in item or "." not in name:
        return item.get(name)
    outer, _, inner = name.partition(".")
    value = item.get(outer)
    return picked(value, inner) if isinstance(value, dict) else None


SHOWN = 12
"""Columns that a fault names."""


def listed(names: Iterable[str]) -> str:
    """Names of columns as they stand in a sentence, the first of them where they are many."""
    found = sorted(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(found[:SHOWN]) or 'none'}{more}"
