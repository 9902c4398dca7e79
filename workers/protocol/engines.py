"""What the engines that live in environments of their own can do, for the recipe's check, the
choice of the interpreter and the trainers."""

from __future__ import annotations

from workers.protocol.recipe.schema import Recipe
from workers.protocol.stages import spec_of

UNSLOTH_STAGES = ("sft", "cpt", "dpo", "ipo", "grpo")
"""Those whose trainers Unsloth replaces parts of. The others load further models, which its patches
of Transformers reach too, or are trainers that it does not know."""


def may_sample_with_vllm(recipe: Recipe) -> bool:
    """Whether vLLM could write a run's completions.

    It holds the policy's weights in 16 bits and is given the trained ones, adapter merged, after
    each step: four-bit weights would be rounded again each time, and lose what is learnt. Unsloth's
    own vLLM reads the very weights that learn, four-bit ones too.
    """
    return (
        spec_of(recipe.stage, recipe.rl.algorithm).grouped
        and recipe.rl.fast_generation != "transformers"
        and (recipe.model.method != "qlora" or recipe.model.engine == "unsloth")
    )
