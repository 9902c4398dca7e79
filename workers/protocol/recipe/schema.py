"""The recipe as a type: its tables, and their keys by path."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from workers.protocol.options import option
from workers.protocol.recipe.evaluation import Evaluation, Gate
from workers.protocol.recipe.lora import Lora
from workers.protocol.recipe.objectives import RL, Distill, Preference
from workers.protocol.recipe.sections import Model, Section, Training
from workers.protocol.recipe.source import Source
from workers.protocol.rewards import KINDS, AnyReward
from workers.protocol.stages import Stage


class Recipe(Section, frozen=True):
    """What a training run is made from; the file's tables are the fields' names."""

    name: Annotated[str, option("Name", "What the run is called in lists.")] = "untitled"
    stage: Annotated[Stage, option("Stage", "What kind of training.")] = "sft"
    model: Model = Model()
    lora: Lora = Lora()
    data: list[Source] = []  # noqa: RUF012 (msgspec copies it)
    training: Training = Training()
    preference: Preference = Preference()
    rl: RL = RL()
    rewards: list[AnyReward] = []  # noqa: RUF012
    distill: Distill = Distill()
    evaluation: Evaluation = Evaluation()


_SECTIONS: dict[str, type[Section]] = {
    "": Recipe,
    "model": Model,
    "lora": Lora,
    "data": Source,
    "training": Training,
    "preference": Preference,
    "rl": RL,
    "distill": Distill,
    "evaluation": Evaluation,
    "evaluation.gate": Gate,
}


def sections() -> dict[str, type[Section]]:
    """The recipe's tables by key path, the top level under the empty path."""
    return dict(_SECTIONS)


def keys_at(path: str) -> list[str]:
    """The keys of the table at a path, which may hold numbers of list items."""
    table = table_of(path)
    if table == "rewards":
        kinds = [msgspec.structs.fields(kind) for kind in KINDS.values()]
        return ["kind", *dict.fromkeys(field.name for fields in kinds for field in fields)]
    return [field.name for field in msgspec.structs.fields(_SECTIONS.get(table, Recipe))]


def table_of(path: str) -> str:
    """The path without the numbers of list items, and without the pipeline's stage."""
    return re.sub(r"\[[^]]*\]", "", path).removeprefix("stages").removeprefix(".")
