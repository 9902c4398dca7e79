"""The texts of a row that an audit compares."""

from __future__ import annotations

from workers.data.schema.row import Row


def said(row: Row) -> str:
    """Everything that user and assistant say, or the plain text."""
    if row.text:
        return row.text
    turns = [*row.prompt, *row.completion, *row.rejected]
    return "\n".join([turn["content"] for turn in turns if turn["role"] != "system"])


def asked(row: Row) -> str:
    """What user and assistant say before the answer, or the plain text."""
    if row.text:
        return row.text
    return "\n".join([turn["content"] for turn in row.prompt if turn["role"] != "system"])


def answer(row: Row) -> str:
    return row.completion[-1]["content"] if row.completion else ""


def system_of(row: Row) -> str:
    first = row.prompt[0] if row.prompt else None
    return first["content"] if first is not None and first["role"] == "system" else ""
