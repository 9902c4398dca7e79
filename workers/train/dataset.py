"""Which rows a run learns from and which it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from workers.data import licences
from workers.data.mix import Rows, Share, limit, mix, shares, split_all, split_hash
from workers.data.read.files import DataFiles, silent
from workers.data.reader import SCHEMAS, Table, read_table, serves
from workers.protocol.events import Note
from workers.protocol.licences import incompatible, unsaid
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of

REPEATED = 4
"""Epochs up to which repeated rows are nearly as good as new ones (Muennighoff et al. 2023,
"Scaling data-constrained language models", section 6)."""


class SourceStats(NamedTuple):
    """One source of the mixture."""

    source: Source
    table: Table
    share: Share
    """Of its training rows, after the limit and the split."""
    licence: str
    """As SPDX writes it; empty where nobody tells it."""
    licence_from: str
    unserved: int = 0
    """Rows that the stage cannot learn from, such as answers labelled undesirable."""


class TrainingData(NamedTuple):
    tables: list[Table]
    """Of every source, in the recipe's order, and of the test set behind them."""
    parts: list[SourceStats]
    training: Rows
    held_out: Rows
    left_out: int
    """Training rows that ask what the test set asks, and are not trained on."""

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """What a run keeps of each of its datasets, the test set among them."""
        about: list[dict[str, Any]] = [
            {"limit": part.source.limit, "drawn": part.share.sampled,
             "epochs": round(part.share.epochs, 3), "licence": part.licence,
             "licence_from": part.licence_from}
            for part in self.parts
        ]  # fmt: skip
        about += [{}] * (len(self.tables) - len(about))
        return [
            {"source": table.source, "path": table.path, "sha256": table.sha256,
             "format": table.format, "rows": len(table.rows)} | more
            for table, more in zip(self.tables, about, strict=True)
        ]  # fmt: skip

    @property
    def notes(self) -> list[Note]:
        """What the user should know of the mixture before it is trained on."""
        told = [(part.source.source, part.licence) for part in self.parts]
        warnings = [*map(_repeated, filter(_too_often, self.parts)), *incompatible(told)]
        if self.left_out:
            warnings.append(
                f"{self.left_out} training rows ask what the test set asks and are left out."
            )
        return [
            *(Note(text=text, level="warning") for text in warnings),
            *(Note(text=text) for table in self.tables for text in table.notes),
            *(Note(text=_left_out(part)) for part in self.parts if part.unserved),
            *(Note(text=text) for text in unsaid(told)),
        ]


def build_dataset(recipe: Recipe, say: Callable[[str], None] = silent) -> TrainingData:
    """Reads every source, keeps what the stage can use, limits, splits and mixes it.

    `say` is told when something slow begins.

    Raises:
        Refusal: a file cannot be read, does not serve the stage, or nothing is left to train on.
    """
    tables = [
        read_table(
            source.source,
            mapping=source.mapping,
            bad_rows=source.bad_rows,
            say=say,
            documents=source.documents,
        )
        for source in recipe.data
    ]
    served = [_usable(table, recipe) for table in tables]
    usable = [limit(rows, source.limit) for rows, source in zip(served, recipe.data, strict=True)]
    if recipe.evaluation.test:
        test = read_table(recipe.evaluation.test, bad_rows=bad_rows(recipe), say=say)
        held_out = list(test.rows)
        asked = {split_hash(row) for row in held_out}
        kept = [[row for row in rows if split_hash(row) not in asked] for rows in usable]
        tables = [*tables, test]
    else:
        held = recipe.evaluation
        kept, held_out = split_all(usable, held.holdout, held.max_rows)
    weights = [source.weight for source in recipe.data]
    training = mix(kept, weights, recipe.training.seed)
    if not training:
        raise Refusal(
            "No row is left to train on.",
            f"All of them are held out by evaluation.holdout = {recipe.evaluation.holdout}"
            f"{' or stand in evaluation.test' if recipe.evaluation.test else ''}.",
            "Lower it, or bring more rows.",
        )
    left_out = sum(map(len, usable)) - sum(map(len, kept)) if recipe.evaluation.test else 0
    # By hash, not by file order: the same rows are measured whichever way the file is sorted.
    held_out = sorted(held_out, key=split_hash)[: recipe.evaluation.max_rows]
    unserved = [len(table.rows) - len(rows) for table, rows in zip(tables, served, strict=False)]
    parts = _parts(recipe, tables, shares(list(map(len, kept)), weights), unserved)
    return TrainingData(tables, parts, training, held_out, left_out)


def bad_rows(recipe: Recipe) -> Literal["refuse", "skip"]:
    """What becomes of bad rows of no one source, in a test set for example: they are skipped where
    every source's are."""
    skipped = all(source.bad_rows == "skip" for source in recipe.data)
    return "skip" if skipped else "refuse"


def _parts(
    recipe: Recipe, tables: list[Table], given: list[Share], unserved: list[int]
) -> list[SourceStats]:
    return [
        SourceStats(
            source,
            table,
            share,
            *licences.of(source, DataFiles(source.source, Path(table.path), ())),
            unserved=rows,
        )
        for source, table, share, rows in zip(recipe.data, tables, given, unserved, strict=False)
    ]


def _left_out(part: SourceStats) -> str:
    bad = sum(row.label is False for row in part.table.rows)
    why = f"; {bad} of them hold an answer that is labelled bad" if bad else ""
    return (
        f"{part.unserved} of {len(part.table.rows)} rows of {part.source.source} do not serve the "
        f"stage and are left out{why if bad <= part.unserved else ''}."
    )


def _too_often(part: SourceStats) -> bool:
    return part.share.epochs > REPEATED


def _repeated(part: SourceStats) -> str:
    return (
        f"The mixture repeats each row of {part.source.source} {part.share.epochs:.1f} times "
        f"({part.share.sampled} rows drawn from {part.share.available}). Beyond {REPEATED} times "
        "little more is learnt; lower its weight or bring more rows."
    )


def _usable(table: Table, recipe: Recipe) -> Rows:
    rows = [row for row in table.rows if serves(row, recipe.stage)]
    if not rows:
        raise Refusal(
            f"The dataset {table.path} cannot serve the stage '{recipe.stage}'.",
            f"Its rows hold {SCHEMAS[table.format].words}.",
            spec_of(recipe.stage).bring,
        )
    return rows
