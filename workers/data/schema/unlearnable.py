"""Rows that are refused by name: no stage learns from them as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workers.data.read.fault import RowFault
from workers.data.schema.columns import CONVERSATIONS, LABELS, first_of, is_unanswered
from workers.data.schema.media import MEDIA, check_media, filled

WEIGHTS = ("weight", "sample_weight", "loss_weight")
"""Columns that weigh a row in the loss."""
CHOICES = ("choices", "options")
"""Columns with the answers that a question leaves to choose from."""
SUSPECT = frozenset((
    *MEDIA, *WEIGHTS, *CHOICES, *LABELS, "chat_template_kwargs", "input_ids", "completions",
))  # fmt: skip
"""Columns of the rows that may be refused by name."""


def check_learnable(item: dict[str, Any], mapping: Mapping[str, str], *, by_hand: bool) -> None:
    """Refuses a row that means more than what is read of it.

    Pictures, sound and video beside the text are refused always; a column that changes what a row
    means otherwise is passed over where somebody has mapped the columns by hand without it.

    Raises:
        RowFault: what the row has, and what to do.
    """
    check_media(item, mapping)
    if by_hand:
        return
    settings = item.get("chat_template_kwargs")
    if isinstance(settings, dict) and any(value is not None for value in settings.values()):
        raise RowFault(
            "value",
            '"chat_template_kwargs" asks for other settings of the chat template than the run has; '
            "settings are the run's, such as model.thinking",
        )
    for name in WEIGHTS:
        if name not in mapping and _weighs(item.get(name)):
            raise RowFault(
                "loss_flags",
                f'"{name}" is {item[name]}, and all rows weigh alike; repeat a row or leave it out',
            )
    for name in CHOICES:
        if name not in mapping and isinstance(item.get(name), list) and filled(item[name]):
            raise RowFault(
                "value", f'"{name}" lists what to choose from; write it into the question'
            )


def _weighs(value: Any) -> bool:
    """Whether a value is a weight other than 1."""
    if isinstance(value, bool) or value is None:
        return False
    try:
        weight = float(value)
    except (TypeError, ValueError):
        return False
    return weight != 1 and not math.isnan(weight)


def name_of(item: Mapping[str, Any]) -> str:
    """What a row without a schema is, and why it cannot be learnt from; empty where nobody knows.

    Token ids belong to one tokenizer. Labels of steps (TRL's stepwise supervision) and of whole
    texts (classification) are learnt by models that answer with a number.
    """
    if isinstance(item.get("input_ids"), list):
        return "it holds token ids, which belong to one tokenizer; bring the text"
    if isinstance(item.get("completions"), list) and isinstance(item.get("labels"), list):
        return "it holds labels for steps (stepwise supervision), which no stage learns from"
    label, talk = (item.get(first_of(item, names)) for names in (LABELS, CONVERSATIONS))
    if label is not None and talk and is_unanswered(talk):
        return "it holds a label in place of an answer (classification), which no stage learns from"
    return ""
