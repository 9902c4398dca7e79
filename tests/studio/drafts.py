"""Drafts to begin with: of any stage, on the built-in sums."""

from __future__ import annotations

from typing import Any

from studio.draft import Base, RecipeDraft
from studio.draft_source import draft_source
from workers.protocol.recipe import Source, Stage
from workers.protocol.stages import PARAMETERS

STARTER = Base(parameters=PARAMETERS["starter"], answers=False)
SMOLLM2 = Base(
    kind="smollm2", name="smollm2", root="smollm2", parameters=PARAMETERS["smollm2"], answers=True
)
SUMS = draft_source(Source(source="builtin:arithmetic"))


def on_sums(stage: Stage = "sft", base: Base = STARTER, **fields: Any) -> RecipeDraft:
    return RecipeDraft(stage=stage, base=base, sources=(SUMS,), **fields)
