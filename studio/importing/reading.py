"""Reads a config: finds the program by its keys, and hands it to what knows that program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.importing import axolotl, llama_factory, llama_factory_v1, unsloth
from studio.importing.account import Account, Unfit
from studio.importing.datasets import found_beside
from studio.importing.imported import Imported
from studio.importing.yaml_file import read_yaml
from workers.protocol.recipe import Recipe, RootOf, converted, itself, with_defaults

KNOWN = (axolotl.NAME, llama_factory.NAME, unsloth.NAME)
USUAL_NAMES = frozenset(("config", "lora", "qlora", "full", "sft", "dpo", "kto", "train"))
"""What many a config is called, so that its folder says more."""


def read_config(
    path: Path, *, data: str = "", model: str = "", root_of: RootOf = itself
) -> Imported:
    """See `studio.importing.import_config`."""
    file = read_yaml(path)
    tool, translate, given = _recognized(file.tables, path)
    if model:
        given = given | {"base_model" if tool == axolotl.NAME else _model_key(given): model}
    account = Account(given, path, file.repeated)
    translate(account)
    account.put("name", _name(path))
    if data:
        _replace_data(account, data)
    tables = _in_order(account.tables)
    recipe = converted(with_defaults(tables, root_of), Recipe, str(path))
    return Imported(tool=tool, path=str(path), tables=tables, recipe=recipe,
                    items=account.items, lacks=account.lacks)  # fmt: skip


def _recognized(
    given: dict[str, Any], path: Path
) -> tuple[str, Callable[[Account], None], dict[str, Any]]:
    """The program by the keys of its configs, how they are read, and the config to read."""
    llama_factory.refuse_other_tasks(given)
    if unsloth.is_it(given):
        named = unsloth.model_of(path.stem, path.read_text("utf-8-sig"))
        whole = unsloth.nested(given)
        return unsloth.NAME, unsloth.translate, {"model": named} | whole if named else whole
    if axolotl.is_it(given):
        return axolotl.NAME, axolotl.translate, given
    if llama_factory.is_it(given):
        return llama_factory.NAME, llama_factory.translate, given
    if llama_factory_v1.is_it(given):
        return llama_factory.NAME, llama_factory_v1.translate, given
    raise Unfit(
        "not training",
        f"{path} is no config of a program that is known.",
        f"Known are those of {', '.join(KNOWN[:-1])} and {KNOWN[-1]}, for training a model.",
        "Give one of those, or a recipe (.toml).",
    )


def _model_key(given: dict[str, Any]) -> str:
    return "model_name_or_path" if llama_factory.is_it(given) else "model"


def _replace_data(account: Account, data: str) -> None:
    """One dataset instead of those that the config names."""
    account.put("data", [{"source": found_beside(data, account.path)}])
    account.lacks = [one for one in account.lacks if one.kind != "data"]


def _name(path: Path) -> str:
    """What the run is called: the file, with its folder where that alone says little."""
    plain = path.stem.lower() in USUAL_NAMES
    folder = path.resolve().parent.name
    return f"{folder}-{path.stem}" if plain and folder else path.stem


def _in_order(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables in the order of a recipe."""
    fields = [field.name for field in msgspec.structs.fields(Recipe)]
    return {name: tables[name] for name in fields if name in tables}
