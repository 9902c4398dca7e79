"""The YAML head of a dataset's card, as the hub reads it."""

from __future__ import annotations

from typing import Any

CARD = "README.md"


def head_of(card: str) -> dict[str, Any]:
    """What the head of a card states; empty where there is none, or none that can be read."""
    if not card.lstrip().startswith("---"):
        return {}
    from huggingface_hub import DatasetCard
    from yaml import YAMLError

    try:
        return DatasetCard(card, ignore_metadata_errors=True).data.to_dict()
    # A date that is none is a ValueError, a key that is no word a TypeError.
    except (YAMLError, ValueError, TypeError, RecursionError):
        return {}
