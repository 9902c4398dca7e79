"""Configs of other programs as recipes: Axolotl, LLaMA-Factory and Unsloth Studio.

A config becomes a checked recipe with an account of every key: what was carried over, what is not
the same here and why, what that program fills in by itself, and what is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.importing import axolotl, llama_factory, llama_factory_v1, unsloth
from studio.importing.account import Account, Fate, Item, Unfit, plain_line
from studio.importing.datasets import found_beside
from studio.importing.yaml_file import ENDINGS, read_yaml
from workers.protocol.pipeline import Pipeline, check_pipeline
from workers.protocol.recipe import Recipe, RootOf, converted, itself, with_defaults
from workers.protocol.refusal import Refusal

__all__ = [
    "KNOWN",
    "PATTERN",
    "Imported",
    "Item",
    "Unfit",
    "import_config",
    "is_config",
    "write_recipe",
]

KNOWN = (axolotl.NAME, llama_factory.NAME, unsloth.NAME)
PATTERN = " ".join(f"*{ending}" for ending in ENDINGS)
"""For a dialog that asks for a file."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A config of another program, as a recipe."""

    tool: str
    path: str
    tables: dict[str, Any]
    """The recipe as far as it says more than its stage's defaults."""
    recipe: Recipe
    """Complete, but for what it lacks."""
    items: list[Item]
    lacks: list[Unfit]
    """What the recipe needs and the config does not give."""

    def of(self, fate: Fate) -> list[Item]:
        return [item for item in self.items if item.fate == fate]

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(name=self.recipe.name, stages=[self.recipe])

    def check(self) -> None:
        """Raises `Refusal` where the recipe cannot be trained by as it is."""
        for one in self.lacks:
            raise one
        check_pipeline(self.pipeline, self.path)

    def fields(self) -> dict[str, Any]:
        """What a machine is told of it: keys by what became of them, and each in full."""
        told = [*self.of("changed"), *self.of("needless")]
        changed = dict.fromkeys(item.key for item in told)
        return {
            "tool": self.tool,
            "stage": self.recipe.stage,
            "carried": [item.key for item in self.of("carried") if item.key not in changed],
            "changed": list(changed),
            "unknown": [item.key for item in self.of("unknown")],
            "details": [msgspec.to_builtins(item) for item in self.items],
        }

    @property
    def text(self) -> str:
        """TOML that is read back to the same recipe, with what was changed as a comment."""
        head = [f"Made from {Path(self.path).name}, a config of {self.tool}."]
        head += [f"Not the same here: {item.words}" for item in self.of("changed")]
        head += [f"Not known: {item.words}" for item in self.of("unknown")]
        comment = "".join(f"# {plain_line(line)}\n" for line in head)
        return f"{comment}\n{msgspec.toml.encode(self.tables).decode()}"


def write_recipe(imported: Imported, out: Path | None) -> Path:
    """Writes the recipe; without a path beside the config, where nothing is written over.

    Raises:
        Refusal: there is a file already, or it cannot be written.
    """
    path = out or Path(imported.path).with_suffix(".toml")
    if out is None and path.exists():
        raise Refusal(
            f"There is a file {path} already.", "It may be a recipe that you have changed.",
            "Name another with --out; a file named so is written over.",
        )  # fmt: skip
    try:
        path.write_text(imported.text, encoding="utf-8")
    except OSError as fault:
        raise Refusal(f"The recipe could not be written to {path}.", f"{fault.strerror}.",
                      "Name another file with --out.") from None  # fmt: skip
    return path


def is_config(path: Path) -> bool:
    """Whether a file is taken for another program's, by its name."""
    return path.suffix.lower() in ENDINGS


def import_config(
    path: Path, *, data: str = "", model: str = "", root_of: RootOf = itself
) -> Imported:
    """Reads another program's config.

    Args:
        path: of a YAML file.
        data: a dataset to take instead of the config's, as a recipe names it.
        model: a base model to take instead of the config's.
        root_of: finds the model by whose size defaults are chosen.

    Raises:
        Unfit: no recipe can be made of it.
        Refusal: it cannot be read, or is of no program that is known.
    """
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
    plain = path.stem.lower() in (
        "config",
        "lora",
        "qlora",
        "full",
        "sft",
        "dpo",
        "train",
        "lora_text",
    )
    folder = path.resolve().parent.name
    return f"{folder}-{path.stem}" if plain and folder else path.stem


def _in_order(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables in the order of a recipe."""
    fields = [field.name for field in msgspec.structs.fields(Recipe)]
    return {name: tables[name] for name in fields if name in tables}
