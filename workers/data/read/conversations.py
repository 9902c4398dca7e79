"""Tables with a turn a row, made into rows with a conversation each.

A column says which conversation a turn belongs to, one who speaks, one what is said. The turns of a
conversation stand one behind the other, in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from workers.data.read.fault import RowFault
from workers.data.read.jsonl import MAX_ROW_BYTES, NumberedRow

IDS = (
    "conversation_id", "conv_id", "dialog_id", "dialogue_id", "chat_id", "session_id", "thread_id",
)  # fmt: skip
SPEAKERS, SAID = ("role", "from"), ("content", "value", "text", "message")
NAMES = {"role": "content", "from": "value"}
"""What is said, by what whoever speaks is called in a turn."""
MOST_TURNS = 10_000
"""Of one conversation; more of them are not held in memory."""


class Turns(NamedTuple):
    """The columns of a table with a turn a row."""

    id: str
    who: str
    said: str


def by_conversation(rows: Iterable[NumberedRow]) -> Iterator[NumberedRow]:
    """The rows, or the conversations that they are turns of where the first one is a turn."""
    waiting = iter(rows)
    first = next(waiting, None)
    if first is None:
        return
    columns = _columns(first.value)
    everything = itertools.chain([first], waiting)
    yield from _grouped(everything, columns) if columns else everything


def _columns(value: Any) -> Turns | None:
    keys = value if isinstance(value, dict) else {}
    found = [next((name for name in names if name in keys), "") for names in (IDS, SPEAKERS, SAID)]
    return Turns(*found) if all(found) else None


def _grouped(rows: Iterable[NumberedRow], columns: Turns) -> Iterator[NumberedRow]:
    held: list[NumberedRow] = []
    done: set[str] = set()
    for row in rows:
        if isinstance(row.value, RowFault):
            held.append(row)
            continue
        turn = next((one for one in held if isinstance(one.value, dict)), None)
        if turn is not None and (
            turn.value.get(columns.id) != row.value.get(columns.id) or len(held) == MOST_TURNS
        ):
            yield from _conversation(held, columns, done)
            held = []
        held.append(row)
    yield from _conversation(held, columns, done)


def _conversation(held: list[NumberedRow], columns: Turns, done: set[str]) -> Iterator[NumberedRow]:
    """The rows of one conversation as one, or as its faults."""
    faults = [row for row in held if isinstance(row.value, RowFault)]
    turns = [row for row in held if isinstance(row.value, dict)]
    yield from faults
    if not turns:
        return
    line, name = turns[0].line, str(turns[0].value.get(columns.id))
    if faults:
        reason = f"line {faults[0].line} of its conversation {name} cannot be used"
        yield NumberedRow(line, RowFault("csv", reason))
    elif name in done:
        reason = f"conversation {name} goes on behind another one; sort the rows by {columns.id}"
        yield NumberedRow(line, RowFault("csv", reason))
    elif len(turns) == MOST_TURNS or _letters(turns, columns) > MAX_ROW_BYTES:
        reason = (
            f"its conversation {name} is longer than {MAX_ROW_BYTES >> 20} MiB or {MOST_TURNS} "
            f"turns; {columns.id} may not tell conversations apart"
        )
        yield NumberedRow(line, RowFault("size", reason))
    else:
        yield NumberedRow(line, _whole([row.value for row in turns], columns))
    done.add(name)


def _letters(turns: list[NumberedRow], columns: Turns) -> int:
    return sum(len(str(row.value.get(columns.said))) for row in turns)


def _whole(turns: list[dict[str, Any]], columns: Turns) -> dict[str, Any]:
    """The turns under "messages", beside the columns that are alike in all of them."""
    alike = {
        name: value
        for name, value in turns[0].items()
        if name not in columns[1:] and all(turn.get(name) == value for turn in turns)
    }
    said = NAMES[columns.who]
    messages = [
        {columns.who: turn.get(columns.who), said: turn.get(columns.said)} for turn in turns
    ]
    return alike | {"messages": messages}
