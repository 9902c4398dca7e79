"""What a turn's flags say of its place in the loss.

Axolotl has `train`, `training` and `train_detail`, OpenAI `weight`, ms-swift `loss` and
`loss_scale`, LLaMA-Factory `loss_weight`; Axolotl's parts have `train` and `weight` too.
"""

from __future__ import annotations

import json
from typing import Any

from workers.data.read.fault import RowFault

OF_ANSWERS = ("weight", "loss", "loss_scale")
"""Flags that OpenAI and ms-swift heed in answers alone."""
FLAGS = ("train", "training", "loss_weight", *OF_ANSWERS)


def trained(number: int, role: str, message: dict[str, Any]) -> bool:
    """Whether a turn is in the loss: answers are and other turns are not, unless a flag says so.

    Raises:
        RowFault: a flag weighs the turn by halves, trains on a part of it, or contradicts another.
    """
    default = role == "assistant"
    said = {
        key: _flag(number, key, message[key])
        for key in FLAGS
        if message.get(key) is not None and (default or key not in OF_ANSWERS)
    }
    if len(set(said.values())) > 1:
        raise RowFault("loss_flags", f"message {number} has {' and '.join(said)} that disagree")
    whole = next(iter(said.values()), default)
    content = message.get("content", message.get("value"))
    if message.get("train_detail"):
        return _detail(number, message["train_detail"], content, whole)
    return _parts(number, content, whole) if isinstance(content, list) else whole


def unread(role: str, message: dict[str, Any]) -> set[str]:
    """Flags of a turn that nothing heeds: those of answers, beside a question."""
    if role == "assistant":
        return set()
    return {key for key in OF_ANSWERS if message.get(key)}


def _flag(number: int, key: str, value: Any) -> bool:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise RowFault(
        "loss_flags",
        f'message {number} has "{key}": {json.dumps(value, default=str)}; a turn is learnt or it '
        "is not, so write 1 or 0",
    )


def _parts(number: int, content: list[Any], whole: bool) -> bool:
    """What the flags of parts say of their turn; a part without one follows `whole`."""
    values = {_part(number, part, whole) for part in content if isinstance(part, dict)}
    if len(values) > 1:
        raise _partly(number, "train")
    return values.pop() if values else whole


def _part(number: int, part: dict[str, Any], whole: bool) -> bool:
    key = next((key for key in ("train", "weight") if part.get(key) is not None), "")
    return _flag(number, key, part[key]) if key else whole


def _detail(number: int, detail: Any, content: Any, whole: bool) -> bool:
    """What Axolotl's pieces, both offsets counted in, say of the whole turn."""
    letters = [whole] * (len(content) if isinstance(content, str) else 0)
    for piece in detail if isinstance(detail, list) else [detail]:
        if not isinstance(piece, dict):
            raise RowFault("loss_flags", f'message {number} has "train_detail" of no pieces')
        begin, end = piece.get("begin_offset"), piece.get("end_offset")
        if not isinstance(begin, int) or not isinstance(end, int) or not 0 <= begin <= end:
            raise RowFault("loss_flags", f'message {number} has "train_detail" without offsets')
        for at in range(begin, min(end + 1, len(letters))):
            letters[at] = bool(piece.get("train"))
    if len(set(letters)) > 1:
        raise _partly(number, "train_detail")
    return letters[0] if letters else whole


def _partly(number: int, key: str) -> RowFault:
    return RowFault(
        "loss_flags",
        f'message {number} has "{key}" for parts of it alone; a turn is learnt whole or not at '
        "all, and rows of segments can be masked piece by piece",
    )
