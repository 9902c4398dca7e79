"""How many parameters a model has, as far as its name tells: defaults are chosen by that."""

from __future__ import annotations

import re

from workers.protocol.sources import HUB_MODEL
from workers.protocol.stages import PARAMETERS

MOST_ON_CPU = 500_000_000
"""Weights of the largest model that is sensibly trained without a GPU."""
_BILLIONS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)b(?![A-Za-z0-9])", re.IGNORECASE)
"""A size as ids on the hub state it: 14B in Qwen3-14B, 30B in Qwen3-30B-A3B."""


def parameters_of(root: str) -> int | None:
    """Of a model that is no run: from the program, the catalogue, or the size that an id on the hub
    states; None where that is not known."""
    if root in PARAMETERS:
        return PARAMETERS[root]
    if not HUB_MODEL.fullmatch(root):
        return None
    from workers.protocol.catalogue import known_model  # which knows recipes, and they know this

    entry = known_model(root)
    if entry is not None:
        return round(entry.parameters_billion * 1e9)
    stated = _BILLIONS.search(root)
    return round(float(stated[1]) * 1e9) if stated else None
