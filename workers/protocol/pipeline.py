"""A pipeline: recipes that follow one another, each starting from the run before it.

A TOML file with `[[stages]]`, each of them a recipe; `model.base = "previous"` names the run
before, and `stage:NAME` an earlier one. A plain recipe file is a pipeline of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from workers.protocol.options import option
from workers.protocol.recipe import (
    Recipe,
    RootOf,
    Section,
    check_recipe,
    converted,
    itself,
    parse_toml,
    read_text,
    toml_of,
    with_defaults,
    with_present_keys,
)
from workers.protocol.recipe.former import silent
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel

PREVIOUS = "previous"


class Pipeline(Section, frozen=True):
    """Stages in order, and what to know before starting them."""

    name: Annotated[str, option("Name", "What the pipeline is called in lists.")]
    summary: Annotated[str, option("Summary", "What it teaches, in a sentence or two.")] = ""
    gpu_memory_gb: Annotated[
        float,
        option("GPU memory", "What the hungriest stage needs; 0 runs without a GPU.", unit="GB"),
    ] = 0.0
    memory_source: Annotated[
        str, option("Memory source", "Where the figure for memory comes from.")
    ] = ""
    stages: list[Recipe] = []  # noqa: RUF012 (msgspec copies it)


def read_pipeline(
    path: Path, *, say: Callable[[str], None] = silent, root_of: RootOf = itself
) -> Pipeline:
    """Reads and checks a pipeline or a recipe; raises `Refusal` with the file and the key."""
    return parse_pipeline(read_text(path), str(path), say=say, root_of=root_of)


def parse_pipeline(
    text: str,
    where: str = "the pipeline",
    *,
    say: Callable[[str], None] = silent,
    root_of: RootOf = itself,
) -> Pipeline:
    """A checked pipeline from TOML text; a plain recipe becomes its only stage.

    `say` and `root_of` are those of `parse_recipe`.
    """
    plain = parse_toml(text, where)
    if "stages" not in plain:
        completed = with_defaults(with_present_keys(plain, say), root_of)
        recipe = converted(completed, Recipe, where)
        pipeline = Pipeline(name=recipe.name, stages=[recipe])
    else:
        stages = plain["stages"]
        if isinstance(stages, list):
            stages = _completed([with_present_keys(stage, say) for stage in stages], root_of)
        pipeline = converted(plain | {"stages": stages}, Pipeline, where)
    _check_stages(pipeline, where)
    return pipeline


def check_pipeline(pipeline: Pipeline, where: str = "the pipeline") -> None:
    """Refuses what reading its file would refuse: values out of bounds, impossible combinations.

    Raises:
        Refusal: with the key's path and what to write instead.
    """
    checked = pipeline.stages[0] if len(pipeline.stages) == 1 else pipeline
    converted(msgspec.to_builtins(checked), type(checked), where)
    _check_stages(pipeline, where)


def _check_stages(pipeline: Pipeline, where: str) -> None:
    if not pipeline.stages:
        raise Refusal(
            f"{where} has no stages.", "A pipeline needs at least one.", "Add a [[stages]] table."
        )
    for number, recipe in enumerate(pipeline.stages, start=1):
        check_recipe(recipe, where if len(pipeline.stages) == 1 else f"{where}: stage {number}")
        if number == 1 and recipe.model.base == PREVIOUS:
            raise Refusal(
                f"{where}: model.base = 'previous' in the first stage.",
                "There is no run before it.",
                "Name a base model, for example starter.",
            )


def format_pipeline(pipeline: Pipeline) -> str:
    """TOML that `parse_pipeline` reads back; one stage alone is a plain recipe."""
    return toml_of(pipeline if len(pipeline.stages) > 1 else pipeline.stages[0])


def following(recipes: Sequence[Recipe], name: str, run: str) -> list[Recipe]:
    """The stages that are left after the stage `name` became `run`.

    `previous` in the first of them, and `stage:NAME` in all, become `run:ID`; as a base model and
    as a reward model.
    """
    filled: list[Recipe] = []
    for number, recipe in enumerate(recipes):
        known = {f"stage:{name}": f"run:{run}"}
        if number == 0:
            known[PREVIOUS] = f"run:{run}"
        filled.append(with_models(recipe, lambda model, known=known: known.get(model, model)))
    return filled


def chain_of(base: str, recipe_of: Callable[[str], Recipe | None]) -> tuple[str, list[str]]:
    """The model at the beginning of a chain of runs, and the stages of the runs in order.

    Args:
        base: as a recipe names it.
        recipe_of: what a run was trained by, given its id; None for a job that is no training,
            whose base is not known. Raises `Refusal` where there is no such run: the chain is
            taken to begin there.
    """
    stages: list[str] = []
    seen: set[str] = set()
    while base.startswith("run:") and base not in seen:
        seen.add(base)
        try:
            recipe = recipe_of(base.removeprefix("run:"))
        except Refusal:
            break
        if recipe is None:
            return "", stages
        stages.insert(0, recipe.stage)
        base = recipe.model.base
    return base, stages


def with_models(recipe: Recipe, rename: Callable[[str], str]) -> Recipe:
    """The recipe with every model that it names, as base, reward model or teacher, renamed."""
    rewards = [
        msgspec.structs.replace(reward, model=rename(reward.model))
        if isinstance(reward, RewardModel)
        else reward
        for reward in recipe.rewards
    ]
    model = msgspec.structs.replace(recipe.model, base=rename(recipe.model.base))
    distill = msgspec.structs.replace(recipe.distill, teacher=rename(recipe.distill.teacher))
    return msgspec.structs.replace(recipe, model=model, rewards=rewards, distill=distill)


def with_rewards(pipeline: Pipeline) -> Recipe:
    """The first stage that has rewards, starting from the base that the pipeline starts from.

    Raises:
        Refusal: no stage has any.
    """
    found = next((recipe for recipe in pipeline.stages if recipe.rewards), None)
    if found is None:
        raise Refusal(
            f"{pipeline.name} has no rewards.", "There is nothing to try.",
            'Add a [[rewards]] table to a stage of kind "grpo".',
        )  # fmt: skip
    if found.model.base != PREVIOUS:
        return found
    model = msgspec.structs.replace(found.model, base=pipeline.stages[0].model.base)
    return msgspec.structs.replace(found, model=model)


def _completed(stages: list[Any], root_of: RootOf) -> list[Any]:
    """Plain stages with their defaults, whose roots go back through the stages before."""
    roots: dict[str, str] = {}

    def root(base: str) -> str:
        return roots[base] if base in roots else root_of(base)

    made = []
    for stage in stages:
        made.append(with_defaults(stage, root))
        if isinstance(stage, dict) and isinstance(stage.get("model", {}), dict):
            base = root(str(stage.get("model", {}).get("base", "starter")))
            roots |= {PREVIOUS: base, f"stage:{stage.get('name', '')}": base}
    return made
