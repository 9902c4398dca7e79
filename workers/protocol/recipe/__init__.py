"""The recipe: everything that can be asked of a training run, as a TOML file and as a type.

Declared once: `sections` and `objectives` hold the tables, `schema` the whole, `checks` what cannot
go together, `reading` the file. Reading refuses an unknown key, a wrong type and an impossible
combination, naming the key's path and what to write instead.
"""

from workers.protocol.recipe.checks import check_recipe
from workers.protocol.recipe.objectives import RL, Distill, Preference
from workers.protocol.recipe.reading import (
    format_recipe,
    parse_recipe,
    read_recipe,
    read_text,
    refusal_of,
    toml_of,
)
from workers.protocol.recipe.schema import Recipe, sections
from workers.protocol.recipe.sections import (
    Column,
    Engine,
    Evaluation,
    Gate,
    Lora,
    Method,
    Model,
    Section,
    Source,
    Template,
    Training,
)
from workers.protocol.stages import Stage

__all__ = [
    "RL",
    "Column",
    "Distill",
    "Engine",
    "Evaluation",
    "Gate",
    "Lora",
    "Method",
    "Model",
    "Preference",
    "Recipe",
    "Section",
    "Source",
    "Stage",
    "Template",
    "Training",
    "check_recipe",
    "format_recipe",
    "parse_recipe",
    "read_recipe",
    "read_text",
    "refusal_of",
    "sections",
    "toml_of",
]
