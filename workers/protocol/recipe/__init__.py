"""The recipe: everything that can be asked of a training run, as a TOML file and as a type.

Declared once: `sections`, `source`, `lora`, `objectives` and `evaluation` hold the tables, `schema`
the whole, `checks` and `method_checks` what cannot go together, `reading` the file, `former` the
names that keys had. Reading refuses an unknown key, a wrong type and an impossible combination,
naming the key's path and what to write instead.
"""

from workers.protocol.recipe.checks import check_recipe, problems
from workers.protocol.recipe.evaluation import Evaluation, Gate
from workers.protocol.recipe.former import present_path, with_present_keys
from workers.protocol.recipe.lora import Lora
from workers.protocol.recipe.objectives import RL, Distill, Preference
from workers.protocol.recipe.reading import (
    RootOf,
    converted,
    format_recipe,
    itself,
    parse_recipe,
    parse_toml,
    read_recipe,
    read_text,
    refusal_of,
    toml_of,
    with_defaults,
)
from workers.protocol.recipe.schema import Recipe, sections
from workers.protocol.recipe.sections import (
    Attention,
    Effort,
    Engine,
    Method,
    Model,
    Reasoning,
    Section,
    Template,
    Thinking,
    TooLong,
    Training,
)
from workers.protocol.recipe.source import Column, Documents, Source
from workers.protocol.stages import Stage

__all__ = [
    "RL",
    "Attention",
    "Column",
    "Distill",
    "Documents",
    "Effort",
    "Engine",
    "Evaluation",
    "Gate",
    "Lora",
    "Method",
    "Model",
    "Preference",
    "Reasoning",
    "Recipe",
    "RootOf",
    "Section",
    "Source",
    "Stage",
    "Template",
    "Thinking",
    "TooLong",
    "Training",
    "check_recipe",
    "converted",
    "format_recipe",
    "itself",
    "parse_recipe",
    "parse_toml",
    "present_path",
    "problems",
    "read_recipe",
    "read_text",
    "refusal_of",
    "sections",
    "toml_of",
    "with_defaults",
    "with_present_keys",
]
