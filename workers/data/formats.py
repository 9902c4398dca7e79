"""Reads a dataset file into rows, naming the line and the reason for every bad one.

Known shapes: chat (`messages`), prompt and completion, Alpaca (`instruction`, `input`, `output`),
preference pairs (`chosen`, `rejected`), answers with a thumb up or down (`label`), prompt and
answer, and plain text. Files are JSON lines or one JSON array. Knows no model and no tokenizer.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from workers.protocol.assets import builtin_dataset
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

Message = dict[str, str]
Format = Literal[
    "chat", "prompt_completion", "alpaca", "preference", "feedback", "prompt_answer", "text"
]
ROLES = ("system", "user", "assistant")
SHAPES: dict[Format, str] = {
    "chat": 'a "messages" list',
    "prompt_completion": 'a "prompt" with a "completion"',
    "alpaca": 'an "instruction" with an "output" (Alpaca)',
    "preference": 'a "prompt" with a "chosen" and a "rejected" answer',
    "feedback": 'a "prompt" with a "completion" and a "label" (true is good)',
    "prompt_answer": 'a "prompt" with an "answer"',
    "text": 'a "text"',
}
"""What a row of each shape holds, in words."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row, whatever its shape was: what is asked, what is said to it, and what is right.

    `prompt` ends with the user's turn and is empty for plain text. A chat with several turns has
    all but the last answer in its prompt.
    """

    prompt: list[Message] = []
    completion: list[Message] = []
    """The assistant's answer, one turn; the better one of a pair."""
    rejected: list[Message] = []
    """The worse answer of a pair."""
    good: bool | None = None
    """The thumb that the completion got."""
    answer: str = ""
    """What a right completion comes to."""
    text: str = ""

    @property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return [*self.prompt, *self.completion]


def serves(row: Row, stage: Stage) -> bool:
    """Whether a stage can learn from the row."""
    match stage:
        case "sft":
            return bool(row.completion) and row.good is not False
        case "cpt":
            return bool(row.text)
        case "dpo" | "ipo" | "simpo" | "orpo":
            return bool(row.rejected)
        case "kto":
            return bool(row.rejected) or row.good is not None
        case "grpo":
            return bool(row.prompt)


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
    rows: list[Row]
    """In the file's order."""


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
    items = list(_items(path, _decoded(path, data)))
    rows, bad, shape = _convert(items)
    if bad:
        raise _refuse_rows(path, bad, len(items))
    if not rows or shape is None:
        raise Refusal(
            f"The dataset {path} holds no rows.",
            "The file is empty.",
            f"Each row needs {_shapes()}.",
        )
    return Table(source, str(path), hashlib.sha256(data).hexdigest(), shape, rows)


def _shapes() -> str:
    *most, last = SHAPES.values()
    return f"{', '.join(most)}, or {last}"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Refusal(
            f"The dataset {path} cannot be read: {fault.strerror}.",
            "It may belong to somebody else or lie on a disk that is gone.",
            "Make the file readable, or copy it elsewhere.",
        ) from fault


def _decoded(path: Path, data: bytes) -> str:
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
) -> tuple[list[Row], list[BadRow], Format | None]:
    """Rows in the shape of the first usable one; a change of shape within a file is a fault."""
    rows: list[Row] = []
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
        f"Mend or remove those rows. Each needs {_shapes()}.",
    )


def detect(item: Any) -> Format:
    """Which of the known shapes a row has."""
    if isinstance(item, RowFault):
        raise item
    if not isinstance(item, dict):
        raise RowFault(f"a row must be an object, this is {type(item).__name__}")
    keys = item.keys()
    for shape, needed in _KEYS.items():
        if needed <= keys:
            return shape
    raise RowFault(f"its keys are {', '.join(sorted(map(str, item))) or 'none'}")


_KEYS: dict[Format, set[str]] = {
    "chat": {"messages"},
    "preference": {"chosen", "rejected"},
    "feedback": {"prompt", "completion", "label"},
    "prompt_completion": {"prompt", "completion"},
    "alpaca": {"instruction", "output"},
    "prompt_answer": {"prompt", "answer"},
    "text": {"text"},
}
"""The keys that tell a shape, the more telling ones first."""


def _chat(item: dict[str, Any]) -> Row:
    return _answered(item["messages"], item)


def _prompt_completion(item: dict[str, Any]) -> Row:
    return _answered(_asked(item) + _turns(item["completion"], "assistant", "completion"), item)


def _alpaca(item: dict[str, Any]) -> Row:
    parts = [item["instruction"], item.get("input") or ""]
    if not all(isinstance(part, str) for part in (*parts, item["output"])):
        raise RowFault('"instruction", "input" and "output" must be text')
    prompt = "\n\n".join(part for part in parts if part.strip())
    said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": item["output"]}]
    return _answered(said, item)


def _preference(item: dict[str, Any]) -> Row:
    """A pair; without a prompt both answers are whole conversations that begin alike."""
    if "prompt" in item:
        prompt = _asked(item)
        chosen = check_conversation(prompt + _turns(item["chosen"], "assistant", "chosen"))
        rejected = check_conversation(prompt + _turns(item["rejected"], "assistant", "rejected"))
    else:
        chosen, rejected = check_conversation(item["chosen"]), check_conversation(item["rejected"])
        if chosen[:-1] != rejected[:-1]:
            raise RowFault('"chosen" and "rejected" answer different prompts')
    if chosen == rejected:
        raise RowFault('"chosen" and "rejected" are the same')
    return Row(
        prompt=chosen[:-1], completion=chosen[-1:], rejected=rejected[-1:], answer=_key(item)
    )


def _feedback(item: dict[str, Any]) -> Row:
    if not isinstance(item["label"], bool):
        raise RowFault('"label" must be true or false')
    turns = check_conversation(_asked(item) + _turns(item["completion"], "assistant", "completion"))
    return Row(
        prompt=turns[:-1], completion=turns[-1:], good=item["label"], answer=_key(item)
    )  # fmt: skip


def _prompt_answer(item: dict[str, Any]) -> Row:
    prompt = check_conversation([*_asked(item), {"role": "assistant", "content": "-"}])[:-1]
    answer = _key(item)
    if not answer.strip():
        raise RowFault('"answer" is empty')
    return Row(prompt=prompt, answer=answer)


def _text(item: dict[str, Any]) -> Row:
    if not isinstance(item["text"], str) or not item["text"].strip():
        raise RowFault('"text" must be text and not empty')
    return Row(text=item["text"])


READERS: dict[Format, Callable[[dict[str, Any]], Row]] = {
    "chat": _chat,
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
    "preference": _preference,
    "feedback": _feedback,
    "prompt_answer": _prompt_answer,
    "text": _text,
}


def _answered(turns: list[Any], item: dict[str, Any]) -> Row:
    messages = check_conversation(turns)
    return Row(prompt=messages[:-1], completion=messages[-1:], answer=_key(item))


def _asked(item: dict[str, Any]) -> list[Any]:
    return _turns(item["prompt"], "user", "prompt")


def _turns(value: Any, role: str, key: str) -> list[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        return value
    raise RowFault(f'"{key}" must be text or a list of messages')


def _key(item: dict[str, Any]) -> str:
    """The right answer as text, empty when the row has none."""
    answer = item.get("answer")
    if answer is None:
        return ""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise RowFault('"answer" must be text or a number')
    return str(answer)


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
