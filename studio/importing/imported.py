"""A config of another program as a recipe, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from studio.importing.account import Fate, Item, Unfit, plain_line
from workers.protocol.pipeline import Pipeline, check_pipeline
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal


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
