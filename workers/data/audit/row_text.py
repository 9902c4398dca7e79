"""The texts of a row that an audit compares."""

from __future__ import annotations

import json

from workers.data.schema.messages import Message
from workers.data.schema.row import Row


def said(turn: Message) -> str:
    """What a turn says, and below it the tools that it calls, each with its arguments as JSON."""
    calls = [call["function"] for call in turn.get("tool_calls", ())]
    told = [f"{one['name']} {json.dumps(one['arguments'], sort_keys=True)}" for one in calls]
    return "\n".join(filter(None, (turn["content"], *told)))


def text_of(row: Row) -> str:
    """Everything that user and assistant say, or the plain text."""
    if not row.prompt:
        return row.plain
    turns = [*row.prompt, *row.completion, *row.rejected]
    return "\n".join([said(turn) for turn in turns if turn["role"] != "system"])


def prompt_of(row: Row) -> str:
    """What user and assistant say before the answer, or the plain text."""
    if not row.prompt:
        return row.plain
    return "\n".join([said(turn) for turn in row.prompt if turn["role"] != "system"])


def completion_of(row: Row) -> str:
    """The completion, of a pair the chosen one; empty where there is none."""
    return said(row.completion[-1]) if row.completion else ""


def system_of(row: Row) -> str:
    """The system message, or nothing."""
    first = row.prompt[0] if row.prompt else None
    return first["content"] if first is not None and first["role"] == "system" else ""
