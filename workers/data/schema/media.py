"""What stands beside a row's text and cannot be learnt so far: pictures, sound and video."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from workers.data.read.fault import RowFault

_KINDS = ("image", "images", "audio", "audios", "video", "videos")
MEDIA = frozenset((*_KINDS, *(f"rejected_{kind}" for kind in _KINDS)))
"""Columns of a row, and keys of a turn, with what goes beside the text; ms-swift has more of them
for a rejected answer."""


def check_media(holder: dict[str, Any], known: Collection[str] = ()) -> None:
    """Refuses pictures, sound and video beside the text, by the name of their column.

    The column decides and not the text: a marker such as <image> stands for a picture where one
    comes along, and is a word like any other where somebody asks about HTML.

    Args:
        holder: a row or a turn.
        known: columns that are mapped, so that what they hold is text.
    """
    for name in sorted(MEDIA & holder.keys()):
        if name not in known and filled(holder[name]):
            raise RowFault(
                "media", f'"{name}" holds more than the text, and only text can be learnt so far'
            )


def filled(value: Any) -> bool:
    """Whether anything is in a value; Arrow pads lists and objects with nulls."""
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(filled, value)) if isinstance(value, list) else bool(value)
