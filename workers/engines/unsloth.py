"""Unsloth's engine: its own kernels and memory savings for one GPU. LoRA, QLoRA and full SFT.

Runs only under the interpreter that the settings name for it, an overlay environment: Unsloth's
wheel brings a top-level package called `studio`, which must never lie beside ours. Importing this
module imports Unsloth, which must come before transformers and trl.
"""

from __future__ import annotations

import unsloth  # noqa: F401  isort: skip

from typing import Any

from unsloth import FastLanguageModel

from workers.device import best_device
from workers.engines import Loaded
from workers.engines.adapters import ALL_LINEAR, named_layers
from workers.engines.classes import Tell
from workers.engines.tokenizer import tokenizer_for
from workers.engines.transformers import computing_dtype, stop_at_end
from workers.fetch import Located, model_type
from workers.protocol.batches import with_checkpointing
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

LIBRARY: Any = FastLanguageModel
"""Unchecked: a type checker takes this very file for the library of the same name."""


def load_for_training(recipe: Recipe, located: Located, tell: Tell) -> Loaded:
    """The base model through Unsloth with a fresh adapter on; raises `Refusal` for DoRA."""
    _refuse(recipe, located)
    device = best_device()
    recipe = with_checkpointing(recipe, device)
    options = recipe.training
    dtype = computing_dtype(options.precision, device, model_type(located.folder))
    full = recipe.model.method == "full"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model, _ = LIBRARY.from_pretrained(
        model_name=str(located.folder),
        max_seq_length=options.max_length,
        dtype=dtype,
        load_in_4bit=recipe.model.method == "qlora",
        full_finetuning=full,
        trust_remote_code=False,
    )
    if not full:
        every = recipe.lora.targets.startswith(ALL_LINEAR)
        model = LIBRARY.get_peft_model(
            model,
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=PROJECTIONS if every else named_layers(recipe.lora),
            use_gradient_checkpointing="unsloth" if options.gradient_checkpointing else False,
            random_state=options.seed,
        )
    stop_at_end(model, tokenizer)
    return Loaded(model, tokenizer, device, dtype)


PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Unsloth's kernels know these by name; `all-linear` means all of them."""


def _refuse(recipe: Recipe, located: Located) -> None:
    if recipe.model.method == "dora":
        raise Refusal(
            "Unsloth has no kernels for DoRA.",
            "model.method = 'dora' goes with the plain engine.",
            "Set model.engine = 'transformers', or model.method = 'lora'.",
        )
    if located.adapters:
        raise Refusal(
            "Unsloth starts from whole models, and this base is a run with an adapter.",
            "The adapter would have to be merged first.",
            "Export that run to merged 16-bit and name the folder as the base, or set "
            "model.engine = 'transformers'.",
        )
