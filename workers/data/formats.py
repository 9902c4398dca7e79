"""Reads a dataset file into conversations, naming the line and the reason for every bad row.

Three shapes are known: chat (`messages`), prompt and completion, Alpaca (`instruction`, `input`,
`output`). Files are JSON lines or one JSON array. Knows no model and no tokenizer.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from workers.protocol.assets import builtin_dataset
from workers.protocol.refusal import Refusal

Message = dict[str, str]
Format = Literal["chat", "prompt_completion", "alpaca"]
ROLES = ("system", "user", "assistant")
SHAPES = (
    'a "messages" list, a "prompt" with a "completion", '
    'or an "instruction" with an "output" (Alpaca)'
)


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be used. `line` counts from 1; in an array it is the item's number."""

    line: int
    reason: str


class Table(msgspec.Struct, frozen=True):
    """One dataset, read whole."""

    source: str
    path: str
    sha256: str
    format: Format
    rows: list[list[Message]]
    """Conversations, in the file's order."""


class RowFault(Exception):
    """Why one row cannot be used."""


def locate(source: str) -> Path:
    """The file that a recipe's `source` names; raises `Refusal` when there is none."""
    if source.startswith("builtin:"):
        return builtin_dataset(source.removeprefix("builtin:"))
    path = Path(source).expanduser()
    if path.is_file():
        return path
    raise Refusal(
        f"There is no dataset at {source}.",
        "The path may be misspelt, or the file was moved since the recipe was written.",
        "Give the path of a .jsonl or .json file, or builtin:arithmetic.",
    )


def read_table(source: str) -> Table:
    """Reads a dataset; raises `Refusal` with the first bad lines when any row is unusable."""
    path = locate(source)
    data = _bytes(path)
    items = list(_items(path, _text(path, data)))
    rows, bad, shape = _convert(items)
    if bad:
        raise _refuse_rows(path, bad, len(items))
    if not rows or shape is None:
        raise Refusal(
            f"The dataset {path} holds no rows.",
            "The file is empty.",
            f"Each row needs {SHAPES}.",
        )
    return Table(source, str(path), hashlib.sha256(data).hexdigest(), shape, rows)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Refusal(
            f"The dataset {path} cannot be read: {fault.strerror}.",
            "It may belong to somebody else or lie on a disk that is gone.",
            "Make the file readable, or copy it elsewhere.",
        ) from fault


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise Refusal(
            f"The dataset {path} is not UTF-8 text (line {line}).",
            "It was saved in another encoding, for example Latin-1 or UTF-16.",
            "Save it again as UTF-8.",
        ) from None


def _items(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Numbered rows; one that is not JSON stands as its `RowFault`."""
    if text.lstrip().startswith("["):
        yield from enumerate(_array(path, text), start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line)
            except msgspec.DecodeError as fault:
                yield number, RowFault(f"not valid JSON: {fault}")


def _array(path: Path, text: str) -> list[Any]:
    try:
        return msgspec.json.decode(text.strip(), type=list[Any])
    except msgspec.DecodeError as fault:
        raise Refusal(
            f"The dataset {path} is not valid JSON: {fault}.",
            "An array that is cut off or has a stray comma reads like this.",
            "Mend the file, or save it as JSON lines, one row a line.",
        ) from None


def _convert(
    items: list[tuple[int, Any]],
) -> tuple[list[list[Message]], list[BadRow], Format | None]:
    """Rows in the shape of the first usable one; a change of shape within a file is a fault."""
    rows: list[list[Message]] = []
    bad: list[BadRow] = []
    shape: Format | None = None
    for number, item in items:
        try:
            found = detect(item)
            if shape not in (None, found):
                raise RowFault(f"it is {found} where the rows before are {shape}")
            rows.append(READERS[found](item))
            shape = found
        except RowFault as fault:
            bad.append(BadRow(number, str(fault)))
    return rows, bad, shape


def _refuse_rows(path: Path, bad: list[BadRow], total: int) -> Refusal:
    shown = "; ".join(f"line {row.line}: {row.reason}" for row in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    return Refusal(
        f"{len(bad)} of {total} rows in {path} cannot be used. {shown}{more}.",
        "A row that is skipped in silence would change what is learnt.",
        f"Mend or remove those rows. Each needs {SHAPES}.",
    )


def detect(item: Any) -> Format:
    """Which of the known shapes a row has."""
    if isinstance(item, RowFault):
        raise item
    if not isinstance(item, dict):
        raise RowFault(f"a row must be an object, this is {type(item).__name__}")
    if "messages" in item:
        return "chat"
    if "prompt" in item and "completion" in item:
        return "prompt_completion"
    if "instruction" in item and "output" in item:
        return "alpaca"
    raise RowFault(f"its keys are {', '.join(sorted(map(str, item))) or 'none'}")


def _chat(item: dict[str, Any]) -> list[Message]:
    return check_conversation(item["messages"])


def _prompt_completion(item: dict[str, Any]) -> list[Message]:
    return check_conversation(
        _turns(item["prompt"], "user", "prompt") + _turns(item["completion"], "assistant",
                                                          "completion")
    )  # fmt: skip


def _turns(value: Any, role: str, key: str) -> list[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        return value
    raise RowFault(f'"{key}" must be text or a list of messages')


def _alpaca(item: dict[str, Any]) -> list[Message]:
    parts = [item["instruction"], item.get("input") or ""]
    if not all(isinstance(part, str) for part in (*parts, item["output"])):
        raise RowFault('"instruction", "input" and "output" must be text')
    prompt = "\n\n".join(part for part in parts if part.strip())
    return check_conversation(
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": item["output"]}]
    )


READERS: dict[Format, Callable[[dict[str, Any]], list[Message]]] = {
    "chat": _chat,
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
}


def check_conversation(messages: Any) -> list[Message]:
    """A usable conversation: known roles, no empty turn, roles in turn, ending with an answer."""
    if not isinstance(messages, list) or not messages:
        raise RowFault('"messages" must be a list with at least one message')
    turns = [_turn(number, message) for number, message in enumerate(messages, start=1)]
    spoken = [turn["role"] for turn in turns if turn["role"] != "system"]
    if "system" in [turn["role"] for turn in turns[1:]]:
        raise RowFault("a system message must come first")
    if spoken[:1] != ["user"]:
        raise RowFault("the first message must be the user's")
    if any(one == other for one, other in itertools.pairwise(spoken)):
        raise RowFault("user and assistant must take turns")
    if spoken[-1] != "assistant":
        raise RowFault("the last message must be the assistant's")
    return turns


def _turn(number: int, message: Any) -> Message:
    if not isinstance(message, dict):
        raise RowFault(f"message {number} must be an object")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise RowFault(f"message {number} has the role {role!r}; known are {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise RowFault(f"message {number} has no text content")
    if not content.strip():
        raise RowFault(f"message {number} is empty")
    return {"role": role, "content": content}
