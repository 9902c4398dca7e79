"""How a run goes on from its last checkpoint with other settings than it began with.

Which settings a checkpoint can be continued with is declared on the options themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from workers.protocol.batches import Batches, divided, effective_batch, smaller_micro
from workers.protocol.jobs import Change, Job, Resolved, Train
from workers.protocol.options import Option, options_of
from workers.protocol.recipe import (
    Recipe,
    check_recipe,
    present_path,
    refusal_of,
    sections,
)
from workers.protocol.refusal import Refusal
from workers.protocol.stages import applies, spec_of

SHORTEST_EXAMPLE, SHORTEST_COMPLETION = 8, 16
"""Tokens below which the ladder goes no further."""


SMALLEST = "paged_adamw_8bit"
"""The optimizer that takes the least of a GPU's memory."""


class Rung(msgspec.Struct, frozen=True):
    """One way for a run to need less memory."""

    name: str
    words: str
    """What changes and what that costs, as a sentence."""
    settings: dict[str, Any]
    by_itself: bool = False
    """A run may take it unasked: its steps stay what they were."""
    consent: bool = False
    """It changes what is learnt, so that only the user can choose it."""


class Proposal(msgspec.Struct, frozen=True):
    """From where a run would go on, and with what."""

    run: str
    recipe: Recipe
    """As it is so far."""
    step: int
    """Of the last whole checkpoint; 0 where there is none."""
    settings: dict[str, Any]
    """Key path to a value that would serve better than the one so far."""
    rungs: list[Rung] = []
    """Of a run that was out of memory, all that it can still change; the first is proposed."""

    @property
    def unasked(self) -> bool:
        """Whether there is a first rung, and it changes nothing of what is learnt."""
        return bool(self.rungs) and not self.rungs[0].consent


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


def changed(job: Job, settings: Mapping[str, Any], step: int) -> Job:
    """A training job with other settings from a step on, and a note of what they were."""
    if not settings or not isinstance(job.task, Train):
        return job
    recipe = with_settings(job.task.recipe, settings, job.id)
    differs = differences(job.task.recipe, recipe)
    changes = [*job.changes, Change(step, differs)] if differs else job.changes
    return msgspec.structs.replace(job, task=Train(recipe=recipe), changes=changes)


# The ladder of what needs less memory


def for_less_memory(recipe: Recipe, worked: Resolved | None = None) -> dict[str, Any]:
    """The settings of the first rung: under them the same training needs less memory."""
    return next((rung.settings for rung in rungs(recipe, worked)), {})


def rungs(recipe: Recipe, worked: Resolved | None = None) -> list[Rung]:
    """What a run that is out of memory can still change, what costs least first.

    Args:
        worked: what the run worked with; without it the recipe's own figures count, and the whole
            batch where it has none.
    """
    known = worked or Resolved()
    return [rung for make in LADDER if (rung := make(recipe, known)) is not None]


def _smaller_batch(recipe: Recipe, worked: Resolved) -> Rung | None:
    """At most half as many examples at once, so often that a step has as many as before."""
    batch = worked.batch
    effective = batch.get("effective") or effective_batch(recipe)
    micro = recipe.training.batch_size or batch.get("micro") or divided(recipe, effective).micro
    least = spec_of(recipe.stage).smallest_batch
    smaller = smaller_micro(Batches(micro, effective // micro), least)
    if not smaller:
        return None
    return Rung(
        "smaller micro-batch",
        f"Micro-batches of {smaller} instead of {micro}, {effective // smaller} to each step: a "
        "step learns from as many examples as before.",
        {"training.batch_size": smaller, "training.gradient_accumulation": effective // smaller},
        by_itself=True,
    )


def _checkpointing(recipe: Recipe, worked: Resolved) -> Rung | None:
    """Activations computed anew in the backward pass."""
    asked = recipe.training.gradient_checkpointing
    if worked.batch.get("checkpointing") if asked == "auto" else asked:
        return None
    return Rung(
        "gradient checkpointing",
        "Activations are computed anew instead of kept: the same steps, a third slower.",
        {"training.gradient_checkpointing": True},
        by_itself=True,
    )


def _smaller_optimizer(recipe: Recipe, worked: Resolved) -> Rung | None:
    """The optimizer's state in a quarter of the memory, and in RAM where there is none."""
    if not worked.device.startswith("cuda") or recipe.training.optimizer == SMALLEST:
        return None
    return Rung(
        "8-bit paged optimizer",
        "The optimizer's state takes a quarter of the memory and moves to RAM when the GPU is "
        "full; it begins anew, so that the loss may rise for some steps.",
        {"training.optimizer": SMALLEST},
    )


def _offloading(recipe: Recipe, worked: Resolved) -> Rung | None:
    """Activations that wait for the backward pass in RAM."""
    path = "training.activation_offloading"
    there = worked.device.startswith("cuda") and applies(path, recipe.stage, recipe.rl.algorithm)
    if not there or recipe.training.activation_offloading:
        return None
    return Rung(
        "activation offloading",
        "Activations wait for the backward pass in RAM instead of on the GPU: the same steps, "
        "slower.",
        {path: True},
    )


def _shorter_completions(recipe: Recipe, _: Resolved) -> Rung | None:
    """Less that is sampled, which is learnt from."""
    longest = recipe.rl.max_completion_tokens
    if not spec_of(recipe.stage).scored_by or longest < 2 * SHORTEST_COMPLETION:
        return None
    return Rung(
        "shorter completions",
        f"Completions of {longest // 2} tokens at most instead of {longest}: longer ones are "
        "truncated, which changes what is learnt.",
        {"rl.max_completion_tokens": longest // 2},
        consent=True,
    )


def _shorter_examples(recipe: Recipe, _: Resolved) -> Rung | None:
    """A lower max sequence length."""
    longest = recipe.training.max_length
    if longest <= SHORTEST_EXAMPLE:
        return None
    shorter = max(longest // 2, SHORTEST_EXAMPLE)
    return Rung(
        "shorter examples",
        f"Examples of {shorter} tokens at most instead of {longest}: longer ones are left out or "
        "truncated, which changes what is learnt.",
        {"training.max_length": shorter},
        consent=True,
    )


LADDER: tuple[Callable[[Recipe, Resolved], Rung | None], ...] = (
    _smaller_batch, _checkpointing, _smaller_optimizer, _offloading, _shorter_completions,
    _shorter_examples,
)  # fmt: skip
"""From what leaves the steps as they are to what changes what is learnt."""


def setting_of(change: str) -> tuple[str, Any]:
    """KEY=VALUE, with the value as a recipe file writes it; bare words are text."""
    path, equals, text = change.partition("=")
    if not equals:
        raise Refusal(
            f"--set {change} gives no value.",
            "A change is written KEY=VALUE.",
            "For example: --set training.batch_size=4",
        )
    try:
        return path.strip(), msgspec.toml.decode(f"value = {text}")["value"]
    except msgspec.DecodeError:
        return path.strip(), text.strip()
