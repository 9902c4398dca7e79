"""Unsloth's engine: its own kernels and memory savings for one GPU. LoRA, QLoRA and full training
in the stages that `workers.protocol.engines` names.

Runs only in an overlay environment, which packaging/bootstrap.py makes: Unsloth's wheel brings a
top-level package called `studio`, which must never lie beside ours. Importing this module imports
Unsloth, which must come before transformers and trl.
"""

from __future__ import annotations

import unsloth  # noqa: F401  isort: skip

import importlib.util
import os
from typing import Any

from unsloth import FastLanguageModel

from workers.device import best_device
from workers.engines import Loaded
from workers.engines.adapters import ALL_LINEAR, named_layers, whole_layers
from workers.engines.classes import Tell
from workers.engines.tokenizer import tokenizer_for
from workers.engines.transformers import computing_dtype, stop_at_end
from workers.fetch import Located, model_type
from workers.protocol.batches import with_checkpointing
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of

LIBRARY: Any = FastLanguageModel
"""Unchecked: a type checker takes this very file for the library of the same name."""


def load_for_training(recipe: Recipe, located: Located, tell: Tell) -> Loaded:
    """The base model through Unsloth with a fresh adapter on.

    Args:
        located: where the base is, with earlier adapters merged in.

    Raises:
        Refusal: for fp16 on a family that overflows in it.
    """
    device = best_device()
    recipe = with_checkpointing(recipe, device)
    options = recipe.training
    dtype = computing_dtype(options.precision, device, model_type(located.folder))
    full = recipe.model.method == "full"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model, _ = LIBRARY.from_pretrained(
        model_name=str(located.folder),
        max_seq_length=longest_sequence(recipe),
        dtype=dtype,
        load_in_4bit=recipe.model.method == "qlora",
        full_finetuning=full,
        trust_remote_code=False,
        **_on_card(recipe, device),
    )
    if not full:
        every = recipe.lora.targets.startswith(ALL_LINEAR)
        model = LIBRARY.get_peft_model(
            model,
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            use_rslora=recipe.lora.rslora,
            modules_to_save=whole_layers(recipe.lora) or None,
            target_modules=PROJECTIONS if every else named_layers(recipe.lora),
            use_gradient_checkpointing="unsloth" if options.gradient_checkpointing else False,
            random_state=options.seed,
        )
    stop_at_end(model, tokenizer)
    return Loaded(model, tokenizer, device, dtype)


PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Unsloth's kernels know these by name; `all-linear` means all of them."""


def _on_card(recipe: Recipe, device: str) -> dict[str, Any]:
    """What the CPU loader of Unsloth does not take: for full training 32-bit weights, since small
    steps are lost in 16 bits; where completions are sampled and vLLM is in the environment,
    Unsloth's own vLLM over the very weights that are trained, four-bit ones too."""
    if device != "cuda":
        return {}
    if recipe.model.method == "full":
        return {"float32_mixed_precision": True}
    vllm = importlib.util.find_spec("vllm") is not None
    if recipe.stage != "grpo" or recipe.rl.fast_generation == "transformers" or not vllm:
        return {}
    os.environ.setdefault("UNSLOTH_VLLM_STANDBY", "1")  # its cache is given back between batches
    return {"fast_inference": True, "max_lora_rank": recipe.lora.rank}


def longest_sequence(recipe: Recipe) -> int:
    """Tokens of the longest text that the model meets: a prompt of training.max_length, with the
    completion that is sampled to it where one is. Unsloth cuts what is longer without a word."""
    sampled = [recipe.evaluation.max_completion_tokens]
    if spec_of(recipe.stage).generates:
        sampled.append(recipe.rl.max_completion_tokens)
    return recipe.training.max_length + max(sampled)
