"""Plain text, whole or in segments of which some are learnt."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema.columns import SEGMENTS, TEXTS, ColumnStatistics, first_of
from workers.data.schema.fields import Fields
from workers.data.schema.found import Found, mapped
from workers.data.schema.row import Row, Segment


def find_text(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    name = first_of(keys, TEXTS)
    if not name:
        return None
    return Found(mapping=mapped(text=name), why=f"{name} is plain text.")


def read_text(fields: Fields) -> Row:
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RowFault("value", f'"{fields.name("text")}" must be text and not empty')
    return Row(text=text)


def find_segments(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    if SEGMENTS not in keys:
        return None
    why = f"{SEGMENTS} holds pieces of text, each with a label that says whether it is learnt."
    return Found(mapping=mapped(segments=SEGMENTS), why=why)


def read_segments(fields: Fields) -> Row:
    """Axolotl's input_output: pieces that stand as they are, without any template."""
    name, pieces = fields.name("segments"), fields.need("segments")
    if not isinstance(pieces, list) or not pieces:
        raise RowFault("value", f'"{name}" must be a list with at least one segment')
    segments = [_segment(number, piece) for number, piece in enumerate(pieces, start=1)]
    if not any(segment.trained and segment.text for segment in segments):
        raise RowFault("empty_answer", f'no segment of "{name}" is to be learnt')
    return Row(segments=segments)


def _segment(number: int, piece: Any) -> Segment:
    text = piece.get("text") if isinstance(piece, dict) else None
    label = piece.get("label") if isinstance(piece, dict) else None
    if not isinstance(text, str) or label not in (0, 1):
        raise RowFault("value", f"segment {number} must be a text with a label, true or false")
    return Segment(text=text, trained=bool(label))
