"""Recipes as TOML text: read, completed with their stage's defaults, checked, written."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import msgspec

from workers.protocol.options import options_of
from workers.protocol.recipe.checks import check_recipe
from workers.protocol.recipe.schema import Recipe, keys_at, sections, table_of
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import KINDS


def read_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe file; raises `Refusal` with the file and the key's path."""
    return parse_recipe(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a recipe file; raises `Refusal` when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise Refusal(
            f"There is no recipe at {path}.",
            "The path may be misspelt or relative to another folder.",
            "Give the path of a .toml recipe; assets/recipes holds ready ones.",
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise Refusal(
            f"The recipe {path} cannot be read.", f"{fault}.", "Save it as UTF-8 text."
        ) from fault


def parse_recipe(text: str, where: str = "the recipe") -> Recipe:
    """A checked recipe from TOML text; `where` is named in a refusal."""
    try:
        recipe = msgspec.toml.decode(text, type=Recipe)
    except msgspec.ValidationError as fault:
        raise refusal_of(str(fault), where) from None
    except msgspec.DecodeError as fault:
        raise Refusal(
            f"{where} is not valid TOML.", f"{fault}.", "Mend that line and try again."
        ) from None
    check_recipe(recipe, where)
    return recipe


def format_recipe(recipe: Recipe) -> str:
    """TOML text that `parse_recipe` reads back to an equal recipe."""
    return toml_of(recipe)


def toml_of(section: msgspec.Struct) -> str:
    """TOML text of a section; what is not set is left out, since TOML has no null."""
    return msgspec.toml.encode(_without_nulls(msgspec.to_builtins(section))).decode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")
_PATH = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")


def refusal_of(message: str, where: str) -> Refusal:
    """Turns msgspec's message into the key's path and what to write instead."""
    at = _PATH.search(message)
    path = at["path"] if at else ""
    problem = _PATH.sub("", message)
    unknown = _UNKNOWN.search(problem)
    if unknown is None:
        return Refusal(
            f"{where}: {path or 'the file'} is not usable.", f"{problem}.", _expected(path)
        )
    key = unknown["key"]
    full = f"{path}.{key}" if path else key
    known = keys_at(path)
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(known)}."
    return Refusal(f"{where}: there is no key '{full}'.", "It may be misspelt.", remedy)


def _expected(path: str) -> str:
    table, _, key = table_of(path).rpartition(".")
    if (table, key) == ("rewards", "kind"):
        return f"Known kinds: {', '.join(KINDS)}."
    for declared in options_of(sections().get(table, Recipe)):
        if declared.key == key:
            return f"{declared.label}: {declared.help} Its default is {declared.default!r}."
    return "See the table of options in README.md."
