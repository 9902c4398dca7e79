"""What a model said as rewards read it: thinking in one form, whoever marks and opens it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workers.test_reasoning import STARTER, shipped
from workers.answers import final_answer, is_right
from workers.data.reader import Row
from workers.data.schema.messages import Message
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.completion import answer_turn, completion_text, cut_while_thinking
from workers.data.tokenize.encode import encode
from workers.data.tokenize.template_head import with_defaults
from workers.engines.tokenizer import read_tokenizer
from workers.protocol.recipe import Stage
from workers.rewards.form import tag_share

ASKED: list[Message] = [{"role": "user", "content": "Two and two?"}]
HARMONY = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>")


@pytest.fixture
def tokenizer() -> Any:
    return read_tokenizer(STARTER)


def said(text: str, tokenizer: Any, **modes: Any) -> str:
    """What a completion that reads so in tokens comes to."""
    prompt = render(ASKED, tokenizer, generation=True, **modes)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return completion_text(ids, prompt, tokenizer)


def test_a_thought_that_the_prompt_opened_is_restored(tokenizer: Any) -> None:
    own = shipped("qwen3_5_think")
    tokenizer.chat_template = own
    text = said("2+2\n</think>\n\n4<|im_end|>", tokenizer)
    assert text == "<think>\n2+2\n</think>\n\n4"
    assert tag_share(text, ["think"]) == 1
    tokenizer.chat_template = with_defaults(own, "off")
    assert said("4<|im_end|>", tokenizer) == "4"


def test_a_thought_that_the_model_opens_stays_as_it_is(tokenizer: Any) -> None:
    tokenizer.chat_template = shipped("qwen3")
    text = "<think>\n2+2\n</think>\n\n4"
    assert said(f"{text}<|im_end|>", tokenizer) == text


def test_thinking_stays_where_its_marks_are_special_tokens(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    text = "<think>\n2+2\n</think>\n\n4"
    tokenizer.chat_template = shipped("qwen3")
    assert said(f"{text}<|im_end|>", tokenizer) == text
    tokenizer.chat_template = shipped("nemotron_3_nano")  # which opens it in the prompt
    assert said(text.removeprefix("<think>\n"), tokenizer) == text


def test_channels_come_out_as_thinking_and_answer(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": list(HARMONY)})
    tokenizer.chat_template = shipped("gptoss")
    thought = "<|channel|>analysis<|message|>2+2"
    answer = "<|channel|>final<|message|>4<|return|>"
    whole = said(f"{thought}<|end|><|start|>assistant{answer}", tokenizer)
    assert whole == "<think>\n2+2\n</think>\n\n4"
    assert said(answer, tokenizer) == "4"
    assert said(thought, tokenizer) == "<think>\n2+2"
    turn = answer_turn(whole, tokenizer)
    assert (turn["reasoning_content"], turn["content"]) == ("2+2", "4")
    assert f"{thought}<|end|>" in render([*ASKED, turn], tokenizer)


def test_an_unfinished_thought_is_no_answer() -> None:
    assert final_answer("<think>\n2+2\n4") is None
    assert not is_right("<think>\n2+2\n4", "4")
    assert is_right("<think>\n2+2\n</think>\n\n4", "4")
    assert cut_while_thinking("<think>\n2+2", truncated=True)
    assert not cut_while_thinking("<think>\n2+2", truncated=False)
    assert not cut_while_thinking("<think>2+2</think>4", truncated=True)


@pytest.mark.parametrize(
    "stage", ["sft", "dpo", "orpo", "kto", "reward", "rlhf", "grpo", "distill"]
)
def test_tools_stand_in_the_prompt_of_every_stage(tokenizer: Any, stage: Stage) -> None:
    tokenizer.chat_template = shipped("qwen3")
    answer: Message = {"role": "assistant", "content": "Four."}
    other: Message = {"role": "assistant", "content": "Five."}
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    row = Row(prompt=ASKED, completion=[answer], rejected=[other], tools=tools)
    encodings = encode(row, stage, tokenizer)
    assert encodings
    assert all('"name": "add"' in one.text for one in encodings)
