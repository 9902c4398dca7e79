"""The table of a recipe that says what is measured on held-out rows, and what follows from it."""

from __future__ import annotations

from typing import Annotated

from workers.protocol.options import option
from workers.protocol.recipe.sections import STOPPING, Section


class Gate(Section, frozen=True):
    """What a run must reach on the held-out rows to be promoted."""

    metric: Annotated[
        str, option("Gate metric", "The held-out measure looked at.", on_resume=True)
    ] = "accuracy"
    min_gain: Annotated[
        float,
        option(
            "Least gain", "How much it must rise (for loss: fall) over the start.", on_resume=True
        ),
    ] = 0.0


class Evaluation(Section, frozen=True):
    holdout: Annotated[
        float,
        option(
            "Held-out share",
            "Share of the rows kept apart to measure on, up to the held-out rows at most.",
            ge=0,
            lt=0.9,
        ),
    ] = 0.1
    every_steps: Annotated[
        int,
        option(
            "Evaluate every",
            "Steps between measurements; 0 measures before and after only.",
            unit="steps",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 0
    max_rows: Annotated[
        int,
        option(
            "Held-out rows at most",
            "No more rows than these are held out and measured; all others are learnt from.",
            unit="rows",
            ge=1,
            advanced=True,
        ),
    ] = 64

    test: Annotated[
        str,
        option("Test set", "A dataset to measure on instead of the held-out share.", advanced=True),
    ] = ""
    max_completion_tokens: Annotated[
        int,
        option(
            "Max measured completion tokens",
            "Answers that are checked are truncated after so many tokens.",
            unit="tokens",
            ge=1,
            le=131_072,
            advanced=True,
            on_resume=True,
            formerly="max_answer_tokens",
        ),
    ] = 256
    early_stopping_patience: Annotated[
        int,
        option(
            "Stop early after",
            "So many measurements during training without a gain end it.",
            unit="measurements",
            ge=0,
            advanced=True,
            group=STOPPING,
            zero="never",
            on_resume=True,
        ),
    ] = 0
    keep_best: Annotated[
        bool,
        option(
            "Keep the best",
            "The result is the model as it was when the held-out measure was best, not the last.",
            advanced=True,
            group=STOPPING,
            on_resume=True,
        ),
    ] = False
    gate: Gate | None = None
    """Decides whether the next stage of a pipeline starts; without one it always does."""
