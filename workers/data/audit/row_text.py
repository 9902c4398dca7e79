"""The texts of a row that an audit compares."""

from __future__ import annotations

from workers.data.schema.row import Row


def text_of(row: Row) -> str:
    """Everything that user and assistant say, or the plain text."""
    if not row.prompt:
        return row.plain
    turns = [*row.prompt, *row.completion, *row.rejected]
    return "\n".join([turn["content"] for turn in turns if turn["role"] != "system"])


def prompt_of(row: Row) -> str:
    """What user and assistant say before the answer, or the plain text."""
    if not row.prompt:
        return row.plain
    return "\n".join([turn["content"] for turn in row.prompt if turn["role"] != "system"])


def completion_of(row: Row) -> str:
    """The completion, of a pair the chosen one; empty where there is none."""
    return row.completion[-1]["content"] if row.completion else ""


def system_of(row: Row) -> str:
    """The system message, or nothing."""
    first = row.prompt[0] if row.prompt else None
    return first["content"] if first is not None and first["role"] == "system" else ""
