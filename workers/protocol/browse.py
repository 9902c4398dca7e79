"""What a look into a dataset shows: its rows as they lie in the file, and as a model sees them."""

from __future__ import annotations

from typing import Literal

import msgspec

from workers.protocol.mapping import Proposal


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset was taken for, by its first rows."""

    source: str
    path: str
    format: str | None
    """None where no shape fits; the columns are then to be mapped by hand."""
    why: str
    """What decided it, or what is missing, in a sentence."""
    mapping: dict[str, str]
    """Their columns to ours."""
    columns: list[str]
    """All columns of the first rows, nested ones by a dot."""
    stages: list[str]
    """The stages that can learn from it."""
    licence: str = ""
    """As SPDX writes it where it can; empty is unknown."""
    licence_from: str = ""
    """Where the licence is told: the catalogue, the dataset's card, the recipe."""
    proposal: Proposal | None = None
    """The likeliest mapping, where no shape fits."""
    documents: str = ""
    """How text files are split into documents; empty where there are none."""
    version_of: str = ""
    """The source that this dataset is an edited version of."""


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it lies in the file."""

    row: int
    """From 0, over all files; the name by which edits go."""
    line: int
    """In its file, from 1."""
    file: str = ""
    text: str
    """The row as JSON in one line; for a line that is none, its beginning as it stands."""
    whole: bool = True
    """False where `text` is the beginning of a long row; asked for alone it comes whole."""
    reason: str = ""
    """Why it cannot be used; empty when it can."""
    prompt: str = ""
    """The last thing asked, or the beginning of the text, short."""
    answer: str = ""
    """What is answered, or chosen, short."""


class Piece(msgspec.Struct, frozen=True):
    """A token as text."""

    text: str
    """Empty for the further bytes of a letter that stands in an earlier piece."""
    trained: bool
    special: bool = False
    thinking: bool = False
    """Of an answer's thinking."""


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A row as the model will see it in training."""

    row: int
    title: str = ""
    """Which side of a pair, chosen or rejected, or which of several answers; empty otherwise."""
    pieces: list[Piece]
    """All tokens, truncated ones among them; bounded by LONGEST_SHOWN."""
    tokens: int
    trained: int
    """Tokens in the loss, of what the trainer takes."""
    truncated_at: int | None = None
    """The first token that no longer fits; None when all fit."""
    template: str = ""
    """Name of the chat template that rendered it, `own` for the model's; empty for plain text."""
    mask: str = ""
    """How it was told which tokens are in the loss, in a sentence; empty where none is masked."""
    warnings: list[str] = []
    """Where template, model and row disagree, in sentences."""


LONGEST_SHOWN = 4096
"""Tokens of a row that are sent to be looked at."""


class TemplateFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a chat template, or good to know of it."""

    level: Literal["error", "warning", "info"]
    text: str
    remedy: str = ""
    line: int = 0
    """Of the template, from 1; 0 where it belongs to none."""


class Edits(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a dataset, by row number from 0."""

    changed: dict[int, str] = {}
    """The whole row as JSON."""
    dropped: list[int] = []
    tags: dict[int, str] = {}
    """good or bad; kept in the row's column `tag`."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """An edited copy of a dataset, beside which this stands as NAME.json."""

    source: str
    """What was edited."""
    source_sha256: str
    path: str
    sha256: str
    rows: int
    changed: int
    dropped: int
    tagged: int
    created: str
    """ISO 8601, UTC."""
    licence: str = ""
