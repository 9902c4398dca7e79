"""How many examples a step takes at once: as many as surely fit into the memory that is free.

What is learnt from in each step is the recipe's; here follows how it is divided, from the sizes of
the very model, the longest of the very rows, and what the device has left once the model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from workers.device import free_memory
from workers.estimate import GIB, Geometry, estimate, geometry_of, known_geometry, largest_micro
from workers.estimate.step import CONTEXT
from workers.fetch import read_config
from workers.protocol.batches import Batches, divided, is_divided
from workers.protocol.events import Note, Resolved
from workers.protocol.recipe import Recipe
from workers.protocol.stages import TINY, spec_of
from workers.train.context import TrainingContext

RAM_SHARE = 0.5
"""Of the free RAM that training on the CPU may take; the desktop lives there too."""
AT_ONCE = ((500_000_000, 8192), (2_000_000_000, 4096), (5_000_000_000, 2048))
"""Below so many parameters, tokens at once of an architecture that the estimate does not know."""
MOST_UNKNOWN = 8
MOST_ON_CPU = 8
"""Examples at once on the CPU, which computes no faster on more."""
STEADY_KTO = 4
"""Examples at once from which KTO's reference point is no mere noise, as TRL's guide has it."""


def settle_batches(context: TrainingContext, longest: int) -> None:
    """Divides the steps, once it is known how long the rows are; says so, and keeps it in job.json.

    Args:
        longest: tokens of the longest row; of the longest prompt where completions are sampled.
    """
    if context.longest:  # a trainer is built once more
        return
    context.longest = longest_in_step(context, longest)
    context.batches = fitted_batches(context)
    batch = {
        "effective": context.batches.effective,
        "micro": context.batches.micro,
        "accumulation": context.batches.accumulation,
        "checkpointing": int(context.checkpointing),
    }
    host = context.host
    if host.job.resolved is not None:
        resolved = msgspec.structs.replace(host.job.resolved, batch=batch)
        host.resolve(msgspec.structs.replace(host.job, resolved=resolved))
        details = {"batch": batch, "longest": context.longest}
        host.emit(Resolved(versions=resolved.versions, details=details))
    if not _is_settled(context) and not _is_tiny(context):
        text, level = words(context)
        host.emit(Note(text=text, level=level))


def longest_in_step(context: TrainingContext, longest: int) -> int:
    """Tokens of the longest sequence in any step, with what is sampled to it."""
    recipe = context.recipe
    if recipe.training.packing and "training.packing" in spec_of(recipe.stage).options:
        longest = recipe.training.max_length
    samples = spec_of(recipe.stage).policy or (recipe.stage == "distill" and recipe.distill.lmbda)
    return longest + (recipe.rl.max_completion_tokens if samples else 0)


def fitted_batches(context: TrainingContext) -> Batches:
    """The micro-batch that the recipe fixes, or that the run began with; else the largest that
    fits, and at least the stage's smallest."""
    if _is_settled(context):
        return context.batches
    if _is_tiny(context):
        return divided(context.recipe, context.batches.effective)
    geometry = geometry_of(context.loaded.model.config.to_dict())
    if geometry is None:
        return divided(context.recipe, _at_once(context))
    most = largest_micro(
        _as_computed(context), geometry, budget(context, geometry), context.longest,
        checkpointing=context.checkpointing, teacher=_teacher(context, geometry),
    )  # fmt: skip
    return divided(context.recipe, most if _on_card(context) else min(most, MOST_ON_CPU))


def budget(context: TrainingContext, geometry: Geometry) -> int:
    """Bytes for the whole of a run, what is loaded already among them."""
    free = free_memory(context.loaded.device)
    if not _on_card(context):
        free = int(RAM_SHARE * free)
    recipe = _as_computed(context)
    parts = estimate(recipe, geometry, micro=1, longest=1, checkpointing=True).parts
    loaded = parts["weights"] + parts.get("adapter", 0)
    return free + loaded + int(CONTEXT[1] * GIB)


def _as_computed(context: TrainingContext) -> Recipe:
    """The recipe, with precision said where `auto` came to 32 bits, as on older processors."""
    recipe = context.recipe
    if context.loaded.dtype != torch.float32:
        return recipe
    training = msgspec.structs.replace(recipe.training, precision="fp32")
    return msgspec.structs.replace(recipe, training=training)


def words(context: TrainingContext) -> tuple[str, Any]:
    """How the steps are divided, in a sentence or two, and how grave that is."""
    (micro, accumulation), recipe = context.batches, context.recipe
    free = free_memory(context.loaded.device) / GIB
    told = (
        f"Trains {micro} {'example' if micro == 1 else 'examples'} at once, {accumulation} "
        f"{'time' if accumulation == 1 else 'times'}, to make {context.batches.effective} a step: "
        f"the longest has {context.longest:,} tokens, and {free:.1f} GB are free."
    )
    if recipe.stage == "kto":
        told += (
            " KTO takes its reference point from the examples at once, so their number is part of "
            f"what is learnt; {STEADY_KTO} or more make it steady."
        )
        return told, "warning" if micro < STEADY_KTO else "info"
    if spec_of(recipe.stage, recipe.rl.algorithm).value_model:
        told += (
            " PPO averages over the examples at once, so their number is part of what is learnt."
        )
    return told, "info"


def _is_settled(context: TrainingContext) -> bool:
    """Whether the recipe says how steps are divided, or the run goes on as it began."""
    return context.goes_on or is_divided(context.recipe)


def _on_card(context: TrainingContext) -> bool:
    return context.loaded.device.startswith("cuda")


def _is_tiny(context: TrainingContext) -> bool:
    return context.loaded.model.num_parameters() < TINY


def _at_once(context: TrainingContext) -> int:
    """Examples at once of an architecture that the estimate does not know."""
    parameters = context.loaded.model.num_parameters()
    tokens = next((tokens for size, tokens in AT_ONCE if parameters < size), 1)
    return min(MOST_UNKNOWN, max(1, tokens // context.longest))


def _teacher(context: TrainingContext, student: Geometry) -> Geometry | None:
    """Of a teacher of unknown architecture the student's sizes are taken."""
    if not spec_of(context.recipe.stage).teacher:
        return None
    name, home = context.recipe.distill.teacher, Path(context.host.job.home)
    return known_geometry(name) or geometry_of(read_config(name, home, lambda _: None)) or student
