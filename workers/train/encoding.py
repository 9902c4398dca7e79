"""From a run's rows to tokens, and what is said of rows that cannot be taken as they are.

A row that the model's chat template does not take is left out, and listed with its line and the
reason: the rows are sound, and it is the template that cannot show them. Rows that are too long are
counted, for every stage alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec

from workers.data.mix import Rows
from workers.data.reader import BadRow, Row, places_of, serves
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.encode import Example, encode, fit, units
from workers.protocol.events import Note
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.train import SKIPPED
from workers.train.context import TrainingContext
from workers.train.fitting import settle_batches

T = TypeVar("T")
EXCERPT = 80
ONE_EACH = (
    "Each answer is an example of its own, behind the prompt that the model reads at inference, "
    "for the chat template writes earlier turns otherwise."
)
MOST_REFUSED = 0.5
"""Share of rows that the template may refuse."""
TOO_MANY = 0.05
"""Share of rows that are truncated or left out from which it is a warning."""


class Fitted(NamedTuple):
    """What a trainer takes of a run's rows."""

    rows: list[list[Example]]
    """Of each row (or answer of its own) its sequences; none where it is left out."""
    held_out: bool
    split: bool = False
    """Whether some row gives several, one for each of its answers."""

    @property
    def kept(self) -> list[list[Example]]:
        return [examples for examples in self.rows if examples]

    @property
    def truncated(self) -> int:
        """How many lost the end of an answer."""
        return sum(any(one.truncated for one in examples) for examples in self.rows)


# Rows that the template does not take


def encoded(
    context: TrainingContext, rows: Rows, make: Callable[[Row], T], *, held_out: bool = False
) -> list[T]:
    """Every row through `make`, in order, less those that the template does not take.

    Raises:
        Refusal: the template does not take most of the rows to train on.
    """
    made: list[T] = []
    refused: list[tuple[Row, Refusal]] = []
    for row in rows:
        try:
            made.append(make(row))
        except Refusal as refusal:
            refused.append((row, refusal))
    if refused:
        _leave_out(context, refused, len(rows), held_out=held_out)
    return made


def presentable(context: TrainingContext, rows: Rows) -> Rows:
    """The rows whose question the template takes; of the others, as `encoded`."""

    def shown(row: Row) -> Row:
        if row.prompt:
            render(row.prompt, context.loaded.tokenizer, generation=True, tools=row.tools)
        return row

    return encoded(context, rows, shown, held_out=True)


def _leave_out(
    context: TrainingContext, refused: list[tuple[Row, Refusal]], total: int, *, held_out: bool
) -> None:
    places = _places(context, [row for row, _ in refused])
    bad = [
        BadRow(line, refusal.what, file, _question(row), "template_refuses")
        for (row, refusal), (file, line) in zip(refused, places, strict=True)
    ]
    _, first = refused[0]
    line = f", line {bad[0].line}" if bad[0].line else ""
    what = (
        f"{len(refused)} of {total} {'held-out ' * held_out}rows do not go with the model's chat "
        f"template. The first one, “{bad[0].excerpt}”{line}: {first.what}"
    )
    if len(refused) > MOST_REFUSED * total and not held_out:
        raise Refusal(what, first.cause, first.remedy) from first
    list_skipped(context, [msgspec.structs.asdict(one) for one in bad])
    context.host.emit(Note(text=f"{what} They are left out and listed in {SKIPPED}.",
                          level="warning"))  # fmt: skip


def _places(context: TrainingContext, rows: Rows) -> list[tuple[str, int]]:
    """File and line of rows in the sources, or in the test set, that they come from."""
    recipe = context.recipe
    test = [Source(source=recipe.evaluation.test)] if recipe.evaluation.test else []
    found = [places_of(source, rows) for source in (*recipe.data, *test)]
    return [max(places, key=lambda place: place[1] > 0) for places in zip(*found, strict=True)]


def list_skipped(context: TrainingContext, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows to the list of those that were left out."""
    with (context.host.folder / SKIPPED).open("ab") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _question(row: Row) -> str:
    asked = [turn["content"] for turn in row.prompt if turn["role"] == "user"]
    text = " ".join((asked[-1] if asked else row.plain).split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


# Rows that are too long


def fitted(context: TrainingContext, rows: Rows, *, held_out: bool = False) -> Fitted:
    """The rows that the stage can use as sequences of training.max_length tokens at most.

    Raises:
        Refusal: as `encoded`.
    """
    recipe, tokenizer = context.recipe, context.loaded.tokenizer
    told: Counter[str] = Counter()

    def fitting(row: Row) -> list[list[Example]]:
        encodings = encode(
            row, recipe.stage, tokenizer, assistant_only=recipe.training.assistant_only_loss,
            reasoning=recipe.training.reasoning,
        )  # fmt: skip
        told.update({text for one in encodings for text in one.differences})
        told[ONE_EACH] += len(encodings) > 1 and not encodings[0].side
        return [
            fit(unit, recipe.stage, recipe.training.max_length, recipe.training.too_long)
            for unit in units(encodings, recipe.stage)
        ]

    usable = [row for row in rows if serves(row, recipe.stage)]
    made = [unit for row in encoded(context, usable, fitting, held_out=held_out) for unit in row]
    if not held_out:
        _tell_differences(context, told, len(usable))
        lengths = [len(one.input_ids) for examples in made for one in examples]
        settle_batches(context, max(lengths, default=1))
    return Fitted(made, held_out, told[ONE_EACH] > 0)


def _tell_differences(context: TrainingContext, told: Counter[str], total: int) -> None:
    """One note on how rows are trained otherwise than as one text that is read at inference."""
    lines = [f"{count} of {total} rows: {text}" for text, count in told.items() if count]
    if lines:
        context.host.emit(Note(text="\n".join(lines)))


def report_long(context: TrainingContext, what: str, found: Fitted) -> None:
    """Says how many rows are truncated at training.max_length and how many are left out for it; of
    those held out, that none is left to measure on.

    Args:
        what: what the rows are called.

    Raises:
        Refusal: none is left to train on.
    """
    options = context.recipe.training
    if found.held_out and found.rows and not found.kept:
        text = (
            f"None of the {len(found.rows)} held-out {what} fits into {options.max_length} tokens: "
            "no loss is measured on them. Raise training.max_length."
        )
        context.host.emit(Note(text=text, level="warning"))
    if found.held_out or not found.rows:
        return
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
