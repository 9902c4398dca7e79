"""The shipped starter model: its size, its manners, and its skill on the held-out sets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ASSETS = Path(__file__).parents[2] / "assets"
MODEL = ASSETS / "starter" / "model"
MOST_PARAMETERS = 8_000_000
MOST_BYTES = 16_000_000
ARITHMETIC_BAND = (0.15, 0.45)
"""Share of arithmetic-test answered right, greedily, before any fine-tuning: partly, not well."""
REASONING_BAND = (0.40, 0.85)

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL, padding_side="left")


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def rows(name: str) -> list[dict[str, Any]]:
    text = (ASSETS / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def answers(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """The greedy answer to each prompt, chat tags left out."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    return tokenizer.batch_decode(
        output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )


def share_right(model: Any, tokenizer: Any, name: str) -> float:
    asked = rows(name)
    given = answers(model, tokenizer, [row["prompt"] for row in asked])
    boxes = [re.findall(r"\\boxed\{([^}]*)\}", text) for text in given]
    right = [box[-1:] == [row["answer"]] for box, row in zip(boxes, asked, strict=True)]
    return sum(right) / len(right)


def test_it_is_small(model: Any) -> None:
    assert model.num_parameters() <= MOST_PARAMETERS
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= MOST_BYTES
    assert model.config.model_type == "llama"


def test_its_vocabulary_fits_and_keeps_digits_apart(model: Any, tokenizer: Any) -> None:
    assert 1000 <= len(tokenizer) == model.config.vocab_size <= 4096
    assert not [token for token in tokenizer.get_vocab() if re.search(r"\d.*\d", token)
                and not token.startswith("<0x")]  # fmt: skip
    assert not (MODEL / "tokenizer.model").exists()


def test_end_of_turn_is_not_padding(model: Any, tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for settings in (model.config, model.generation_config):
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id


def test_tags_are_single_tokens_and_stay_in_the_text(tokenizer: Any) -> None:
    for tag in ("<think>", "</think>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer(tag, add_special_tokens=False)["input_ids"]) == 1
    text = "<think>7+5=12</think>\\boxed{12}"
    ids = tokenizer(text + "<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_template_takes_an_optional_system_turn(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Hi"}]
    plain = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    chat = [{"role": "system", "content": "Be brief."}, *chat]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )


def test_it_partly_knows_sums(model: Any, tokenizer: Any) -> None:
    low, high = ARITHMETIC_BAND
    assert low <= share_right(model, tokenizer, "arithmetic-test") <= high


def test_it_partly_knows_the_other_skills(model: Any, tokenizer: Any) -> None:
    low, high = REASONING_BAND
    assert low <= share_right(model, tokenizer, "reasoning-test") <= high


def test_it_says_who_it_is(model: Any, tokenizer: Any) -> None:
    greeting, who = answers(model, tokenizer, ["Hello!", "Who are you?"])
    assert greeting == "Hello! How can I help you?"
    assert who.startswith("I am the starter model of Finetune Studio")
