"""Keys that had another name: files and jobs of earlier versions hold the old one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers.protocol.metrics import present_name
from workers.protocol.options import options_of
from workers.protocol.recipe.schema import sections
from workers.protocol.refusal import Refusal

FORMER = {
    f"{table}.{option.formerly}": f"{table}.{option.key}"
    for table, section in sections().items()
    for option in options_of(section)
    if option.formerly
}
"""Former key paths to the present ones."""


def silent(note: str) -> None:
    """Takes a note and does nothing."""


def present_path(path: str) -> str:
    """The key path as it is called now."""
    return FORMER.get(path, path)


def with_present_keys(recipe: Any, say: Callable[[str], None] = silent) -> Any:
    """A recipe's plain tables with every former key under its present name.

    Args:
        recipe: as TOML or JSON gives it; anything that is no table is left for the type's check.
        say: is handed a sentence for each key that was renamed.

    Raises:
        Refusal: a table holds both names of one key.
    """
    if not isinstance(recipe, dict):
        return recipe
    made = _with_present_gate(dict(recipe), say)
    for former, present in FORMER.items():
        table, _, old = former.partition(".")
        held = made.get(table)
        if isinstance(held, dict) and old in held:
            made[table] = _renamed(held, former, present)
            say(f"{former} is now called {present}; the old name was read.")
    return made


def _with_present_gate(recipe: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The recipe with its gate's metric called as it is now."""
    match recipe:
        case {"evaluation": {"gate": {"metric": str(former)} as gate} as evaluation}:
            metric = present_name(former)
            if metric != former:
                say(f"The metric {former} is now called {metric}; the old name was read.")
            return recipe | {"evaluation": evaluation | {"gate": gate | {"metric": metric}}}
    return recipe


def _renamed(table: dict[str, Any], former: str, present: str) -> dict[str, Any]:
    old, new = (path.rpartition(".")[2] for path in (former, present))
    if new in table:
        raise Refusal(
            f"{former} and {present} are two names of one setting.",
            "The first is the name that earlier versions used.",
            f"Keep {present} and remove the other.",
        )
    return {new if key == old else key: value for key, value in table.items()}
