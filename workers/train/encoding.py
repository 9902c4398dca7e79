"""From a run's rows to tokens, and what is said of rows that cannot be taken as they are.

A row that the model's chat template does not take is a bad row: it is refused by its question and
the reason, or left out and listed where the recipe says so. Rows that are too long are counted, for
every stage alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec

from workers.data.mix import Rows
from workers.data.reader import BadRow, Row, serves
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.encode import Example, encode, fit, units
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.train import SKIPPED
from workers.train.context import TrainingContext
from workers.train.dataset import bad_rows

T = TypeVar("T")
EXCERPT = 80
TOO_MANY = 0.05
"""Share of rows that are truncated or left out from which it is a warning."""


class Fitted(NamedTuple):
    """What a trainer takes of a run's rows."""

    rows: list[list[Example]]
    """Of each row (or labelled completion) its sequences; none where it is left out."""
    held_out: bool

    @property
    def kept(self) -> list[list[Example]]:
        return [examples for examples in self.rows if examples]

    @property
    def truncated(self) -> int:
        """How many lost the end of an answer."""
        return sum(any(one.truncated for one in examples) for examples in self.rows)


# Rows that the template does not take


def encoded(context: TrainingContext, rows: Rows, make: Callable[[Row], T]) -> list[T]:
    """Every row through `make`, in order, less those that the template does not take.

    Raises:
        Refusal: the template does not take a row and the recipe does not say to skip such rows, or
            none is left.
    """
    made: list[T] = []
    refused: list[tuple[Row, Refusal]] = []
    for row in rows:
        try:
            made.append(make(row))
        except Refusal as refusal:
            refused.append((row, refusal))
    if refused:
        _leave_out(context, refused, len(rows))
    return made


def presentable(context: TrainingContext, rows: Rows) -> Rows:
    """The rows whose question the template takes; of the others, as `encoded`."""

    def shown(row: Row) -> Row:
        if row.prompt:
            render(row.prompt, context.loaded.tokenizer, generation=True, tools=row.tools)
        return row

    return encoded(context, rows, shown)


def _leave_out(context: TrainingContext, refused: list[tuple[Row, Refusal]], total: int) -> None:
    row, first = refused[0]
    what = (
        f"{len(refused)} of {total} rows do not go with the model's chat template. "
        f"The first one, “{_question(row)}”: {first.what}"
    )
    if bad_rows(context.recipe) == "refuse" or len(refused) == total:
        raise Refusal(what, first.cause, first.remedy) from first
    bad = [
        BadRow(0, refusal.what, excerpt=_question(one), kind="template_refuses")
        for one, refusal in refused
    ]
    list_skipped(context, [msgspec.structs.asdict(one) for one in bad])
    context.host.emit(Note(text=f"{what} They are left out and listed in {SKIPPED}.",
                          level="warning"))  # fmt: skip


def list_skipped(context: TrainingContext, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows to the list of those that were left out."""
    with (context.host.folder / SKIPPED).open("ab") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _question(row: Row) -> str:
    text = " ".join((row.prompt[-1]["content"] if row.prompt else row.plain).split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


# Rows that are too long


def fitted(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Fitted:
    """The rows that the stage can use as sequences of training.max_length tokens at most.

    Raises:
        Refusal: as `encoded`.
    """
    recipe, tokenizer = context.recipe, context.loaded.tokenizer

    def fitting(row: Row) -> list[list[Example]]:
        encodings = encode(
            row, recipe.stage, tokenizer, assistant_only=recipe.training.assistant_only_loss
        )
        return [
            fit(unit, recipe.stage, recipe.training.max_length, recipe.training.too_long)
            for unit in units(encodings, recipe.stage)
        ]

    usable = [row for row in rows if serves(row, recipe.stage)]
    made = [unit for row in encoded(context, usable, fitting) for unit in row]
    return Fitted(made, held_out)


def report_long(context: TrainingContext, what: str, found: Fitted) -> None:
    """Says how many rows are truncated at training.max_length and how many are left out for it.

    Args:
        what: what the rows are called.

    Raises:
        Refusal: none is left to train on.
    """
    if found.held_out or not found.rows:
        return
    options = context.recipe.training
    cuts = options.too_long == "cut" and spec_of(context.recipe.stage).talks
    if not found.kept:
        raise _none_fits(what, options.max_length, cuts=cuts)
    tell_long(
        context, what, len(found.rows), len(found.rows) - len(found.kept), found.truncated,
        why="no answer begins in {} tokens" if cuts else "longer than {} tokens",
    )  # fmt: skip


def tell_long(
    context: TrainingContext,
    what: str,
    total: int,
    dropped: int,
    truncated: int = 0,
    why: str = "longer than {} tokens",
) -> None:
    """One note on the rows that are too long, and their share; a warning where it is large."""
    if not (truncated or dropped):
        return
    longest = context.recipe.training.max_length
    told = [f"{truncated} {_are(truncated)} truncated at {longest} tokens"] * bool(truncated)
    told += [f"{dropped} {_are(dropped)} left out ({why.format(longest)})"] * bool(dropped)
    share = (truncated + dropped) / total
    context.host.emit(
        Note(
            text=f"Of {total} {what}, {' and '.join(told)}: {share:.0%} in all. "
            "Raise training.max_length to take them whole.",
            level="warning" if share > TOO_MANY else "info",
        )
    )


def _none_fits(what: str, longest: int, *, cuts: bool) -> Refusal:
    if cuts:
        return Refusal(
            "No row has a token left to train.",
            f"Every answer begins after the first {longest} tokens.",
            "Raise training.max_length.",
        )
    return Refusal(
        f"None of the {what} is short enough to train on.",
        f"All are longer than training.max_length = {longest}.",
        "Raise training.max_length.",
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
