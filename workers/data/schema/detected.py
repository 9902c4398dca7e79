"""What a dataset was taken for."""

from __future__ import annotations

import msgspec

from workers.protocol.recipe import Column, Stage


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset was taken for."""

    format: str
    """The name of its schema."""
    mapping: dict[str, Column]
    """Their columns to ours; a dot leads into a column of objects."""
    why: str
    """What decided it, in a sentence."""
    answer_too: bool = False
    """Whether the completion is also what a right one comes to, being short."""
    stages: list[Stage] = []
    """The stages that can learn from it."""
    unused: list[str] = []
    """Columns that are not looked at."""
