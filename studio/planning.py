"""Will it fit? A recipe's models looked up on this disk, planned for a card, and told in words.

Knows no toolkit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workers.estimate import (
    GIB,
    Geometry,
    Plan,
    estimate,
    geometry_of,
    known_geometry,
    plan,
    plan_of_parts,
    with_changes,
)
from workers.protocol.catalogue import CARDS_GB, Memory, ModelEntry, least_memory
from workers.protocol.pipeline import PREVIOUS, Pipeline, with_models
from workers.protocol.recipe import Method, Model, Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel
from workers.protocol.sources import HUB_MODEL
from workers.protocol.stages import defaults_for

RootOf = Callable[[str], str]
"""From a base model as a recipe names it to the model at the beginning of its chain of runs."""
Simulated = Callable[[Recipe], dict[str, int]]
"""Runs a step of a recipe without weights, for a model whose sizes are not known: bytes by part."""
PARTS = {
    "weights": "Weights",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "logits": "Logits",
    "reference": "Reference model",
    "reward_model": "Reward model",
    "value_model": "Value model",
    "teacher": "Teacher",
    "generation_cache": "Cache of sampled answers",
    "context": "CUDA itself",
    "fragmentation": "Lost between blocks",
}
"""Parts of the memory in the order in which they are shown."""
GPU = re.compile(r"(\d+(?:\.\d+)?)\s*(?:gi?b?)?", re.IGNORECASE)


# The sizes of models


def find_geometry(model: str, root_of: RootOf) -> Geometry | None:
    """The sizes of a model as a recipe names it: from the catalogue, from its folder, or from what
    was fetched of it before; None where they are not on this disk, or its family is not known."""
    root = root_of(model)
    return known_geometry(root) or _read_geometry(root)


def _read_geometry(root: str) -> Geometry | None:
    config = read_config(root)
    return geometry_of(config) if config else None


def read_config(root: str) -> dict[str, Any] | None:
    """A model's config.json, where it lies on this disk."""
    folders = [Path(root).expanduser()] if root else []
    if HUB_MODEL.fullmatch(root):
        folders += hub_folders(root, os.environ)
    for folder in folders:
        try:
            found = json.loads((folder / "config.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None


def hub_folders(repository: str, environment: Mapping[str, str]) -> list[Path]:
    """Where the hub's own cache may hold the files of a repository.

    https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    cache = Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    home = Path(environment.get("HF_HOME") or cache).expanduser()
    hub = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return sorted((hub / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*"))


# Plans


def plan_pipeline(
    pipeline: Pipeline, root_of: RootOf, card_bytes: int | None, simulate: Simulated | None = None
) -> list[Plan]:
    """A plan for every stage.

    Raises:
        Refusal: the sizes of a base model are not known, and it is not simulated.
    """
    roots: dict[str, str] = {}

    def root(model: str) -> str:
        return roots[model] if model in roots else root_of(model)

    plans = []
    for recipe in pipeline.stages:
        base = root(recipe.model.base)
        if simulate is None or find_geometry(base, root_of) is not None:
            plans.append(plan_recipe(recipe, root, card_bytes))
        else:
            rooted = with_models(recipe, root)
            plans.append(plan_of_parts(recipe, simulate(rooted), card_bytes))
        roots |= {PREVIOUS: base, f"stage:{recipe.name}": base}
    return plans


def plan_recipe(recipe: Recipe, root_of: RootOf, card_bytes: int | None) -> Plan:
    """What a recipe takes.

    Raises:
        Refusal: the sizes of its base model are not known.
    """
    geometry = find_geometry(recipe.model.base, root_of)
    if geometry is None:
        raise unknown(recipe.model.base)
    teacher = find_geometry(recipe.distill.teacher, root_of) if recipe.distill.teacher else None
    judged = [one.model for one in recipe.rewards if isinstance(one, RewardModel)]
    reward = find_geometry(judged[0], root_of) if judged else None
    return plan(recipe, geometry, card_bytes, teacher=teacher, reward=reward)


def least_for(entry: ModelEntry) -> Memory:
    """GB that fine-tuning a model of the catalogue takes at least: with the defaults and one row at
    once, as it will be planned; published figures where its sizes are not known."""
    geometry = known_geometry(entry.id)
    if geometry is None:
        return least_memory(entry)
    found = []
    methods: tuple[Method, Method] = ("qlora", "lora")
    for method in methods:
        usual = defaults_for("sft", method, geometry.parameters)
        blank = Recipe(name=entry.id, model=Model(base=entry.id, method=method))
        recipe = with_changes(blank, usual)
        longest = recipe.training.max_length
        most = estimate(recipe, geometry, micro=1, longest=longest, checkpointing=True).high
        found.append(most / GIB)
    return Memory(*found)


def unknown(base: str) -> Refusal:
    return Refusal(
        f"How much memory {base or 'this model'} takes is not known.",
        "Its sizes are neither in the catalogue nor on this disk, or its family is not one that "
        "can be counted.",
        "Fetch it first, or name a model of the catalogue.",
    )


def hungriest(plans: Sequence[Plan]) -> Plan:
    """The stage that takes most."""
    return max(plans, key=lambda one: one.high_bytes)


def plan_fields(plans: Sequence[Plan]) -> dict[str, Any]:
    """The hungriest stage as JSON, and all stages where there are several."""
    fields = msgspec.to_builtins(hungriest(plans))
    if len(plans) > 1:
        fields["stages"] = [msgspec.to_builtins(one) for one in plans]
    return fields


def gpu_bytes(text: str) -> int:
    """The memory of a card as people write it: 12GB, 12 or 24 GiB; cards are named in units of
    2**30 bytes.

    Raises:
        Refusal: it is no such number.
    """
    found = GPU.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise Refusal(
            f"'{text}' is no size of a card.", "A size is a number of gigabytes.",
            "Write it like this: --gpu 12GB",
        )  # fmt: skip
    return int(float(found[1]) * GIB)


# Words


def gigabytes(size: int) -> str:
    """For people: 43 MB, 0.4 GB, 9.1 GB; of 2**20 or 2**30 bytes, as cards are named."""
    return f"{size / GIB:.1f} GB" if size >= 0.1 * GIB else f"{size / 2**20:.0f} MB"


def summary(made: Plan, card: str = "") -> str:
    """One sentence: what it needs, of what, with which micro-batch.

    Args:
        card: what the card is called, where one is asked about.
    """
    low, high = gigabytes(made.low_bytes).removesuffix(" GB"), gigabytes(made.high_bytes)
    need = f"needs {low} to {high}"
    batch = f"micro-batch {made.micro}"
    if made.accumulation > 1:
        batch += f", {made.accumulation} times for each step"
    if made.card_bytes is None:
        return f"It {need} at least, with {batch}. {_cards(made)}"
    room = gigabytes(made.card_bytes)
    if made.fits:
        of = f"{room} of {card}" if card else room
        return f"Fits: {need} of the {of}; {batch}."
    return f"Does not fit: {need}, and {card or 'the card'} has {room}, even with {batch}."


def more(made: Plan) -> str:
    """What else would fit, and what exporting takes."""
    told = []
    if made.fits and made.longest_sequence:
        told.append(
            f"With this micro-batch, rows of up to {made.longest_sequence:,} tokens would fit."
        )
    if made.disk_bytes:
        told.append(
            f"Exporting the result takes up to {gigabytes(made.ram_bytes)} of RAM and "
            f"{gigabytes(made.disk_bytes)} of disk."
        )
    return " ".join(told)


def _cards(made: Plan) -> str:
    if not made.cards:
        return f"It fits none of the usual cards of {CARDS_GB[0]} to {CARDS_GB[-1]} GB."
    return f"It fits cards of {made.cards[0]} GB and more."


def parts_of(made: Plan) -> list[tuple[str, int]]:
    """Each part's name for people and its bytes, the largest phase's, in their order."""
    return [(title, made.parts[name]) for name, title in PARTS.items() if made.parts.get(name)]
