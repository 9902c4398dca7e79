"""Random models of real families with two layers of 64, from their configurations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from workers.engines.classes import speaking_classes

SIZE: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_chunk_size": 64}
TOWER = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
LFM2 = {"layer_types": ["conv", "full_attention"]}
HEAD = {"head_dim": 16}

OPTIONS: dict[str, dict[str, Any]] = {
    "qwen3": HEAD,
    "granite": {},
    "lfm2_moe": {**LFM2, **EXPERTS, "num_dense_layers": 1},
    "qwen3_moe": {**HEAD, **EXPERTS, "decoder_sparse_step": 1},
    "glm4_moe": {
        **HEAD, **EXPERTS, "first_k_dense_replace": 1, "n_shared_experts": 1, "n_group": 1,
        "topk_group": 1,
    },
    "gpt_oss": {**HEAD, **EXPERTS, "sliding_window": 128},
    "granitemoehybrid": {
        **EXPERTS, **MAMBA, "shared_intermediate_size": 128, "layer_types": ["mamba", "attention"],
    },
    "nemotron_h": {
        **HEAD, **EXPERTS, "num_hidden_layers": 4, "mamba_num_heads": 4, "mamba_head_dim": 32,
        "layers_block_type": ["mamba", "attention", "moe", "mlp"], "ssm_state_size": 16,
        "n_groups": 2, "chunk_size": 64, "n_shared_experts": 1,
        "moe_shared_expert_intermediate_size": 64,
    },
    "falcon_h1": {**HEAD, **MAMBA, "mamba_d_ssm": 128},
}  # fmt: skip
"""By `model_type`: what a language model has besides its size."""

WHOLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mistral3": (
        {"model_type": "mistral", **HEAD}, {"model_type": "pixtral", **TOWER, **HEAD},
    ),
    "gemma4": (
        {
            **HEAD, "global_head_dim": 32, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 400,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        {**TOWER, **HEAD, "num_key_value_heads": 2, "position_embedding_size": 64},
    ),
    "qwen3_5": (
        {
            "head_dim": 32, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
        {
            "hidden_size": 32, "intermediate_size": 64, "depth": 1, "num_heads": 2,
            "out_hidden_size": 64, "patch_size": 14,
        },
    ),
    "lfm2_vl": (
        {"model_type": "lfm2", **LFM2}, {"model_type": "siglip2_vision_model", **TOWER},
    ),
    "llama4": (
        {
            **HEAD, "num_local_experts": 4, "intermediate_size_mlp": 128,
            "layer_types": ["chunked_attention", "full_attention"],
        },
        {**TOWER, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
    ),
}  # fmt: skip
"""By `model_type`: the text and the vision part of those with a tower."""


def configuration(name: str) -> PreTrainedConfig:
    kind: Any = CONFIG_MAPPING[name]
    if name in OPTIONS:
        return kind(**SIZE | OPTIONS[name])
    text, vision = WHOLE[name]
    return kind(text_config=SIZE | text, vision_config=vision)


def random_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    config = configuration(name)
    torch.manual_seed(0)
    return next(speaking_classes(config)).cls._from_config(config, dtype=dtype)


def without_weights(name: str) -> PreTrainedModel:
    """For what depends on the layers alone."""
    with torch.device("meta"):
        return random_model(name)


def snapshot(name: str, folder: Path, tokenizer: Path | None = None) -> Path:
    """A model folder, with another model's tokenizer where one is given."""
    random_model(name).save_pretrained(folder)
    if tokenizer is not None:
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def rewrite_weights(folder: Path, change: Any) -> None:
    """Replaces the stored weights by what `change` makes of them."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
