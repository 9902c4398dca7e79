"""LoRA adapters: which layers of a model get one, put on fresh or read from an earlier run.

`all-linear` is every linear layer of the language model. Towers for pictures and sound, which text
does not reach, are left alone, and so are output layers, routers, and projections that Mamba's
fused kernels read past any adapter. Fused experts, one tensor for all of a layer, are adapted as
parameters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workers.engines.classes import Tell
from workers.engines.starts import INITS, PARTS
from workers.protocol.recipe import Lora, Recipe
from workers.protocol.refusal import Refusal

ALL_LINEAR = "all-linear"
WITH_TOWERS = "all-linear+vision"
PAST_ADAPTERS = ("out_proj", "x_proj", "dt_proj")
"""Projections of a Mamba mixer whose weights its fused kernels read themselves, so that what an
adapter on them learns would be passed by. PEFT refuses `out_proj` for some of these families."""
ROUTERS_AND_HEADS = ("router", "score")
"""Linear layers that choose experts, or score: the first stay as they are, the second is trained
whole."""
ROOT = "base_model.model."
"""What PEFT puts before the names of an adapter's layers."""
PACKING = "support_avx512bf16_for_cpu"
"""What bitsandbytes calls a layer's leave to be packed."""


def with_adapter(
    model: PreTrainedModel, recipe: Recipe, tell: Tell, *, four_bit: bool, task: str = "CAUSAL_LM"
) -> PreTrainedModel:
    """The frozen model with a fresh LoRA adapter (Hu et al. 2021) on the named layers.

    Raises:
        Refusal: the model has no such layers.
    """
    if four_bit:
        _prepare_four_bits(model, tell)
    config = LoraConfig(
        task_type=task,
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=target_modules(recipe.lora, model, tell),
        target_parameters=target_parameters(recipe, model, tell),
        use_dora=recipe.model.method == "dora",
        use_rslora=recipe.lora.rslora,
        init_lora_weights=INITS[recipe.lora.init],  # type: ignore[arg-type]
        **_whole_modules(recipe.lora, model),
    )
    try:
        on: Any = get_peft_model(model, config)
        config.init_lora_weights = True  # so that a copy of the adapter takes no part out again
        return on
    except ValueError as fault:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in linear_layers(model)}))
        raise Refusal(
            f"The adapter does not fit this model: {str(fault)[:300]}",
            f"lora.targets is '{recipe.lora.targets}'.",
            f"Layers of this model that can have one: {names}. Name some of them, separated by "
            f"commas, or set lora.targets = '{ALL_LINEAR}' for all of them.",
        ) from fault


def continued_adapter(
    model: PreTrainedModel, recipe: Recipe, adapter: Path, tell: Tell, *, four_bit: bool
) -> PreTrainedModel:
    """The frozen model with an earlier run's adapter on, to train that further."""
    if four_bit:
        _prepare_four_bits(model, tell)
    on = earlier_adapter(model, adapter, trainable=True)
    found, asked = on.peft_config["default"], recipe.lora
    on.train()
    if (found.r, found.lora_alpha) != (asked.rank, asked.alpha):
        tell(
            f"The adapter that is trained further has rank {found.r} and alpha "
            f"{found.lora_alpha:g}; the recipe's lora.rank, lora.alpha and lora.targets are for "
            "fresh ones."
        )
    return on


def _whole_modules(lora: Lora, model: PreTrainedModel) -> dict[str, Any]:
    """PEFT's options for the layers that are trained whole beside the adapter.

    Raises:
        Refusal: the model has no layer of such a name.
    """
    names = whole_layers(lora)
    if not names:
        return {}
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if unknown := [name for name in names if name.rpartition(".")[2] not in there]:
        ends = ", ".join(sorted(_embedding_names(model)))
        raise Refusal(
            f"This model has no layer called {', '.join(unknown)}.",
            f"lora.modules_to_save is '{lora.modules_to_save}'.",
            f"Its embeddings and output layer are called {ends}.",
        )
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    whole = _embedding_names(model)
    return {"modules_to_save": names, "ensure_weight_tying": tied and not whole.isdisjoint(names)}


def whole_layers(lora: Lora) -> list[str]:
    return [name.strip() for name in lora.modules_to_save.split(",") if name.strip()]


def _embedding_names(model: PreTrainedModel) -> set[str]:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {
        name.rpartition(".")[2] for name, layer in model.named_modules()
        if any(layer is end for end in ends if end is not None)
    }  # fmt: skip


def train_in_32_bits(model: nn.Module) -> None:
    """Gives every trained weight 32 bits, and so the copy of it that TRL keeps as the reference.

    TRL casts the adapters of four-bit models to bf16, where a step of 5e-7 upon a weight of 0.1 is
    rounded away, Adam's second moment never decays, and gradients cannot be unscaled for fp16.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad or ".ref." in name:
            weight.data = weight.data.float()


def target_modules(lora: Lora, model: PreTrainedModel, tell: Tell) -> list[str]:
    """The layers that get an adapter, by full name for `all-linear`, else as the recipe names
    them."""
    if lora.targets not in (ALL_LINEAR, WITH_TOWERS):
        return named_layers(lora)
    every = linear_layers(model, towers=lora.targets == WITH_TOWERS)
    found = _not_taken_for_experts(model, every)
    _tell_left_out(tell, _read_past(model), "the kernels of Mamba read their weights past it")
    _tell_left_out(tell, {*every} - {*found}, "PEFT takes their names for those of the experts")
    return found


def _tell_left_out(tell: Tell, names: set[str], reason: str) -> None:
    if names:
        shown = ", ".join(sorted({re.sub(r"\.\d+\.", ".*.", name) for name in names}))
        tell(f"These layers get no adapter, since {reason}: {shown}.")


def named_layers(lora: Lora) -> list[str]:
    return [name.strip() for name in lora.targets.split(",") if name.strip()]


def linear_layers(model: PreTrainedModel, *, towers: bool = False) -> list[str]:
    """The full names of the linear layers that an adapter can stand on."""
    body = model if towers else language_model(model)
    prefix = next(name for name, module in model.named_modules() if module is body)
    head, past = model.get_output_embeddings(), _read_past(model)
    return [
        name
        for name, module in body.named_modules(prefix=prefix)
        if _is_linear(module) and module is not head and name not in past
        and name.rpartition(".")[2] not in ROUTERS_AND_HEADS
    ]  # fmt: skip


def language_model(model: PreTrainedModel) -> nn.Module:
    """The part that reads and writes text, without towers and what joins them to it."""
    decoder: Any = model.get_decoder()
    return decoder


def _is_linear(module: nn.Module) -> bool:
    """A plain linear layer, of torch, GPT-2's kind, or bitsandbytes' packed one. Subclasses, such
    as Llama 4's router, may give back more than one tensor."""
    kind = type(module)
    packed = isinstance(module, nn.Linear) and kind.__module__.startswith("bitsandbytes")
    return kind in (nn.Linear, Conv1D) or packed


def _read_past(model: PreTrainedModel) -> set[str]:
    """The projections of Mamba mixers that an adapter would not reach; a mixer is what holds the
    state space's A and D."""
    return {
        f"{name}.{projection}"
        for name, module in model.named_modules()
        if hasattr(module, "A_log") and hasattr(module, "D")
        for projection in PAST_ADAPTERS
        if hasattr(module, projection)
    }


def _not_taken_for_experts(model: PreTrainedModel, names: list[str]) -> list[str]:
    """Without the names that PEFT would read as those of the experts in older checkpoints: for
    families such as Qwen's mixtures it turns every `up_proj` into the fused experts."""
    config = LoraConfig(target_modules=list(names))
    convert_peft_config_for_transformers(config, model=model, conversions=None)
    kept = set(config.target_modules or ())
    return [name for name in names if name in kept]


def target_parameters(recipe: Recipe, model: PreTrainedModel, tell: Tell) -> list[str] | None:
    """The fused experts' tensors, where the recipe and PEFT allow for them.

    Raises:
        Refusal: lora.experts is on and the model has none, or PEFT cannot adapt them so.
    """
    lora = recipe.lora
    fused = experts(model)
    all_linear = lora.targets in (ALL_LINEAR, WITH_TOWERS)
    if lora.experts == "off" or (lora.experts == "auto" and not all_linear):
        return None
    reason = _no_experts(recipe, fused)
    if reason and lora.experts == "on":
        raise Refusal(
            "The model's experts cannot get an adapter.", reason,
            "Set lora.experts = 'auto', lora.dropout = 0, and model.method to 'lora' or 'qlora'.",
        )  # fmt: skip
    if reason:
        if fused:
            tell(f"The experts get no adapter, the other layers do. {reason}")
        return None
    if not recipe.training.gradient_checkpointing:
        size = sum(weight.nbytes for weight in fused_experts(model).values()) / 2**30
        tell(
            f"With an adapter on the experts each step keeps a second copy of them, {size:.1f} GB; "
            "training.gradient_checkpointing = true keeps that of one layer at a time, and "
            "lora.experts = 'off' none."
        )
    return fused


def _no_experts(recipe: Recipe, fused: list[str]) -> str:
    if not fused:
        return "The model has no fused experts."
    if recipe.lora.dropout or recipe.model.method == "dora" or recipe.lora.init in PARTS:
        return (
            "PEFT adapts fused experts by plain LoRA alone, without dropout, without DoRA, and "
            "from nothing."
        )
    return ""


def experts(model: PreTrainedModel) -> list[str]:
    """The names, from the last layer's number on, of the fused experts' tensors."""
    return sorted({re.split(r"\.\d+\.", name)[-1] for name in fused_experts(model)})


def fused_experts(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """By name the tensors that hold all experts of a layer: three dimensions, (experts, in, out)
    or (experts, out, in)."""
    return {
        name: weight
        for name, weight in language_model(model).named_parameters()
        if weight.ndim == 3 and ".experts." in name
    }


def merged_adapter(model: PreTrainedModel, adapter: Path, *, scoring: bool = False) -> Any:
    """The model with an adapter of an earlier run added to its weights; as `earlier_adapter`."""
    return earlier_adapter(model, adapter, scoring=scoring).merge_and_unload()


def earlier_adapter(
    model: PreTrainedModel,
    adapter: Path,
    *,
    scoring: bool = False,
    trainable: bool = False,
    hollow: bool = False,
) -> Any:
    """The model with an adapter of an earlier run on, for inference unless it is trainable.

    Args:
        model: what the adapter was trained on.
        adapter: the folder of the adapter.
        scoring: the model is a reward model, and the adapter may be of one that speaks.
        hollow: the model has shapes alone; of the adapter nothing is computed from its weights.

    Raises:
        Refusal: weights of the adapter have no place in the model.
    """
    config: Any = PeftConfig.from_pretrained(str(adapter))
    if scoring and config.task_type != "SEQ_CLS":
        config.task_type = None  # its layers are the body's; it was trained to speak
    moved = _moved(model)
    mapping = {rf"^{re.escape(old)}": new for old, new in moved.items()}
    if isinstance(config.target_modules, set):
        config.target_modules = {_renamed(name, moved) for name in config.target_modules}
    options: dict[str, Any] = {
        "config": config, "key_mapping": mapping, "is_trainable": trainable,
    }  # fmt: skip
    if hollow:
        options |= {"low_cpu_mem_usage": True, "torch_device": "cpu"}
    try:
        on: Any = PeftModel.from_pretrained(model, str(adapter), **options)
    except (ValueError, RuntimeError) as fault:  # no layer of those names, or of another shape
        raise _unfit(adapter, " ".join(str(fault).split())[:200]) from fault
    lost, of = _without_place(on, adapter, moved)
    if lost:
        example = f"for example {lost[0].removeprefix(ROOT)}"
        raise _unfit(adapter, f"{len(lost)} of its {of} weights have no layer there, {example}")
    return on


def _unfit(adapter: Path, cause: str) -> Refusal:
    return Refusal(
        f"The adapter in {adapter.parent.name} does not fit its base model.",
        f"{cause}.",
        "The base may have changed, or another engine wrote the adapter: train it again on this "
        "base.",
    )


def _moved(model: PreTrainedModel) -> dict[str, str]:
    """Where an adapter that was trained on a language model alone belongs in one with a tower."""
    body = language_model(model)
    name = next(name for name, module in model.named_modules() if module is body)
    outer, _, inner = name.rpartition(".")
    return {f"{outer}.layers.": f"{name}.layers."} if inner == "language_model" and outer else {}


def _renamed(name: str, moved: dict[str, str]) -> str:
    old = next((old for old in moved if name.startswith(old)), "")
    return moved[old] + name.removeprefix(old) if old else name


def _without_place(on: Any, adapter: Path, moved: dict[str, str]) -> tuple[list[str], int]:
    """Stored weights for which the model has no layer, which PEFT passes over without a word; and
    how many are stored."""
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if ".lora_" in name]  # noqa: SIM118
    stored = {ROOT + _renamed(name.removeprefix(ROOT), moved) for name in names}
    placed = get_peft_model_state_dict(on, save_embedding_layers=False)
    return sorted(stored - set(placed)), len(stored)


def _prepare_four_bits(model: PreTrainedModel, tell: Tell) -> None:
    """Keeps packed layers from being packed again, and says what is not packed.

    Nothing is cast: what is not packed stays in 16 bits, as it is without four bits. In 32 bits, as
    PEFT's `prepare_model_for_kbit_training` casts it, embeddings alone would take up to 2.3 GB more
    of an 8B model, and hidden states and KV cache would follow them.
    """
    _keep_differentiable(model)
    fused = fused_experts(model).values()
    if fused:
        size = sum(weight.nbytes for weight in fused) / 2**30
        tell(
            f"The experts stay in 16 bits and take {size:.1f} GB: bitsandbytes packs linear layers "
            "alone, and the experts of a layer are one tensor."
        )


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keeps four-bit layers from being packed for inference when they are first evaluated.

    On processors with AVX-512 BF16, bitsandbytes packs a layer for good once it is called in eval
    mode; the packed product has no gradient, so that nothing below it would be learnt afterwards.
    """
    layers: list[Any] = [one for one in model.modules() if hasattr(one, PACKING)]
    for layer in layers:
        setattr(layer, PACKING, False)
