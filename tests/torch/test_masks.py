"""Only the assistant's tokens are trained: proven on real token ids."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conversations import example_of, row_of
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.encode import IGNORED, encode

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 12 + 34?"},
    {"role": "assistant", "content": "It is 46."},
    {"role": "user", "content": "And 1 + 1?"},
    {"role": "assistant", "content": "2"},
]


def _trained(example: Any, tokenizer: Any) -> str:
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


def test_exactly_the_answers_and_their_ends_are_trained(tokenizer: Any) -> None:
    example = example_of(TALK, tokenizer, max_length=512)
    assert _trained(example, tokenizer) == "It is 46.<|im_end|>2<|im_end|>"
    assert tokenizer.decode(example.input_ids) == render(TALK, tokenizer)
    for given, label in zip(example.input_ids, example.labels, strict=True):
        assert label in (IGNORED, given)


def test_the_ids_are_those_of_the_template_itself(tokenizer: Any) -> None:
    ids = tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False)
    assert example_of(TALK, tokenizer, 512).input_ids == ids


def test_the_prompt_ids_are_those_that_the_model_sees_when_it_speaks(tokenizer: Any) -> None:
    example = example_of(TALK, tokenizer, 512)
    prompt = tokenizer(render(TALK[:4], tokenizer, generation=True), add_special_tokens=False)
    assert example.input_ids[: len(prompt["input_ids"])] == prompt["input_ids"]


def test_all_tokens_are_trained_when_asked(tokenizer: Any) -> None:
    example = example_of(TALK, tokenizer, 512, assistant_only=False)
    assert example.labels == example.input_ids


def test_a_cut_example_says_so_and_may_have_nothing_left(tokenizer: Any) -> None:
    example = example_of(TALK, tokenizer, max_length=10)
    assert example.truncated
    assert len(example.input_ids) == len(example.labels) == 10
    assert example.trained_tokens == 0


def test_a_template_that_rewrites_earlier_turns_is_learnt_answer_by_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.last or m.role == 'user' %}{{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}"
    )
    made = encode(row_of(TALK), "sft", tokenizer)
    assert [_trained(one, tokenizer) for one in made] == ["It is 46.<|im_end|>", "2<|im_end|>"]
    assert [one.text for one in made] == [
        "What is 12 + 34?<|im_end|>It is 46.<|im_end|>",
        "What is 12 + 34?<|im_end|>And 1 + 1?<|im_end|>2<|im_end|>",
    ]
    assert [one.mask_source for one in made] == ["per answer"] * 2


def test_the_end_of_turn_is_trained_though_a_line_break_follows_it(tokenizer: Any) -> None:
    example = example_of(TALK[:3], tokenizer, 512)
    last = max(i for i, label in enumerate(example.labels) if label != IGNORED)
    assert example.labels[last] == tokenizer.eos_token_id
    assert tokenizer.decode(example.input_ids[last + 1 :]) == "\n"


def test_the_loss_is_the_mean_over_trained_tokens(tiny: Any, tokenizer: Any) -> None:
    """-(1 / sum m) sum m log p, computed by hand, equals the model's own loss on these labels."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    example = example_of(TALK, tokenizer, 512)
    ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels)
    log_p = torch.log_softmax(out.logits[0, :-1].double(), dim=-1)
    target = labels[0, 1:]
    mask = (target != IGNORED).double()
    picked = log_p.gather(1, target.clamp(min=0)[:, None])[:, 0]
    by_hand = -(mask * picked).sum() / mask.sum()
    assert float(out.loss) == pytest.approx(float(by_hand), abs=1e-5)
