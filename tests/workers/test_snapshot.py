"""What is refused by a model's config.json alone, before its weights are fetched."""

from __future__ import annotations

from typing import Any

import pytest

from workers.protocol.refusal import Refusal
from workers.snapshot import original_of, quantized_by, require_trainable

LLAMA: dict[str, Any] = {"model_type": "llama"}


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "unsloth/Qwen3-8B"),
        ("unsloth/llama-3-8b-bnb-4bit", "unsloth/llama-3-8b"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", ""),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "RedHatAI/Qwen3-8B"),
        ("mlx-community/Qwen3-8B-4bit", "mlx-community/Qwen3-8B"),
        ("unsloth/gemma-3-4b-it-GGUF", "unsloth/gemma-3-4b-it"),
        ("org/Llama-3.1-8B-Instruct", ""),
        ("org/model-3b", ""),
        ("org/dynamic-dpo", ""),
    ],
)
def test_the_name_tells_what_a_quantized_model_was_made_of(name: str, original: str) -> None:
    assert original_of(name) == original


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: mit\nbase_model: org/Whole-8B\n---\n# Text",
        "---\nbase_model:\n- org/Whole-8B\nlicense: mit\n---\n",
        '---\nbase_model: "org/Whole-8B"\n---\n',
    ],
)
def test_its_card_goes_before_its_name(card: str) -> None:
    assert original_of("other/Quant-AWQ", card) == "org/Whole-8B"


def test_a_base_model_named_in_the_text_of_a_card_is_not_its_head() -> None:
    assert original_of("a/b-AWQ", "---\nlicense: mit\n---\nbase_model: org/other\n") == "a/b"
    assert original_of("a/b-AWQ", "base_model: org/other\n") == "a/b"


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"bits": 3}, "another way"),
    ],
)
def test_quantized_weights_are_refused_with_the_originals_name(
    stored: dict[str, Any], told: str
) -> None:
    for config in (
        {**LLAMA, "quantization_config": stored},
        {"model_type": "gemma3", "text_config": {"quantization_config": stored}},
    ):
        with pytest.raises(Refusal) as refused:
            require_trainable(config, "unsloth/Some-8B-bnb-4bit")
        assert told in refused.value.what
        assert "model.base = 'unsloth/Some-8B'" in refused.value.remedy


@pytest.mark.parametrize("method", ["mxfp4", "fp8"])
def test_what_can_be_read_as_sixteen_bits_is_let_through(method: str) -> None:
    config = {"model_type": "gpt_oss", "quantization_config": {"quant_method": method}}
    assert quantized_by(config) == method
    require_trainable(config, "openai/gpt-oss-20b")


def test_a_model_with_its_own_code_is_told_so() -> None:
    config = {"model_type": "phantom", "auto_map": {"AutoConfig": "configuration.Phantom"}}
    with pytest.raises(Refusal) as refused:
        require_trainable(config, "org/phantom")
    assert "code of its own, which is never run" in refused.value.what
    assert "phantom" in refused.value.cause


def test_own_code_beside_a_known_class_is_no_matter() -> None:
    require_trainable({**LLAMA, "auto_map": {"AutoConfig": "configuration.Llama"}}, "org/known")


@pytest.mark.parametrize(
    ("config", "cause"),
    [({"model_type": "of_2031"}, "of_2031"), ({"architectures": ["X"]}, "names no model_type")],
)
def test_a_kind_that_is_not_known_is_named(config: dict[str, Any], cause: str) -> None:
    with pytest.raises(Refusal) as refused:
        require_trainable(config, "org/new")
    assert cause in refused.value.cause
    assert len(str(refused.value)) < 400
