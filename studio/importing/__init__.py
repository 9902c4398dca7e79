"""Configs of other programs as recipes: Axolotl, LLaMA-Factory and Unsloth Studio.

A config becomes a checked recipe with an account of every key: what was carried over, what is not
the same here and why, what that program fills in by itself, and what is not known.
"""

from __future__ import annotations

from pathlib import Path

from studio.importing.account import Fate, Item, Unfit, plain_line
from studio.importing.imported import Imported, write_recipe
from workers.protocol.recipe import RootOf, itself

__all__ = [
    "PATTERN",
    "Fate",
    "Imported",
    "Item",
    "Unfit",
    "import_config",
    "is_config",
    "plain_line",
    "write_recipe",
]

ENDINGS = (".yaml", ".yml")
PATTERN = " ".join(f"*{ending}" for ending in ENDINGS)
"""For a dialog that asks for a file."""


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
    from studio.importing.reading import read_config  # YAML is not read before it is needed

    return read_config(path, data=data, model=model, root_of=root_of)
