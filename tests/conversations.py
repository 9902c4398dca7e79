"""Conversations as rows, and as supervised fine-tuning takes them, for tests of tokens."""

from __future__ import annotations

from typing import Any

from workers.data.schema.row import Row
from workers.data.tokenize.encode import Example, encode


def row_of(messages: list[dict[str, Any]], **more: Any) -> Row:
    """A row whose last message is the completion."""
    return Row(prompt=messages[:-1], completion=messages[-1:], **more)


def example_of(
    messages: list[dict[str, Any]], tokenizer: Any, max_length: int, **options: Any
) -> Example:
    """A conversation as supervised fine-tuning takes it, truncated though nothing be left."""
    (encoding,) = encode(row_of(messages), "sft", tokenizer, **options)
    return encoding.truncate(max_length)
