"""The likeliest meaning of columns whose names are not known: offered, never taken by itself.

Names are compared by their words, contents by what they are: turns, text, true or false. A column
of numbers, dates or a few values only is never a prompt or an answer. What comes out is tried on
the rows that it was made from, and only offered where most of them can then be used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from workers.data.read.fault import RowFault
from workers.data.schema.columns import picked
from workers.data.schema.detect import from_mapping
from workers.data.schema.parser import RowParser
from workers.data.schema.row import Row
from workers.protocol.mapping import Proposal
from workers.protocol.recipe import Column
from workers.protocol.refusal import Refusal

LEAST_USABLE = 0.5
"""Share of the rows that a mapping must make usable to be offered."""
EXAMPLES, EXCERPT = 3, 160
DEEPEST = 3
MOST_COLUMNS = 200
FEW_VALUES = 0.1
"""Share of different values below which a column names kinds of rows, not what is said."""
CLOSE = 0.83
"""Likeness of two words (difflib's ratio) from which they count as one, a misspelt one."""
BY_NAME, BY_CONTENT = 1.0, 0.3
ID_WORDS = {"id", "uuid", "date", "time", "timestamp", "url", "hash", "path"}

WORDS: dict[Column, tuple[str, ...]] = {
    "messages": ("message", "conversation", "dialog", "dialogue", "chat", "turn", "thread"),
    "prompt": (
        "prompt", "question", "query", "instruction", "request", "ask", "customer", "user",
        "human", "input", "problem", "task", "client", "inquiry", "source", "post", "title",
        "subject", "doctor", "patient", "frage", "pregunta", "q",
    ),
    "completion": (
        "completion", "response", "answer", "reply", "output", "assistant", "agent", "bot",
        "target", "solution", "ideal", "gpt", "generated", "generation", "summary", "translation",
        "comment", "expert", "antwort", "respuesta", "a",
    ),
    "chosen": ("chosen", "preferred", "better", "winner", "winning", "accepted", "best", "positive",
               "good", "pos", "win"),
    "rejected": ("rejected", "dispreferred", "worse", "loser", "losing", "worst", "negative", "bad",
                 "neg", "lose"),
    "label": ("label", "thumb", "liked", "like", "desirable", "helpful", "correct", "approved",
              "upvoted", "good"),
    "system": ("system", "persona", "preamble"),
    "text": ("text", "content", "body", "document", "article", "passage", "paragraph", "story",
             "page", "abstract"),
}  # fmt: skip
"""Words in the names of columns, by what the column then is."""

Need = tuple[Column, ...]
KINDS: tuple[tuple[Need, Need, str], ...] = (
    (("chosen", "rejected"), ("prompt", "system"), "a better and a worse answer"),
    (("messages", "label"), ("system",), "conversations with a label"),
    (("messages",), ("system",), "conversations"),
    (("prompt", "completion", "label"), ("system",), "answers with a label"),
    (("prompt", "completion"), ("system",), "questions with answers"),
    (("text",), (), "plain text"),
)
"""What must be there, what may be, and what the rows then hold; the more telling ones first."""


class Facts(NamedTuple):
    """What the first rows show of one column."""

    name: str
    kind: str
    """turns, text, label, number or other."""
    letters: float
    """Of its texts, on the average."""
    different: float
    """Share of different values."""
    low: float = 0.0
    high: float = 0.0


class Match(NamedTuple):
    column: Facts
    score: float
    word: str
    """In the name, which decided it; empty where the content did."""


def propose(rows: Sequence[Any]) -> Proposal | None:
    """What the columns of these rows most likely are; None where nothing suggests itself."""
    items = [row for row in rows if isinstance(row, dict)]
    columns = [facts for name in _names(items) if (facts := _facts(name, items)) is not None]
    by_content: Proposal | None = None
    for needed, optional, words in KINDS:
        found = _assigned(needed, optional, columns)
        made = None if found is None else _proposal(items, columns, found, words)
        if made is not None and made.sure:
            return made
        by_content = by_content or made
    return by_content


# Columns


def _names(items: Iterable[dict[str, Any]]) -> list[str]:
    found = dict.fromkeys(name for item in items for name in _inner(item, DEEPEST))
    return list(found)[:MOST_COLUMNS]


def _inner(item: dict[str, Any], deeper: int) -> Iterable[str]:
    for name, value in item.items():
        if isinstance(value, dict) and value and deeper:
            yield from (f"{name}.{one}" for one in _inner(value, deeper - 1))
        else:
            yield str(name)


def _facts(name: str, items: Sequence[dict[str, Any]]) -> Facts | None:
    values = [value for item in items if (value := picked(item, name)) not in (None, "", [])]
    if len(values) * 2 < len(items):
        return None  # rarely filled
    kind = _kind(values)
    texts = [str(value) for value in values]
    letters = sum(map(len, texts)) / len(texts)
    different = len(set(texts)) / len(texts)
    if kind != "number":
        return Facts(name, kind, letters, different)
    numbers = [float(value) for value in values]
    return Facts(name, kind, letters, different, min(numbers), max(numbers))


def _kind(values: Sequence[Any]) -> str:
    if all(_is_turns(value) for value in values):
        return "turns"
    if all(isinstance(value, bool) or str(value).lower() in ("true", "false") for value in values):
        return "label"
    if all(_is_number(value) for value in values):
        return "number"
    return "text" if all(isinstance(value, str) for value in values) else "other"


def _is_turns(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, dict) and {"role", "from"} & turn.keys()
            and {"content", "value"} & turn.keys()
            for turn in value
        )
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


# Which column is what


def _assigned(needed: Need, optional: Need, columns: Sequence[Facts]) -> dict[Column, Match] | None:
    """A column for each of ours, the best matches first; None where a needed one has none."""
    wanted: Need = (*needed, *optional)
    pairs: list[tuple[Match, Column]] = [
        (match, ours)
        for ours in wanted
        for facts in columns
        if (match := _match(ours, facts)) is not None
    ]
    found: dict[Column, Match] = {}
    for match, ours in sorted(pairs, key=lambda pair: -pair[0].score):
        if ours not in found and all(match.column is not one.column for one in found.values()):
            found[ours] = match
    by_content: list[Column] = [ours for ours in needed if ours not in found]
    if by_content and needed in (("prompt", "completion"), ("text",)):
        _by_content(found, by_content, needed, columns)
    if not all(ours in found for ours in needed):
        return None
    return {ours: found[ours] for ours in wanted if ours in found}


def _match(ours: Column, facts: Facts) -> Match | None:
    """How well a column's name says that it is ours; None where its content speaks against it."""
    kinds = {"messages": "turns", "label": "label"}
    if facts.kind != kinds.get(ours, "text") and not (
        facts.kind == "turns" and ours in ("chosen", "rejected", "prompt")
    ):
        return None
    if ours in ("prompt", "completion", "text") and facts.different < FEW_VALUES:
        return None
    said = _words(facts.name)
    found = [
        (BY_NAME - 0.02 * rank - 0.3 * (word not in said), word)
        for rank, word in enumerate(WORDS[ours])
        if word in said or _misspelt(word, said)
    ]
    return Match(facts, *max(found)) if found else None


def _misspelt(word: str, said: Sequence[str]) -> bool:
    """Whether a longer word nearly stands there; its first letter is mostly right."""
    alike = [one for one in said if one[0] == word[0]]
    return len(word) > 4 and bool(difflib.get_close_matches(word, alike, 1, CLOSE))


def _words(name: str) -> list[str]:
    """The words of a column's name, in small letters and without a plural's s."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W\d_]+", split.lower())
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]


def _by_content(
    found: dict[Column, Match], missing: list[Column], needed: Need, columns: Sequence[Facts]
) -> None:
    """Gives what is missing the texts that are left, in the file's order, where they are as many:
    the question stands before its answer."""
    taken = [one.column for one in found.values()]
    left = [
        facts for facts in columns
        if facts not in taken and facts.kind == "text" and _is_prose(facts)
    ]  # fmt: skip
    if len(left) == len(missing) == len(needed) - len(taken):
        for ours, facts in zip(missing, left, strict=True):
            found[ours] = Match(facts, BY_CONTENT, "")


def _is_prose(facts: Facts) -> bool:
    """Whether a column's texts say something: no names of kinds, no ids, no dates."""
    return facts.different >= FEW_VALUES and facts.letters >= 12 and not _is_id(facts.name)


def _is_id(name: str) -> bool:
    return bool(
        {"id", "uuid", "date", "time", "timestamp", "url", "hash", "path"} & {*_words(name)}
    )


# The proposal


def _proposal(
    items: Sequence[dict[str, Any]],
    columns: Sequence[Facts],
    found: dict[Column, Match],
    words: str,
) -> Proposal | None:
    mapping: dict[str, Column] = {match.column.name: ours for ours, match in found.items()}
    try:
        detected = from_mapping(mapping, "the dataset", words)
    except Refusal:
        return None
    parser = RowParser(list(items), detected)
    made = [row for item in items if (row := _made(parser, item)) is not None]
    if not made or len(made) < LEAST_USABLE * len(items):
        return None
    return Proposal(
        mapping=dict(mapping),
        format=detected.format,
        sure=all(match.word for match in found.values()),
        why=" ".join(_reasons(columns, found, words)),
        examples=[_example(item, mapping) for item in items[:EXAMPLES]],
    )


def _made(parser: RowParser, item: dict[str, Any]) -> Row | None:
    try:
        return parser.row(item)
    except RowFault:
        return None


def _reasons(columns: Sequence[Facts], found: dict[Column, Match], words: str) -> Iterable[str]:
    yield f"these look like {words}."
    for ours, match in found.items():
        because = f'its name says "{match.word}"' if match.word else "it is the text that is left"
        yield f"{match.column.name} is {ours}: {because}."
    taken = [match.column for match in found.values()]
    for facts in columns:
        if facts.kind == "number" and facts not in taken and "label" not in found:
            yield (
                f"{facts.name}, numbers from {facts.low:g} to {facts.high:g}, is not used: a label "
                "is true or false, and from which number on is yours to say."
            )


def _example(item: dict[str, Any], mapping: dict[str, Column]) -> dict[str, str]:
    return {ours: _excerpt(picked(item, theirs)) for theirs, ours in mapping.items()}


def _excerpt(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    line = " ".join(text[: 4 * EXCERPT].split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
