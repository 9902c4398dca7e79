"""Tiny random models of real families, written as their hub snapshots are; made by hand.

A family is its configuration with two layers of 64, a real vocabulary and a real chat template.
The vocabularies (`ggml-vocab-*.gguf`) and most templates (`templates/*.jinja`) lie under
`vendor/llama.cpp/models` in llama-cpp-python's source distribution; the other templates come with
TRL. Where a family's own vocabulary is not among them, the docstring of `FAMILIES` says which one
stands in, with the family's special tokens in it.

    python tests/fakes/families.py gemma4 /tmp/gemma4 --models .../vendor/llama.cpp/models
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tests.fakes.snapshots import Family, write_snapshot

PHI4 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}"
    "{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + message['content'] + eos_token }}{% if not loop.last %}{{ '\n' }}"
    "{% endif %}{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}"
    "{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    "{% endfor %}"
)
OLMO3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] }}{% if message['role'] == 'assistant' and loop.last %}{{ eos_token }}"
    "{% else %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FALCON_H1 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' +"
    " message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ERNIE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + '<|end_of_sentence|>' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
EXAONE = (
    "{% for message in messages %}{{ '[|' + message['role'] + '|]\n' + message['content'] +"
    " '[|endofturn|]\n' }}{% endfor %}{% if add_generation_prompt %}{{ '[|assistant|]\n' }}"
    "{% endif %}"
)
"""Templates that no package ships, from memory."""


QWEN_SPECIAL = (
    *(f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad", "vision")
      for end in ("start", "end")),
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
QWEN_PLAIN = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip
QWEN: dict[str, Any] = {
    "vocabulary": "qwen2", "tokenizer": "Qwen2Tokenizer", "eos": "<|im_end|>",
    "pad": "<|endoftext|>", "stops": ("<|endoftext|>",), "special": QWEN_SPECIAL,
    "plain": QWEN_PLAIN,
}  # fmt: skip
QWEN_35: dict[str, Any] = {**QWEN, "vocabulary": "qwen35"}
GRANITE = {
    "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22,
    "attention_multiplier": 0.0625, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "vocabulary": "llama-spm", "tokenizer": "GemmaTokenizer", "eos": "<eos>", "pad": "<pad>",
    "bos": "<bos>", "special": ("<pad>", "<start_of_turn>", "<end_of_turn>"),
    "stops": ("<end_of_turn>",), "renamed": {"<s>": "<bos>", "</s>": "<eos>"},
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}

GEMMA_VISION: dict[str, Any] = {
    **GEMMA,
    "special": (*GEMMA["special"], "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
}
TEKKEN = (
    "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "[ARGS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[THINK]", "[/THINK]", "<pad>",
)  # fmt: skip
TEKKEN_STAND_IN: dict[str, Any] = {
    "vocabulary": "llama-bpe", "eos": "</s>", "pad": "<pad>", "bos": "<s>", "special": TEKKEN,
    "renamed": {"<|begin_of_text|>": "<s>", "<|end_of_text|>": "</s>"},
}  # fmt: skip
CHATML = ("<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>",
         "</tool_response>")  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "head_dim": 16, "image_size": 28, "patch_size": 14,
}  # fmt: skip
QWEN_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "depth": 1, "num_heads": 2, "out_hidden_size": 64,
    "deepstack_visual_indexes": [0], "num_position_embeddings": 16, "patch_size": 14,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_chunk_size": 64}

FAMILIES: dict[str, Family] = {
    "qwen2": Family("Qwen2Config", {}, template="Qwen-Qwen2.5-7B-Instruct.jinja", **QWEN),
    "qwen3": Family("Qwen3Config", {"head_dim": 16}, template="trl:qwen3", **QWEN),
    "qwen3_moe": Family(
        "Qwen3MoeConfig", {"head_dim": 16, **EXPERTS}, template="trl:qwen3", **QWEN
    ),
    "qwen3_5": Family(
        "Qwen3_5TextConfig",
        {
            "head_dim": 32, "mtp_num_hidden_layers": 1, "linear_key_head_dim": 16,
            "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
        template="Qwen3.5-4B.jinja",
        **QWEN_35,
    ),
    "granite": Family(
        "GraniteConfig", GRANITE, "starcoder", "ibm-granite-granite-3.3-2B-Instruct.jinja",
        eos="<|end_of_text|>", pad="<|end_of_text|>", bos="<|end_of_text|>",
        special=("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        tokenizer="GPT2Tokenizer", renamed={"<|endoftext|>": "<|end_of_text|>"},
    ),
    "granitemoehybrid": Family(
        "GraniteMoeHybridConfig",
        {
            **GRANITE, "num_local_experts": 4, "num_experts_per_tok": 2,
            "shared_intermediate_size": 128, "mamba_n_heads": 4, "mamba_d_head": 32,
            "mamba_d_state": 16, "mamba_chunk_size": 64, "layer_types": ["mamba", "attention"],
        },
        "llama-bpe", "ibm-granite-granite-4.0.jinja", eos="<|end_of_text|>", pad="<|pad|>",
        bos="<|end_of_text|>", special=("<|start_of_role|>", "<|end_of_role|>", "<|pad|>"),
        plain=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
        tokenizer="GPT2Tokenizer",
    ),
    "gpt_oss": Family(
        "GptOssConfig",
        {
            "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2,
            "sliding_window": 128, "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0,
                "beta_slow": 1.0, "truncate": True, "original_max_position_embeddings": 64},
        },
        "llama-bpe", "trl:gptoss", eos="<|return|>", pad="<|endoftext|>", bos="<|startoftext|>",
        stops=("<|endoftext|>", "<|call|>"),
        special=("<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>",
                 "<|constrain|>"),
        renamed={"<|begin_of_text|>": "<|startoftext|>", "<|end_of_text|>": "<|endoftext|>"},
    ),
    "llama": Family(
        "LlamaConfig", {}, "llama-bpe", "trl:deepseek_r1_distill",
        eos="<｜end▁of▁sentence｜>", pad="<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>",
        plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        renamed={"<|begin_of_text|>": "<｜begin▁of▁sentence｜>",
                 "<|end_of_text|>": "<｜end▁of▁sentence｜>"},
    ),
    "llama3": Family(
        "LlamaConfig", {"tie_word_embeddings": True}, "llama-bpe",
        "meta-llama-Llama-3.2-3B-Instruct.jinja", eos="<|eot_id|>", pad="<|finetune_right_pad_id|>",
        bos="<|begin_of_text|>", stops=("<|end_of_text|>", "<|eom_id|>"),
        special=("<|finetune_right_pad_id|>", "<|eom_id|>", "<|python_tag|>"),
    ),
    "mistral": Family(
        "MistralConfig", {"head_dim": 16, "sliding_window": None}, "llama-spm", MISTRAL,
        eos="</s>", pad="</s>", bos="<s>", special=("[INST]", "[/INST]"),
        tokenizer="LlamaTokenizer",
    ),
    "phi3": Family(
        "Phi3Config", {}, "phi-3", "microsoft-Phi-3.5-mini-instruct.jinja", eos="<|endoftext|>",
        pad="<|endoftext|>", bos="<s>", stops=("<|end|>", "<|assistant|>"),
        tokenizer="LlamaTokenizer", rstrip=True,
    ),
    "phi4_mini": Family(
        "Phi3Config", {"tie_word_embeddings": True}, "gpt-2", PHI4, eos="<|endoftext|>",
        pad="<|endoftext|>", bos="<|endoftext|>", stops=("<|end|>",),
        special=("<|assistant|>", "<|end|>", "<|user|>", "<|system|>"), tokenizer="GPT2Tokenizer",
    ),
    "gemma2": Family(
        "Gemma2Config",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 128},
        template="google-gemma-2-2b-it.jinja", **GEMMA,
    ),
    "gemma3_text": Family(
        "Gemma3TextConfig",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 128},
        template="trl:gemma3", **GEMMA,
    ),
    "gemma4": Family(
        "Gemma4Config",
        {
            "text_config": {
                "head_dim": 16, "global_head_dim": 32, "sliding_window": 128,
                "hidden_size_per_layer_input": 8, "final_logit_softcapping": 30.0,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            "vision_config": {
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
                "position_embedding_size": 64,
            },
            "audio_config": None,
        },
        "gemma-4", "google-gemma-4-31B-it.jinja", eos="<eos>", pad="<pad>", bos="<bos>",
        stops=("<turn|>",), tokenizer="GemmaTokenizer",
    ),
    "qwen3_5_vision": Family(
        "Qwen3_5Config",
        {
            "text_config": {
                "head_dim": 32, "mtp_num_hidden_layers": 1, "linear_key_head_dim": 16,
                "linear_value_head_dim": 16, "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "layer_types": ["linear_attention", "full_attention"],
            },
            "vision_config": {k: v for k, v in QWEN_VISION.items() if "deepstack" not in k},
            "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
        },
        template="Qwen3.5-4B.jinja",
        **QWEN_35,
    ),
    "qwen3_vl": Family(
        "Qwen3VLConfig",
        {
            "text_config": {"head_dim": 16, "rope_parameters": {
                "rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2],
                "mrope_interleaved": True}},
            "vision_config": QWEN_VISION,
            "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
        },
        template="trl:qwen3_vl",
        **QWEN,
    ),
    "smollm3": Family(
        "SmolLM3Config", {"tie_word_embeddings": True, "num_hidden_layers": 4}, "llama-bpe",
        "HuggingFaceTB-SmolLM3-3B.jinja", eos="<|im_end|>", pad="<|im_end|>", special=CHATML,
        plain=THINK,
    ),
    "gemma3": Family(
        "Gemma3Config",
        {
            "text_config": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 128},
            "vision_config": VISION, "mm_tokens_per_image": 4,
            "boi_token_index": "<start_of_image>", "eoi_token_index": "<end_of_image>",
            "image_token_index": "<image_soft_token>",
        },
        template="trl:gemma3",
        **GEMMA_VISION,
    ),
    "mistral_nemo": Family(
        "MistralConfig", {"head_dim": 16, "sliding_window": None},
        template="mistralai-Mistral-Nemo-Instruct-2407.jinja", **TEKKEN_STAND_IN,
    ),
    "mistral3": Family(
        "Mistral3Config",
        {
            "text_config": {"model_type": "ministral3", "head_dim": 16, "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e6, "factor": 2.0, "beta_fast": 32.0,
                "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 1024, "llama_4_scaling_beta": 0.1}},
            "vision_config": {"model_type": "pixtral", **VISION},
            "image_token_index": "[IMG]", "spatial_merge_size": 1,
        },
        template="mistralai-Ministral-3-14B-Reasoning-2512.jinja", **TEKKEN_STAND_IN,
    ),
    "olmo2": Family(
        "Olmo2Config", {}, "llama-bpe", OLMO2, eos="<|endoftext|>", pad="<|pad|>",
        bos="<|endoftext|>", special=("<|pad|>",), tokenizer="GPT2Tokenizer",
        renamed={"<|end_of_text|>": "<|endoftext|>"},
    ),
    "olmo3": Family(
        "Olmo3Config",
        {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"]},
        "llama-bpe", OLMO3, eos="<|endoftext|>", pad="<|pad|>", stops=("<|im_end|>",),
        bos="<|endoftext|>", special=("<|pad|>", *CHATML), tokenizer="GPT2Tokenizer",
        renamed={"<|end_of_text|>": "<|endoftext|>"},
    ),
    "lfm2": Family(
        "Lfm2Config",
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        "llama-bpe", "LFM2.5-Instruct.jinja", eos="<|im_end|>", pad="<|pad|>",
        bos="<|startoftext|>", special=("<|pad|>", *CHATML), plain=THINK,
        renamed={"<|begin_of_text|>": "<|startoftext|>", "<|end_of_text|>": "<|endoftext|>"},
    ),
    "lfm2_moe": Family(
        "Lfm2MoeConfig",
        {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **EXPERTS},
        "llama-bpe", "LFM2-8B-A1B.jinja", eos="<|im_end|>", pad="<|pad|>",
        bos="<|startoftext|>",
        special=("<|pad|>", *CHATML, "<|tool_list_start|>", "<|tool_list_end|>",
                 "<|tool_response_start|>", "<|tool_response_end|>"),
        renamed={"<|begin_of_text|>": "<|startoftext|>", "<|end_of_text|>": "<|endoftext|>"},
    ),
    "minicpm5": Family(
        "LlamaConfig", {}, "llama-bpe", "openbmb-MiniCPM5-1B.jinja", eos="</s>", pad="</s>",
        bos="<s>", stops=("<|im_end|>",), special=CHATML, plain=THINK,
        renamed={"<|begin_of_text|>": "<s>", "<|end_of_text|>": "</s>"},
    ),
    "apertus": Family(
        "ApertusConfig", {}, "llama-bpe", "Apertus-8B-Instruct.jinja", eos="<|assistant_end|>",
        pad="<pad>", bos="<s>",
        special=("<pad>", *(f"<|{role}_{end}|>" for end in ("start", "end")
                            for role in ("system", "developer", "user", "assistant")),
                 "<|inner_prefix|>", "<|inner_suffix|>", "<|tools_prefix|>", "<|tools_suffix|>"),
        renamed={"<|begin_of_text|>": "<s>", "<|end_of_text|>": "</s>"},
    ),
    "granite_4_1": Family(
        "GraniteConfig", GRANITE, "llama-bpe", "ibm-granite-granite-4.1.jinja",
        eos="<|end_of_text|>", pad="<|pad|>", bos="<|end_of_text|>",
        special=("<|start_of_role|>", "<|end_of_role|>", "<|pad|>"), plain=THINK[2:],
        tokenizer="GPT2Tokenizer",
    ),
    "nemotron_h": Family(
        "NemotronHConfig",
        {
            "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
            "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16,
            "n_groups": 2, "chunk_size": 64, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 64, "moe_shared_expert_intermediate_size": 64,
        },
        "llama-bpe", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja", eos="<|im_end|>", pad="<pad>",
        bos="<s>", special=("<pad>", *CHATML), plain=THINK,
        renamed={"<|begin_of_text|>": "<s>", "<|end_of_text|>": "</s>"},
    ),
    "falcon_h1": Family(
        "FalconH1Config",
        {
            **MAMBA, "mamba_d_ssm": 128, "mamba_n_groups": 1, "head_dim": 16,
            "lm_head_multiplier": 0.04, "embedding_multiplier": 5.6, "key_multiplier": 0.4,
            "attention_out_multiplier": 0.9, "ssm_in_multiplier": 1.25, "ssm_out_multiplier": 0.24,
            "mlp_multipliers": [0.9, 0.6], "ssm_multipliers": [0.35, 0.25, 0.18, 0.5, 0.3],
        },
        "llama-bpe", FALCON_H1, eos="<|end_of_text|>", pad="<|pad|>", stops=("<|im_end|>",),
        bos="<|begin_of_text|>", special=("<|pad|>", *CHATML),
    ),
    "glm4": Family(
        "Glm4Config", {"head_dim": 16}, "llama-bpe", "trl:glm4moe", eos="<|endoftext|>",
        pad="<|endoftext|>", stops=("<|user|>", "<|observation|>"),
        special=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        plain=THINK, renamed={"<|end_of_text|>": "<|endoftext|>"},
    ),
    "cohere2": Family(
        "Cohere2Config",
        {
            "head_dim": 16, "sliding_window": 128, "rotary_pct": 1.0, "logit_scale": 0.25,
            "num_hidden_layers": 4, "layer_types": [*["sliding_attention"] * 3, "full_attention"],
        },
        "command-r", "trl:cohere2", eos="<|END_OF_TURN_TOKEN|>", pad="<PAD>", bos="<BOS_TOKEN>",
        special=("<|START_RESPONSE|>", "<|END_RESPONSE|>"), tokenizer="CohereTokenizer",
    ),
    "seed_oss": Family(
        "SeedOssConfig", {"head_dim": 16}, "llama-bpe", "ByteDance-Seed-OSS.jinja",
        eos="<seed:eos>", pad="<seed:pad>", bos="<seed:bos>", special=("<seed:pad>",),
        plain=("<seed:think>", "</seed:think>", "<seed:cot_budget_reflect>",
               "</seed:cot_budget_reflect>", "<seed:tool_call>", "</seed:tool_call>"),
        renamed={"<|begin_of_text|>": "<seed:bos>", "<|end_of_text|>": "<seed:eos>"},
    ),
    "ernie4_5": Family(
        "Ernie4_5Config", {"head_dim": 16, "tie_word_embeddings": True}, "llama-spm", ERNIE,
        eos="</s>", pad="<unk>", bos="<s>", special=("<|end_of_sentence|>",),
        tokenizer="LlamaTokenizer",
    ),
    "exaone4": Family(
        "Exaone4Config",
        {
            "head_dim": 16, "sliding_window": 128,
            "num_hidden_layers": 4, "layer_types": [*["sliding_attention"] * 3, "full_attention"],
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 1e6, "factor": 16.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 1024},
        },
        "llama-bpe", EXAONE, eos="[|endofturn|]", pad="[PAD]", bos="[BOS]",
        special=("[|endofturn|]", "[|system|]", "[|user|]", "[|assistant|]", "[PAD]"), plain=THINK,
        renamed={"<|begin_of_text|>": "[BOS]"}, tokenizer="GPT2Tokenizer",
    ),
}  # fmt: skip
"""By name, which is the `model_type` where it has only one member here. `llama` is DeepSeek's
distillation of R1 into Llama, `llama3` Llama 3.2, `qwen2` Qwen2.5.

Stand-ins: Llama 3's vocabulary for every byte-level one that llama.cpp's folder lacks (gpt-oss,
Granite 4, SmolLM3, tekken, OLMo, LFM2, MiniCPM5, Apertus, Nemotron 3, Falcon-H1, GLM-4, Seed-OSS,
EXAONE 4), GPT-2's for Phi-4-mini, Llama 2's SentencePiece for Mistral 7B v0.3, ERNIE 4.5, Gemma 2
and Gemma 3. GLM-4 speaks with GLM-4.5's template. gpt-oss has the bounds of its YaRN rounded, as
llama.cpp rounds them: between so few dimensions that makes another model. SmolLM3, Command R7B and
EXAONE 4 have four layers, since llama.cpp takes every fourth for another kind.
"""


def make_family(name: str, folder: Path, models_folder: Path, *, seed: int = 0) -> Path:
    """Writes one family's snapshot.

    Args:
        name: one of `FAMILIES`.
        folder: where to; made where it is not there.
        models_folder: llama.cpp's `models`, with vocabularies and templates.
        seed: of the random weights.
    """
    write_snapshot(FAMILIES[name], folder, models_folder, seed)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes one family's snapshot.")
    parser.add_argument("name", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    asked = parser.parse_args()
    print(make_family(asked.name, asked.folder, asked.models))
