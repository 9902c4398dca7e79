"""Recipes as TOML text: read, completed with their stage's defaults, checked, written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workers.protocol.options import options_of
from workers.protocol.recipe.checks import check_recipe
from workers.protocol.recipe.former import silent, with_present_keys
from workers.protocol.recipe.schema import Recipe, keys_at, sections, table_of
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import KINDS
from workers.protocol.sizes import parameters_of
from workers.protocol.stages import STAGES, defaults_for

T = TypeVar("T")
RootOf = Callable[[str], str]
"""From `run:ID` to the model at the beginning of that chain of runs; any other name as it is."""


OVERRULED_BY = {
    "training.effective_batch_size": "batch_size",
    "training.max_steps": "epochs",
}
"""Defaults that do not hold where the file gives another key of the same table: a batch by its
micro-batch, a length by its epochs."""


def itself(base: str) -> str:
    """The root of a base where no runs are known."""
    return base


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


def parse_recipe(
    text: str,
    where: str = "the recipe",
    *,
    say: Callable[[str], None] = silent,
    root_of: RootOf = itself,
) -> Recipe:
    """A checked recipe from TOML text.

    Args:
        text: of the file.
        where: is named in a refusal.
        say: is handed a sentence for each key that was written by a former name.
        root_of: finds the model by whose size defaults are chosen.
    """
    plain = with_present_keys(parse_toml(text, where), say)
    recipe = converted(with_defaults(plain, root_of), Recipe, where)
    check_recipe(recipe, where)
    return recipe


def parse_toml(text: str, where: str) -> Any:
    """The plain tables of a TOML text."""
    try:
        return msgspec.toml.decode(text)
    except msgspec.DecodeError as fault:
        raise Refusal(
            f"{where} is not valid TOML.", f"{fault}.", "Mend that line and try again."
        ) from None


def converted(plain: Any, kind: type[T], where: str) -> T:
    """Plain tables as a type; raises `Refusal` with the key's path."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as fault:
        raise refusal_of(str(fault), where) from None


def with_defaults(recipe: Any, root_of: RootOf = itself) -> Any:
    """A recipe's plain tables with what its stage takes where the file does not say.

    What is no table, and a stage that there is not, are left for the type's check.
    """
    if not isinstance(recipe, dict):
        return recipe
    stage = recipe.get("stage", "sft")
    tables = {name: recipe.get(name, {}) for name in ("model", "rl")}
    if not isinstance(stage, str) or stage not in STAGES:
        return recipe
    if not all(isinstance(table, dict) for table in tables.values()):
        return recipe
    base = tables["model"].get("base", "starter")
    size = parameters_of(root_of(base)) if isinstance(base, str) else None
    method, algorithm = tables["model"].get("method"), tables["rl"].get("algorithm")
    made = dict(recipe)
    for path, value in defaults_for(stage, method, size, algorithm).items():
        table, _, key = path.partition(".")
        given = made.get(table, {})
        if isinstance(given, dict) and not given.get(OVERRULED_BY.get(path, "")):
            made[table] = {key: value} | given
    return made


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
