"""The shipped starter model: its size, its manners, and its skill on the held-out sets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers.answers import is_right

ASSETS = Path(__file__).parents[2] / "assets"
MODEL = ASSETS / "starter" / "model"
MOST_PARAMETERS = 8_000_000
MOST_BYTES = 16_000_000
ARITHMETIC_BAND = (0.0, 0.15)
"""Share of arithmetic-test answered right, greedily: in one go, and so mostly wrong (0.04)."""
SAMPLED_BAND = (0.10, 0.30)
"""The same, sampled: now and then it writes the sum down, and is mostly right (0.18)."""
WRITTEN_DOWN_BAND = (0.55, 0.90)
"""Of the sampled answers that are written down in columns, the share that is right (0.70)."""
REASONING_BAND = (0.30, 0.60)

# One process makes the fixtures.
pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("starter")]


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


Say = Callable[..., list[str]]


@pytest.fixture(scope="module")
def say(model: Any, tokenizer: Any) -> Say:
    """The model's answers to questions, greedy unless a temperature is given."""
    import torch

    from workers.evaluate import Generator

    def answers(questions: list[str], temperature: float = 0.0) -> list[str]:
        torch.manual_seed(0)
        prompts = [[{"role": "user", "content": question}] for question in questions]
        generator = Generator(model, tokenizer, "cpu", torch.float32)
        return [one.text for one in generator.complete(prompts, 64, temperature)]

    return answers


def share_right(given: list[str], asked: list[dict[str, Any]]) -> float:
    right = [is_right(text, row["answer"]) for text, row in zip(given, asked, strict=True)]
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


def test_it_is_hasty_with_sums(say: Say) -> None:
    asked = rows("arithmetic-test")
    low, high = ARITHMETIC_BAND
    assert low <= share_right(say([row["prompt"] for row in asked]), asked) <= high


def test_it_knows_sums_where_it_writes_them_down(say: Say) -> None:
    asked = rows("arithmetic-test")
    given = say([row["prompt"] for row in asked], 1.0)
    low, high = SAMPLED_BAND
    assert low <= share_right(given, asked) <= high
    written = [
        (text, row)
        for text, row in zip(given, asked, strict=True)
        if re.match(r"<think>\d+[-+]\d+: ", text)
    ]
    low, high = WRITTEN_DOWN_BAND
    assert len(written) >= 30
    assert low <= share_right(*map(list, zip(*written, strict=True))) <= high


def test_it_partly_knows_the_other_skills(say: Say) -> None:
    asked = rows("reasoning-test")
    low, high = REASONING_BAND
    assert low <= share_right(say([row["prompt"] for row in asked]), asked) <= high


def test_it_says_who_it_is(say: Say) -> None:
    greeting, who = say(["Hello!", "Who are you?"])
    assert greeting == "Hello! How can I help you?"
    assert who.startswith("I am the starter model of Finetune Studio")
