"""The tables of a recipe that say what data is learnt from."""

from __future__ import annotations

from typing import Annotated, Literal

from workers.protocol.options import option
from workers.protocol.recipe.sections import Section

Column = Literal[
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "answer",
    "label",
    "text",
    "system",
    "tools",
    "history",
    "segments",
    "reasoning",
]
"""What a column of a dataset can be to us."""


Documents = Literal["auto", "blank_lines", "endoftext", "lines", "file"]
"""Where a text file's documents end."""


class Source(Section, frozen=True):
    source: Annotated[
        str,
        option(
            "Dataset",
            "builtin:NAME, a file or folder (JSON lines, JSON, CSV, Parquet, Arrow or text, also "
            ".gz and .zst), or org/name[:split] on the hub.",
        ),
    ]
    weight: Annotated[
        float,
        option("Weight", "Share of this dataset in a mixture, against the others.", gt=0),
    ] = 1.0
    limit: Annotated[
        int,
        option(
            "Rows at most",
            "Takes so many rows of this dataset, spread over it by hash; 0 takes all.",
            unit="rows",
            ge=0,
            advanced=True,
        ),
    ] = 0
    licence: Annotated[
        str,
        option(
            "Licence",
            "The dataset's licence, as SPDX writes it; empty looks for it in the catalogue and on "
            "the dataset's card.",
            advanced=True,
        ),
    ] = ""
    mapping: Annotated[
        dict[str, Column],
        option(
            "Columns",
            "Their columns to ours (messages, prompt, completion, chosen, rejected, answer, label, "
            "text, system, tools, history, segments, reasoning), instead of detection.",
            advanced=True,
        ),
    ] = {}  # noqa: RUF012 (msgspec copies it)
    documents: Annotated[
        Documents,
        option(
            "Documents",
            "Where a text file's documents end: blank_lines, endoftext (<|endoftext|>), lines, "
            "or file for all of it as one; auto goes by the file.",
            advanced=True,
        ),
    ] = "auto"
    bad_rows: Annotated[
        Literal["refuse", "skip"],
        option(
            "Bad rows",
            "refuse stops at rows that cannot be used; skip leaves them out and lists them.",
            advanced=True,
        ),
    ] = "refuse"
