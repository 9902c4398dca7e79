"""The plain engine: Transformers loads the model and PEFT puts the adapter on.

Runs wherever PyTorch does. Weights are read from safetensors alone and no code that comes with a
model is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from workers.engines import Loaded
from workers.engines.tokenizer import load_tokenizer, tokenizer_for
from workers.fetch import Located
from workers.protocol.recipe import Lora, Recipe
from workers.protocol.refusal import Refusal


def load_for_training(recipe: Recipe, located: Located) -> Loaded:
    """The base model with a fresh adapter on, or all weights trainable for method `full`.

    LoRA keeps the frozen base in the computing precision and its own weights in 32 bits; full
    training keeps 32-bit weights and computes in the precision (mixed precision, Micikevicius et
    al. 2018), since small steps are lost in 16-bit weights.
    """
    device = best_device()
    dtype = computing_dtype(recipe.training.precision, device)
    full = recipe.model.method == "full"
    four_bit = recipe.model.method == "qlora"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model = load_weights(located, torch.float32 if full else dtype, four_bit=four_bit)
    stop_at_end(model, tokenizer)
    if recipe.training.gradient_checkpointing:
        model.config.use_cache = False
    if full:
        model.requires_grad_(True)  # PEFT freezes what adapters were merged into
    else:
        model = with_adapter(model, recipe, four_bit=four_bit)
    return Loaded(model, tokenizer, device, dtype)


def load_reward_model_for_training(recipe: Recipe, located: Located) -> Loaded:
    """The base with one output in place of its words, and a fresh adapter on: a reward model."""
    device = best_device()
    dtype = computing_dtype(recipe.training.precision, device)
    full = recipe.model.method == "full"
    tokenizer = tokenizer_for(recipe.model, located, recipe.stage)
    model = load_reward_model(located, torch.float32 if full else dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    if full:
        model.requires_grad_(True)
    else:
        model = with_adapter(model, recipe, four_bit=False, task="SEQ_CLS")
    return Loaded(model, tokenizer, device, dtype)


def load_reward_model(located: Located, dtype: torch.dtype) -> PreTrainedModel:
    """A sequence classifier with one output on the base's body, adapters before it merged in."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        located.folder, num_labels=1, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    for adapter in located.adapters:
        config = PeftConfig.from_pretrained(str(adapter))
        if config.task_type != "SEQ_CLS":
            config.task_type = None  # its layers are the body's; it was trained to speak
        model = PeftModel.from_pretrained(model, str(adapter), config=config).merge_and_unload()
    return model


def load_for_speaking(located: Located) -> Loaded:
    """The model as it was trained, adapters merged, to generate with."""
    device = best_device()
    dtype = computing_dtype("auto", device)
    model = load_weights(located, dtype).to(device).eval()  # type: ignore[arg-type]
    tokenizer = load_tokenizer(located)
    stop_at_end(model, tokenizer)
    return Loaded(model, tokenizer, device, dtype)


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
    located: Located, dtype: torch.dtype, *, four_bit: bool = False
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
    model = AutoModelForCausalLM.from_pretrained(
        located.folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        quantization_config=quantization,
    )
    for adapter in located.adapters:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model


def with_adapter(
    model: PreTrainedModel, recipe: Recipe, *, four_bit: bool, task: str = "CAUSAL_LM"
) -> PreTrainedModel:
    """The frozen model with a fresh LoRA adapter (Hu et al. 2021) on the named layers."""
    if four_bit:
        _keep_differentiable(model)
        checkpointing = recipe.training.gradient_checkpointing
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    config = LoraConfig(
        task_type=task,
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=target_modules(recipe.lora),
        use_dora=recipe.model.method == "dora",
    )
    try:
        return get_peft_model(model, config)  # type: ignore[return-value]
    except ValueError as fault:
        raise Refusal(
            f"The adapter does not fit this model: {fault}",
            "lora.targets names layers that the model does not have.",
            "Set lora.targets = 'all-linear'.",
        ) from fault


PACKING = "support_avx512bf16_for_cpu"
"""What bitsandbytes calls a layer's leave to be packed."""


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keeps four-bit layers from being packed for inference when they are first evaluated.

    On processors with AVX-512 BF16, bitsandbytes packs a layer for good once it is called in eval
    mode; the packed product has no gradient, so that nothing below it would be learnt afterwards.
    """
    layers: list[Any] = [one for one in model.modules() if hasattr(one, PACKING)]
    for layer in layers:
        setattr(layer, PACKING, False)


def target_modules(lora: Lora) -> str | list[str]:
    if lora.targets == "all-linear":
        return lora.targets
    return [name.strip() for name in lora.targets.split(",") if name.strip()]


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def computing_dtype(precision: str, device: str) -> torch.dtype:
    """The number format to compute in; `auto` takes bf16 where the device computes in it."""
    if precision != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
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
    return value.to(dtype) if value.is_floating_point() else value
