"""The table of a recipe that says what adapter is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from workers.protocol.options import option
from workers.protocol.recipe.sections import LEARNING, Section


class Lora(Section, frozen=True):
    rank: Annotated[
        int, option("LoRA rank", "Size of the adapter; 8 to 64 is usual.", ge=1, le=1024)
    ] = 16
    alpha: Annotated[
        int,
        option("LoRA alpha", "Scale of the adapter; once or twice the rank is usual.", ge=1),
    ] = 32
    dropout: Annotated[
        float,
        option("LoRA dropout", "Share of adapter inputs dropped.", ge=0, lt=1, advanced=True),
    ] = 0.0
    targets: Annotated[
        str,
        option(
            "Target modules",
            "Layers that get an adapter: all-linear (of the language model), all-linear+vision "
            "(towers too), or names separated by commas.",
            advanced=True,
        ),
    ] = "all-linear"
    experts: Annotated[
        Literal["auto", "on", "off"],
        option(
            "Experts",
            "Whether a mixture's experts get an adapter; auto gives them one with all-linear.",
            advanced=True,
        ),
    ] = "auto"
    init: Annotated[
        Literal["default", "gaussian", "pissa", "olora"],
        option(
            "Start of the adapter",
            "default and gaussian begin at nothing; pissa and olora take the weights' main "
            "directions out of the model and train those, and are turned into plain LoRA of twice "
            "the rank when saved.",
            advanced=True,
            group=LEARNING,
        ),
    ] = "default"
    rslora: Annotated[
        bool,
        option(
            "Rank-stabilized",
            "Scales by alpha over the root of the rank (rsLoRA), so that high ranks learn as fast.",
            advanced=True,
            group=LEARNING,
        ),
    ] = False
    plus_ratio: Annotated[
        float,
        option(
            "LoRA+ ratio",
            "How many times faster the adapter's B learns than its A; 16 is LoRA+'s, 1 is plain.",
            ge=1,
            le=1000,
            advanced=True,
            group=LEARNING,
        ),
    ] = 1.0
    modules_to_save: Annotated[
        str,
        option(
            "Modules trained whole",
            "Names separated by commas, such as embed_tokens, lm_head for new tokens or a new "
            "language; tied ones stay tied.",
            advanced=True,
            group=LEARNING,
        ),
    ] = ""
