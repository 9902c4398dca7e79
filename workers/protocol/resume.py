"""How a run goes on from its last checkpoint with other settings than it began with.

Which settings a checkpoint can be continued with is declared on the options themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from workers.protocol.batches import Batches, divided, effective_batch, smaller_micro
from workers.protocol.options import Option, options_of
from workers.protocol.recipe import (
    Recipe,
    check_recipe,
    present_path,
    refusal_of,
    sections,
)
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of


class Proposal(msgspec.Struct, frozen=True):
    """From where a run would go on, and with what."""

    run: str
    recipe: Recipe
    """As it is so far."""
    step: int
    """Of the last whole checkpoint; 0 where there is none."""
    settings: dict[str, Any]
    """Key path to a value that would serve better than the one so far."""


def resume_options() -> dict[str, Option]:
    """The options that may be changed when a run goes on, by key path."""
    declared = (
        option
        for table, section in sections().items()
        for option in options_of(section, f"{table}." if table else "")
    )
    return {option.path: option for option in declared if option.on_resume}


def with_settings(recipe: Recipe, settings: Mapping[str, Any], run: str) -> Recipe:
    """The recipe of a run that goes on, with other values at some key paths.

    A key may be given by its former name.

    Raises:
        Refusal: a key that is not known or lives in the checkpoint, a value that does not fit it,
            or a recipe that cannot be as a whole.
    """
    plain = msgspec.to_builtins(recipe)
    given = {present_path(asked): value for asked, value in settings.items()}
    for path, value in (_following(recipe, given) | given).items():
        _require_resumable(path, run)
        *tables, key = path.split(".")
        place = plain
        for table in tables:
            place[table] = place[table] or {}
            place = place[table]
        place[key] = value
    try:
        changed = msgspec.convert(plain, Recipe)
    except msgspec.ValidationError as fault:
        raise refusal_of(str(fault), "the changed recipe") from None
    check_recipe(changed, "the changed recipe")
    return changed


def _following(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of micro-batch and accumulation the one that was not changed: it follows from the step's
    examples, which stay as they were where they are the recipe's own."""
    parts = {"training.batch_size", "training.gradient_accumulation"}
    changed = parts & set(given)
    own = recipe.training.effective_batch_size or "training.effective_batch_size" in given
    return dict.fromkeys(parts - changed, 0) if own and len(changed) == 1 else {}


def _require_resumable(path: str, run: str) -> None:
    known = resume_options()
    if path in known:
        return
    names = {f"{t}.{f}" if t else f for t, s in sections().items() for f in s.__struct_fields__}
    if path in names:
        raise Refusal(
            f"{path} cannot be changed when a run goes on.",
            "The learning rate and its schedule live in the checkpoint; model and data made it.",
            f"Start a new run from this one with model.base = 'run:{run}'. On resume may change: "
            f"{', '.join(known)}.",
        )
    close = difflib.get_close_matches(path, known, n=1)
    raise Refusal(
        f"There is no setting '{path}'.",
        "It may be misspelt.",
        f"Did you mean '{close[0]}'?" if close else f"On resume may change: {', '.join(known)}.",
    )


def differences(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """What was changed for a resume: key path to the value before and after."""
    found = {path: (_value(before, path), _value(after, path)) for path in resume_options()}
    return {path: values for path, values in found.items() if values[0] != values[1]}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The values of the options that may be changed; of a gate that is not set there are none."""
    found = {path: _value(recipe, path) for path in resume_options()}
    return {path: value for path, value in found.items() if value is not None}


def _value(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for key in path.split("."):
        value = getattr(value, key) if value is not None else None
    return value


def for_less_memory(recipe: Recipe, batch: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings under which the same training needs less memory, by key path.

    A smaller micro-batch with the same number of examples a step; where it cannot be made smaller,
    gradient checkpointing, and after that shorter examples.

    Args:
        batch: what the run worked with, as `Resolved.batch` has it; without it the recipe's own
            figures count, and the whole batch where it has none.
    """
    training, known = recipe.training, batch or {}
    effective = known.get("effective") or effective_batch(recipe)
    micro = known.get("micro") or divided(recipe, effective).micro
    least = spec_of(recipe.stage).smallest_batch
    smaller = smaller_micro(Batches(micro, effective // micro), least)
    if smaller:
        return {
            "training.batch_size": smaller,
            "training.gradient_accumulation": effective // smaller,
        }
    if not known.get("checkpointing", training.gradient_checkpointing is True):
        return {"training.gradient_checkpointing": True}
    return {"training.max_length": max(training.max_length // 2, 8)}
