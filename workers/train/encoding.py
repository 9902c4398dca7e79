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
from workers.data.reader import BadRow, Message, Row
from workers.data.tokenize.encode import IGNORED, encode_answer, render, shared_length
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.train import SKIPPED
from workers.train.context import TrainingContext
from workers.train.dataset import bad_rows

T = TypeVar("T")
EXCERPT = 80
TOO_MANY = 0.05
"""Share of rows that are cut or left out from which it is a warning."""


class Pair(NamedTuple):
    """A prompt with a better and a worse answer, as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    def cut(self, longest: int) -> Pair:
        """With both answers cut where the whole is longer."""
        room = longest - len(self.prompt)
        return Pair(self.prompt, self.chosen[:room], self.rejected[:room])


class Answer(NamedTuple):
    """A prompt with an answer, as token ids."""

    prompt: list[int]
    answer: list[int]

    def cut(self, longest: int) -> Answer:
        """With the answer cut where the whole is longer."""
        return Answer(self.prompt, self.answer[: longest - len(self.prompt)])


# Rows that the template does not take


def encoded(context: TrainingContext, rows: Rows, encode: Callable[[Row], T]) -> list[T]:
    """Every row through `encode`, in order, less those that the template does not take.

    Raises:
        Refusal: the template does not take a row and the recipe does not say to skip such rows, or
            none is left.
    """
    made: list[T] = []
    refused: list[tuple[Row, Refusal]] = []
    for row in rows:
        try:
            made.append(encode(row))
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
    bad = [BadRow(0, refusal.what, excerpt=_question(one)) for one, refusal in refused]
    list_skipped(context, [msgspec.structs.asdict(one) for one in bad])
    context.host.emit(Note(text=f"{what} They are left out and listed in {SKIPPED}.",
                          level="warning"))  # fmt: skip


def list_skipped(context: TrainingContext, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows to the list of those that were left out."""
    with (context.host.folder / SKIPPED).open("ab") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _question(row: Row) -> str:
    text = " ".join((row.prompt[-1]["content"] if row.prompt else row.text).split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


# Answers and pairs


def answer_of(prompt: list[Message], answer: list[Message], tokenizer: Any) -> Answer:
    """A prompt and an answer to it; the answer begins with the first token that is trained."""
    layout = encode_answer(prompt, answer, tokenizer)
    begin = next(
        (at for at, label in enumerate(layout.labels) if label != IGNORED), len(layout.labels)
    )
    return Answer(layout.input_ids[:begin], layout.input_ids[begin:])


def pair_of(row: Row, tokenizer: Any) -> Pair:
    """Both answers behind the one prompt that they share."""
    chosen = answer_of(row.prompt, row.completion, tokenizer)
    rejected = answer_of(row.prompt, row.rejected, tokenizer)
    shared = shared_length(chosen.prompt, rejected.prompt)
    return Pair(
        chosen.prompt[:shared],
        chosen.prompt[shared:] + chosen.answer,
        rejected.prompt[shared:] + rejected.answer,
    )


# Rows that are too long


def tell_long(
    context: TrainingContext, what: str, total: int, cut: int, dropped: int, *, whole: bool = False
) -> None:
    """Says how many rows are cut at training.max_length and how many are left out for it.

    Args:
        what: what the rows are called.
        whole: they are left out wherever they do not fit, instead of being cut.
    """
    if not (cut or dropped):
        return
    longest = context.recipe.training.max_length
    told = [f"{cut} {_are(cut)} cut at {longest} tokens"] * bool(cut)
    why = f"longer than {longest} tokens" if whole else f"no answer begins in {longest} tokens"
    told += [f"{dropped} {_are(dropped)} left out ({why})"] * bool(dropped)
    share = (cut + dropped) / total
    context.host.emit(
        Note(
            text=f"Of {total} {what}, {' and '.join(told)}: {share:.0%} in all. "
            "Raise training.max_length to take them whole.",
            level="warning" if share > TOO_MANY else "info",
        )
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
