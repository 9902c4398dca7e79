"""The plain engine: Transformers loads the model and PEFT puts the adapter on.

Runs wherever PyTorch does. Weights are read from safetensors alone and no code that comes with a
model is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from workers.device import best_device
from workers.engines import Loaded
from workers.engines.adapters import (
    continued_adapter,
    earlier_adapter,
    language_model,
    merged_adapter,
    with_adapter,
)
from workers.engines.classes import Tell, open_scoring, open_speaking, set_padding
from workers.engines.tokenizer import load_tokenizer, tokenizer_for
from workers.fetch import Located, model_type
from workers.protocol.batches import with_checkpointing
from workers.protocol.recipe import Attention, Recipe
from workers.protocol.refusal import Refusal

OVERFLOWING = ("gemma", "gpt_oss", "qwen3_5", "qwen3_moe", "glm4_moe")
"""How the `model_type` of families begins whose hidden states or gradients overflow in fp16: those
that Unsloth never runs in it (`FORCE_FLOAT32` in its loader), and the Gemmas before 3."""


def _silent(_text: str) -> None:
    """For loading again what a run has told of already."""


def load_for_training(recipe: Recipe, located: Located, tell: Tell = _silent) -> Loaded:
    """The base model with a fresh adapter on, or all weights trainable for method `full`.

    LoRA keeps the frozen base in the computing precision and its own weights in 32 bits; full
    training keeps 32-bit weights and computes in the precision (mixed precision, Micikevicius et
    al. 2018), since small steps are lost in 16-bit weights. A tower stays as it is.

    Args:
        recipe: model, method and stage.
        located: where the base is.
        tell: told, in the user's words, what of the model is not trained or not kept.
    """
    device = best_device()
    recipe = with_checkpointing(recipe, device)
    dtype = _training_dtype(recipe, device, located, tell)
    full = recipe.model.method == "full"
    four_bit = recipe.model.method == "qlora"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model = load_weights(
        located, torch.float32 if full else dtype, tell, four_bit=four_bit, device=device
    )
    stop_at_end(model, tokenizer)
    if recipe.training.gradient_checkpointing:
        model.config.use_cache = False
    set_attention(model, recipe.training.attention)
    if full:
        train_language_model(model)
    elif located.continued:
        model = continued_adapter(model, recipe, located.continued, tell, four_bit=four_bit)
    else:
        model = with_adapter(model, recipe, tell, four_bit=four_bit)
    return Loaded(model, tokenizer, device, dtype)


def set_attention(model: PreTrainedModel, name: Attention) -> None:
    """Lets the model compute attention as asked.

    Raises:
        Refusal: the package is missing, or the model has no such implementation.
    """
    if name == "auto":
        return
    try:
        model.set_attn_implementation(name)
    except (ImportError, OSError, ValueError) as fault:
        raise _no_attention(name, " ".join(str(fault).split())[:200]) from fault
    if model.config.get_text_config()._attn_implementation != name:
        raise _no_attention(name, f"{type(model).__name__} keeps to its own.")


def _no_attention(name: str, cause: str) -> Refusal:
    return Refusal(
        f"Attention cannot be computed by {name} here.",
        cause,
        "Install what it needs into the worker's environment, or set training.attention = 'auto'.",
    )


def _training_dtype(recipe: Recipe, device: str, located: Located, tell: Tell) -> torch.dtype:
    """The number format to train in; says why it is not one of 16 bits on a card."""
    precision, kind = recipe.training.precision, model_type(located.folder)
    dtype = computing_dtype(precision, device, kind)
    if (device, precision, dtype) == ("cuda", "auto", torch.float32):
        tell(
            f"This card computes no bf16, and models of kind '{kind}' overflow in fp16: the run "
            "computes in 32 bits, which takes more memory and time."
        )
    return dtype


def train_language_model(model: PreTrainedModel) -> None:
    """Every weight but those of towers, which text does not reach; PEFT freezes what adapters were
    merged into."""
    model.requires_grad_(False)
    language_model(model).requires_grad_(True)
    head = model.get_output_embeddings() or getattr(model, "score", None)
    if head is not None:
        head.requires_grad_(True)


def load_reward_model_for_training(
    recipe: Recipe, located: Located, tell: Tell = _silent
) -> Loaded:
    """The base with one output in place of its words, and a fresh adapter on: a reward model."""
    device = best_device()
    recipe = with_checkpointing(recipe, device)
    dtype = _training_dtype(recipe, device, located, tell)
    full = recipe.model.method == "full"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model = load_reward_model(located, torch.float32 if full else dtype, tell, device=device)
    set_padding(model, tokenizer.pad_token_id)
    set_attention(model, recipe.training.attention)
    if full:
        train_language_model(model)
    else:
        model = with_adapter(model, recipe, tell, four_bit=False, task="SEQ_CLS")
    return Loaded(model, tokenizer, device, dtype)


def load_reward_model(
    located: Located, dtype: torch.dtype, tell: Tell = _silent, *, device: str = "cpu"
) -> PreTrainedModel:
    """A sequence classifier with one output on the base's body, adapters before it merged in."""
    model = open_scoring(located.folder, tell, dtype=dtype, **_straight_to(device))
    for adapter in located.adapters:
        model = merged_adapter(model, adapter, scoring=True)
    return model


def load_for_speaking(located: Located) -> Loaded:
    """The model as it was trained, to generate with: over four bits where it learnt so, on what
    `merged.spoken_base` gives; else with all adapters merged."""
    device = best_device()
    dtype = computing_dtype("auto", device, model_type(located.folder))
    if located.four_bit:
        (adapter,) = located.adapters
        bare = Located(located.base, located.folder)
        model = earlier_adapter(load_weights(bare, dtype, four_bit=True, device=device), adapter)
        model = model.get_base_model()
    else:
        model = load_weights(located, dtype, device=device).to(device)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(located)
    stop_at_end(model, tokenizer)
    return Loaded(model.eval(), tokenizer, device, dtype)


def stop_at_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Lets generation stop at the tokenizer's end token, beside those that the model knows; what is
    saved names it in its configuration too."""
    settings: Any = model.generation_config
    known = settings.eos_token_id
    ends = [tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])]
    found = list(dict.fromkeys(end for end in ends if end is not None))
    settings.eos_token_id = found[0] if len(found) == 1 else found or None
    model.config.get_text_config().eos_token_id = settings.eos_token_id


def load_weights(
    located: Located,
    dtype: torch.dtype,
    tell: Tell = _silent,
    *,
    four_bit: bool = False,
    device: str = "cpu",
) -> PreTrainedModel:
    """The base's weights with the adapters before this run merged in."""
    quantization = None
    if four_bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = open_speaking(
        located.folder, tell, dtype=dtype, quantization_config=quantization, **_straight_to(device)
    )
    for adapter in located.adapters:
        model = merged_adapter(model, adapter)
    return model


def _straight_to(device: str) -> dict[str, Any]:
    """The option with which weights are read onto a card without a copy of them all in RAM."""
    return {"device_map": {"": 0}} if device == "cuda" else {}


def computing_dtype(precision: str, device: str, kind: str = "") -> torch.dtype:
    """The number format to compute in; `auto` takes bf16 where the device computes in it.

    Cards before Ampere (Turing: GTX 16, RTX 20, T4) emulate bf16 many times slower and take fp16,
    but for kinds of models that overflow in it.

    Args:
        precision: as the recipe says.
        device: `cpu`, `cuda` or `mps`.
        kind: the model's `model_type`.

    Raises:
        Refusal: fp16 is asked for, in which the kind overflows.
    """
    overflows = kind.startswith(OVERFLOWING)
    if precision == "fp16" and overflows:
        raise Refusal(
            "training.precision = 'fp16' does not go with this model.",
            f"Hidden states of models of kind '{kind}' go beyond fp16's largest number, 65504.",
            "Set training.precision to 'auto': it takes bf16, or 32 bits where there is none.",
        )
    if precision != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float32 if overflows else torch.float16
    has_bf16 = device == "cpu" and any(
        able and ("bf16" in name or name == "bf16")
        for name, able in torch.cpu.get_capabilities().items()
    )
    return torch.bfloat16 if has_bf16 else torch.float32


def save_weights(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Writes safetensors in `dtype`. Tied weights stay one tensor, so they are written once."""
    cast: dict[int, torch.Tensor] = {}
    state = {
        name: cast.setdefault(value.data_ptr(), _cast(value, dtype))
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)


def _cast(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In RAM: beside the weights that are trained a card has no room for a second copy."""
    return value.to("cpu", dtype) if value.is_floating_point() else value.cpu()
