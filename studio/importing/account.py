"""What becomes of a foreign config: the tables of a recipe, and an account of each of its keys.

Every key that has a value is carried over, changed, needless here or not known; what the file
leaves out and the other program has a default of its own for is told apart.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from workers.protocol.options import options_of
from workers.protocol.recipe import sections
from workers.protocol.refusal import Refusal

CHOOSE_DATA = "Choose it in the window, or import with --data FILE or --data org/name."
Fate = Literal["carried", "changed", "needless", "left_out", "unknown"]
Kind = Literal["number", "whole", "switch", "text"]


class Reason(NamedTuple):
    """Why keys that have no counterpart may be left behind."""

    keys: str
    """Patterns of their paths, with spaces between."""
    why: str
    needless: bool = False
    """Whether nothing of the result depends on them."""


Reasons = Sequence[Reason]


class Unfit(Refusal):
    """A config of which no recipe can be made, with the kind of reason."""

    def __init__(self, kind: str, what: str, cause: str, remedy: str) -> None:
        super().__init__(what, cause, remedy)
        self.kind = kind


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one key."""

    fate: Fate
    key: str
    """Its path in the other program's file."""
    ours: str = ""
    """Its path in the recipe; empty where it has none."""
    value: Any = None
    """What the recipe has."""
    why: str = ""

    @property
    def taken(self) -> str:
        """What it is here, on one line: the recipe's key and value, and why."""
        value = f"{self.ours} = {_shown(self.value)}" if self.ours else ""
        return plain_line(": ".join(part for part in (value, self.why) if part))

    @property
    def words(self) -> str:
        """The item on one line, free of control characters."""
        if self.fate == "left_out":
            return f"{self.taken}, its default for {plain_line(self.key)}"
        arrow = " → " if self.ours else ": "
        return plain_line(f"{self.key}{arrow}{self.taken}" if self.taken else self.key)


class Plain(NamedTuple):
    """A key whose value is taken as it stands."""

    theirs: str
    ours: str
    kind: Kind
    default: Any = None
    """The other program's own where the file leaves it out; None where ours serves."""


class Account:
    """A foreign config being read.

    Args:
        given: the config's tables.
        path: of its file, for files that it names.
        repeated: keys that stood twice.
    """

    def __init__(self, given: dict[str, Any], path: Path, repeated: Sequence[str] = ()) -> None:
        self.given = given
        self.path = path
        self.items: list[Item] = []
        self.tables: dict[str, Any] = {}
        """Of the recipe; what is not set here is left to its defaults."""
        self.lacks: list[Unfit] = []
        """What the recipe still needs and the file does not give."""
        self._seen: list[str] = []
        self._repeated = set(repeated)

    # Values

    def get(self, key: str) -> Any:
        """The value at a path; None where there is none, or it is empty."""
        value: Any = self.given
        for part in re.findall(r"[^.\[\]]+", key):
            if isinstance(value, list) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return None if value in ("", [], {}) else value

    def number(self, key: str) -> float | None:
        """A number, also one that YAML took for text, as PyYAML does with 1e-4."""
        value = self.get(key)
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(key, "a number")
        return number

    def whole(self, key: str) -> int | None:
        number = self.number(key)
        if number is not None and number != int(number):
            raise self._wrong(key, "a whole number")
        return None if number is None else int(number)

    def switch(self, key: str) -> bool | None:
        """Whether something is on; a word that says how, such as "unsloth", is on too."""
        value = self.get(key)
        if isinstance(value, str):
            return value.strip().lower() not in ("false", "no", "off", "none", "0")
        return None if value is None else bool(value)

    def text(self, key: str) -> str:
        """Text; empty where there is none."""
        value = self.get(key)
        if isinstance(value, dict | list):
            raise self._wrong(key, "text")
        return "" if value is None else str(value).strip()

    def names(self, key: str) -> list[str]:
        """A list of names, also one that is written with commas."""
        value = self.get(key)
        parts = value.split(",") if isinstance(value, str) else value or []
        if not isinstance(parts, list) or any(isinstance(part, dict | list) for part in parts):
            raise self._wrong(key, "a list of names")
        return [name for part in parts if (name := str(part).strip())]

    def _wrong(self, key: str, wanted: str) -> Unfit:
        return Unfit(
            "value", f"{key} is not {wanted}.", f"It reads {_shown(self.get(key))}.",
            "Mend it in that file and try again.",
        )  # fmt: skip

    # What becomes of them

    def put(self, ours: str, value: Any) -> None:
        """Sets a value of the recipe without a word."""
        table, _, key = ours.rpartition(".")
        held = self.tables.setdefault(table, {}) if table else self.tables
        held[key] = value

    def held(self, ours: str, otherwise: Any = None) -> Any:
        """A value of the recipe that was set."""
        table, _, key = ours.rpartition(".")
        return (self.tables.get(table, {}) if table else self.tables).get(key, otherwise)

    def carry(self, key: str, ours: str, value: Any, why: str = "") -> None:
        """Takes a value over; where the file leaves the key out, it is told if ours differs."""
        self.put(ours, value)
        if self.get(key) is not None:
            self._note("carried", key, ours, value, why)
        elif value != _default_of(ours):
            self._note("left_out", key, ours, value, why)

    def keep(self, key: str, why: str) -> None:
        """A key that needs no setting here for the same to be done."""
        self._note("carried", key, why=why)

    def change(self, key: str, why: str, ours: str = "", value: Any = None) -> None:
        """A key whose meaning is not the same here, and why."""
        if ours:
            self.put(ours, value)
        self._note("changed", key, ours, value, why)

    def tell(self, key: str, why: str) -> None:
        """Something that is not the same here, about a table whose keys are told one by one."""
        self.items.append(Item(fate="changed", key=key, why=why))

    def lack(self, kind: str, what: str, cause: str, remedy: str) -> None:
        self.lacks.append(Unfit(kind, what, cause, remedy))

    def plain(self, rows: Iterable[Plain]) -> None:
        """Takes over keys whose values mean the same."""
        for row in rows:
            value = getattr(self, row.kind)(row.theirs)
            value = None if value == "" else value
            if value is None and row.default is None:
                continue
            self.carry(row.theirs, row.ours, row.default if value is None else value)

    def finish(self, reasons: Reasons) -> None:
        """Accounts for every key that was not looked at: by a pattern's reason, or as unknown."""
        for key in sorted(self._repeated):
            self.tell(key, "it stands twice in the file; the last one counts")
        for path, _ in leaves(self.given):
            if self._is_seen(path):
                continue
            at, reason = _reason(path, reasons)
            if reason is None:
                self._note("unknown", path)
            elif self.get(at) is False:
                self._note("carried", at, why="off, as here")
            else:
                self._note("needless" if reason.needless else "changed", at, why=reason.why)

    def _note(self, fate: Fate, key: str, ours: str = "", value: Any = None, why: str = "") -> None:
        """What is said last of a key counts."""
        self._seen.append(key)
        self.items = [one for one in self.items if one.key != key]
        self.items.append(Item(fate=fate, key=key, ours=ours, value=value, why=why))

    def is_told(self, key: str) -> bool:
        """Whether something was said of a key."""
        return key in self._seen

    def _is_seen(self, path: str) -> bool:
        return any(path == seen or path.startswith((f"{seen}.", f"{seen}[")) for seen in self._seen)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The paths of a config's values, without those that are empty."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{number}]")
    elif value not in (None, "", []):
        yield path, value


@functools.cache
def _default_of(path: str) -> Any:
    """The declared default of one of our options; None where there is none."""
    table, _, key = path.rpartition(".")
    section = sections().get(table)
    found = options_of(section) if section else ()
    return next((option.default for option in found if option.key == key), None)


def _reason(path: str, reasons: Reasons) -> tuple[str, Reason | None]:
    """The part of a path that a pattern names, and its reason; None where none does."""
    parts = re.split(r"(?=[.\[])", path)
    for upto in range(1, len(parts) + 1):
        at = "".join(parts[:upto])
        for reason in reasons:
            if any(fnmatch.fnmatchcase(at, pattern) for pattern in reason.keys.split()):
                return at, reason
    return path, None


def plain_line(text: str) -> str:
    """Text from elsewhere on one line, without control characters."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())


def _shown(value: Any) -> str:
    try:
        text = (
            value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
        )
    except (OverflowError, ValueError):  # a number of more than 64 bits
        text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
