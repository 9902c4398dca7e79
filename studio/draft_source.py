"""A dataset of the recipe being made, and what was typed of it; without a toolkit."""

from __future__ import annotations

import math

import msgspec

from workers.protocol.options import text_of
from workers.protocol.recipe import Source


class DraftSource(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset of the mixture, and what was typed of it."""

    given: Source
    """As it was added or opened."""
    weight: str
    limit: str
    licence: str

    @property
    def source(self) -> str:
        return self.given.source

    @property
    def share(self) -> float | None:
        """Its weight; None where what was typed is no number above 0."""
        try:
            weight = float(self.weight)
        except ValueError:
            return None
        return weight if 0 < weight < math.inf else None

    @property
    def most_rows(self) -> int | None:
        """Rows at most, 0 for all; None where what was typed is no whole number."""
        typed = self.limit.replace(",", "").strip()
        return int(typed or 0) if not typed or typed.isdecimal() else None

    @property
    def value(self) -> Source:
        """As a recipe has it; what cannot be used counts as left out."""
        return msgspec.structs.replace(
            self.given,
            weight=self.share or 1.0,
            limit=self.most_rows or 0,
            licence=self.licence.strip(),
        )


def draft_source(source: Source) -> DraftSource:
    """A dataset as a recipe has it, to be changed."""
    return DraftSource(
        given=source,
        weight=text_of(source.weight),
        limit=str(source.limit or ""),
        licence=source.licence,
    )
