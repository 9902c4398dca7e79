"""One row, whatever its schema was."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from workers.data.schema.messages import Message

THOUGHT = re.compile(r"\s*<think>(?!\s*</think>)")
"""How an answer begins that has its thinking at its head; Qwen3 writes an empty one where it is
asked not to think."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of text that stands in a row as it is, special tokens and all."""

    text: str
    trained: bool
    """Whether it is in the loss."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row, whatever its schema was: prompt, completion, and what is right.

    `prompt` ends with the user's turn and is empty for plain text. A chat with several turns has
    all but the last answer in its prompt.
    """

    prompt: list[Message] = []
    completion: list[Message] = []
    """The assistant's turn; the chosen one of a pair."""
    rejected: list[Message] = []
    """The rejected completion of a pair."""
    label: bool | None = None
    """Whether the completion is desirable (KTO)."""
    answer: str = ""
    """The reference answer, which a right completion comes to."""
    text: str = ""
    tools: list[dict[str, Any]] = []
    """Definitions of the tools that the conversation may call."""
    segments: list[Segment] = []
    """Pieces of text without a template, in order; then there is nothing else in the row."""

    @property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return [*self.prompt, *self.completion]

    @property
    def thinks(self) -> bool:
        """Whether an answer comes with thinking, beside it or at its head; an empty thought is
        none."""
        answers = [turn for turn in (*self.messages, *self.rejected) if turn["role"] == "assistant"]
        return any(
            turn.get("reasoning_content") or THOUGHT.match(turn["content"]) for turn in answers
        )

    @property
    def plain(self) -> str:
        """What a row says that is no conversation: its text, or its segments in one."""
        return self.text or "".join([segment.text for segment in self.segments])

    @property
    def uses_tools(self) -> bool:
        """Whether a model's template must know of tools to show the conversation."""
        turns = [*self.messages, *self.rejected]
        return bool(self.tools) or any(
            turn["role"] == "tool" or "tool_calls" in turn for turn in turns
        )
