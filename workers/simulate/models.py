"""Models of fake tensors, from their configuration alone: real shapes, no weights.

They are put together as the plain engine puts together what it has loaded: the same classes, the
same adapters, bitsandbytes' own layers with their storages packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import CONFIG_MAPPING, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from workers.engines.adapters import with_adapter
from workers.engines.classes import scoring_class, set_padding, speaking_classes
from workers.engines.transformers import train_language_model
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

BLOCK, NESTED_BLOCK, LEVELS = 64, 256, 16
"""Weights that share a scale in NF4, scales that share one, and NF4's values (Dettmers et al.
2023); bitsandbytes' defaults."""


def configuration(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration from the fields of a config.json.

    Raises:
        Refusal: Transformers knows no such architecture, or not these fields.
    """
    kind = str(fields.get("model_type", ""))
    rest = {name: value for name, value in fields.items() if name != "model_type"}
    try:
        return CONFIG_MAPPING[kind](**rest)
    except (KeyError, TypeError, ValueError) as fault:
        raise Refusal(
            f"A model of type '{kind}' cannot be simulated.",
            f"This version of Transformers cannot make it from its config.json: {str(fault)[:200]}",
            "Choose a model of a family that Transformers knows.",
        ) from fault


def speaking(fields: Mapping[str, Any], dtype: torch.dtype) -> PreTrainedModel:
    """A frozen language model; under FakeTensorMode it costs no memory."""
    config = configuration(fields)
    candidate = next(speaking_classes(config))
    return _made(candidate.cls, candidate.config, dtype)


def scoring(fields: Mapping[str, Any], dtype: torch.dtype, padding: int) -> PreTrainedModel:
    """A model with one output, as a reward model is."""
    config = configuration(fields)
    config.num_labels = 1
    model = _made(scoring_class(config), config, dtype)
    set_padding(model, padding)
    return model


def _made(cls: Any, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
    with no_init_weights():  # some draw again until within bounds, as no fake one is
        model = cls._from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.tie_weights()
    return model.requires_grad_(False)


def trained(model: PreTrainedModel, recipe: Recipe, task: str = "CAUSAL_LM") -> PreTrainedModel:
    """The model as a run by the recipe's method trains it."""
    method = recipe.model.method
    if method == "full":
        train_language_model(model)
        return model
    four_bit = method == "qlora" and task == "CAUSAL_LM"
    if four_bit:
        pack(model)
    return with_adapter(model, recipe, lambda _: None, four_bit=four_bit, task=task)


def pack(model: PreTrainedModel) -> None:
    """Puts bitsandbytes' four-bit layers in place of the linear ones, as loading does."""
    from transformers.integrations import replace_with_bnb_linear

    options = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=model.dtype,
    )  # fmt: skip
    kept = {id(model.get_output_embeddings())}
    head = [name for name, module in model.named_modules() if id(module) in kept]
    biases = {
        name: one.bias for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)
    }
    with unset_fake_temporarily():  # its weights are a class of their own, which none fake is
        replace_with_bnb_linear(model, modules_to_not_convert=head, quantization_config=options)
    for name, module in four_bit_layers(model):
        if biases[name] is not None:
            module.bias = biases[name]
        module.weight = _packed(module, model.dtype)
    model.is_loaded_in_4bit = True  # type: ignore[attr-defined]  PEFT looks for it


def four_bit_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from bitsandbytes.nn import Linear4bit

    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            yield name, module


def _packed(layer: Any, dtype: torch.dtype) -> torch.nn.Parameter:
    """A weight of half a byte a number, with scales in 8 bits and those scales' scales in 32."""
    from bitsandbytes.functional import QuantState

    shape = torch.Size((layer.out_features, layer.in_features))
    blocks = -(-shape.numel() // BLOCK)
    nested = QuantState(
        absmax=torch.empty(-(-blocks // NESTED_BLOCK)), code=torch.empty(256),
        blocksize=NESTED_BLOCK, dtype=torch.float32,
    )  # fmt: skip
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8), shape=shape, dtype=dtype, blocksize=BLOCK,
        code=torch.empty(LEVELS), quant_type="nf4", offset=torch.zeros(()), state2=nested,
    )  # fmt: skip
    data = torch.empty(-(-shape.numel() // 2), 1, dtype=torch.uint8)
    weight: Any = torch.nn.Parameter(data, requires_grad=False)
    weight.quant_state, weight.bnb_quantized = state, True
    weight.compress_statistics, weight.quant_type, weight.blocksize = True, "nf4", BLOCK
    weight.quant_storage, weight.module = torch.uint8, layer
    return weight


def frozen_storages(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """All that a model holds and does not train: weights, buffers, scales of packed ones."""
    yield from (weight for weight in model.parameters() if not weight.requires_grad)
    yield from model.buffers()
    for _, layer in four_bit_layers(model):
        state = layer.weight.quant_state
        yield from (state.absmax, state.code, state.offset)
        yield from (state.state2.absmax, state.state2.code)


@contextmanager
def replacing_weights() -> Iterator[None]:
    """Lets modules take converted fake weights by putting new ones in their places.

    PyTorch would exchange the two tensors' contents, which it refuses for tensors that are looked
    at by weak references, as every fake one is.
    """
    kept = torch.nn.Module._apply
    torch.nn.Module._apply = _with_new_weights  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module._apply = kept  # type: ignore[method-assign]


def _with_new_weights(module: torch.nn.Module, convert: Any, recurse: bool = True) -> Any:
    made: dict[int, torch.nn.Parameter] = {}
    for part in module.modules() if recurse else [module]:
        for name, weight in part._parameters.items():
            if weight is None:
                continue
            converted = made.get(id(weight))
            if converted is None:
                with torch.no_grad():
                    data = convert(weight)
                same = data is weight or data.dtype == weight.dtype
                converted = weight if same else torch.nn.Parameter(data, weight.requires_grad)
                made[id(weight)] = converted
            part._parameters[name] = converted
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = convert(buffer)
    return module
