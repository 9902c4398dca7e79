"""Thinking beside an answer is handed to each chat template as that template reads it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from workers.data.schema.row import Row
from workers.data.tokenize.chat_template import CHATML, render, think_by_data
from workers.data.tokenize.encode import encode, fit, units
from workers.data.tokenize.reasoning import as_handed
from workers.data.tokenize.token_counts import TokenCounter
from workers.engines.tokenizer import read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Reasoning, Stage

STARTER = Located("starter", assets_folder() / "starter" / "model")
THOUGHT = {"role": "assistant", "content": "Four.", "reasoning_content": "2+2", "train": True}
TALK = [{"role": "user", "content": "Two and two?"}, THOUGHT]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return read_tokenizer(STARTER)


def shipped(name: str) -> str:
    """A template that TRL ships, without importing TRL."""
    spec: Any = find_spec("trl")
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("qwen3", "assistant\n<think>\n2+2\n</think>\n\nFour.<|im_end|>"),
        ("gptoss", "<|channel|>analysis<|message|>2+2<|end|>"),
        ("lfm2_2_5", "<think>2+2</think>Four."),
        ("glm4moe", "<think>2+2</think>\nFour."),
        ("llama3", "<think>\n2+2\n</think>\n\nFour.<|eot_id|>"),  # which reads none
    ],
)
def test_a_template_is_given_thinking_under_its_own_name(
    tokenizer: Any, name: str, shown: str
) -> None:
    tokenizer.chat_template = shipped(name)
    assert shown in render(TALK, tokenizer)


def test_thinking_as_a_part_of_the_content(tokenizer: Any) -> None:
    """As Ministral 3 reads it."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] %}{% if p['type'] == 'thinking' %}[THINK]{{ p['thinking'] }}"
        "[/THINK]{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    )
    assert render(TALK, tokenizer) == "Two and two?[THINK]2+2[/THINK]Four."


def test_a_name_in_a_comment_is_not_read(tokenizer: Any) -> None:
    tokenizer.chat_template = "{# message.reasoning, 'thinking' #}" + CHATML
    assert "<think>\n2+2\n</think>\n\nFour." in render(TALK, tokenizer)


def test_no_key_of_ours_reaches_a_template(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    _, answer = as_handed(TALK, tokenizer)
    assert answer == {"role": "assistant", "content": "<think>\n2+2\n</think>\n\nFour."}
    plain = [TALK[0], {"role": "assistant", "content": "Four."}]
    assert as_handed(plain, tokenizer) is plain


@pytest.mark.parametrize("reasoning", ["learn", "read", "drop"])
@pytest.mark.parametrize("beside", [True, False])
def test_the_audit_counts_thinking_as_it_is_trained(
    tokenizer: Any, reasoning: Reasoning, beside: bool
) -> None:
    tokenizer.chat_template = CHATML
    inline = {"role": "assistant", "content": "<think>2+2</think>Four."}
    row = Row(prompt=TALK[:1], completion=[THOUGHT if beside else inline])
    (length,) = TokenCounter(tokenizer, "sft", 1024, reasoning=reasoning).count([row])
    (encoding,) = encode(row, "sft", tokenizer, reasoning=reasoning)
    assert not isinstance(length, str)
    assert length.tokens == len(encoding.input_ids)
    assert length.trained == encoding.truncate(1024).trained_tokens
    assert ("2+2" in encoding.text) == (reasoning != "drop")


@pytest.mark.parametrize("name", ["qwen3", "gptoss"])
def test_an_empty_thought_is_no_thinking(tokenizer: Any, name: str) -> None:
    """Qwen3 writes one where it is asked not to think, and so do sets that were made with it."""
    tokenizer.chat_template = shipped(name)
    empty = {"role": "assistant", "content": "<think>\n\n</think>\n\nFour."}
    row = Row(prompt=TALK[:1], completion=[empty])
    plain = Row(prompt=TALK[:1], completion=[{"role": "assistant", "content": "Four."}])
    assert not row.thinks
    think_by_data(tokenizer, [row], "sft")
    (one,), (other,) = encode(row, "sft", tokenizer), encode(plain, "sft", tokenizer)
    assert (one.input_ids, one.labels) == (other.input_ids, other.labels)


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo", "reward"])
def test_of_answers_too_long_the_audit_counts_those_that_stay(tokenizer: Any, stage: Stage) -> None:
    """Each answer is an example of its own here, and may stay where another is left out."""
    tokenizer.chat_template = shipped("qwen3")
    longer = {"role": "assistant", "content": "A number between three and five, and no other."}
    row = Row(prompt=[*TALK, TALK[0]], completion=[longer])
    if stage != "sft":
        row = Row(prompt=TALK[:1], completion=[THOUGHT], rejected=[longer])
    encodings = encode(row, stage, tokenizer)
    for limit in (30, 50, 70, 200):
        (length,) = TokenCounter(tokenizer, stage, limit, "drop").count([row])
        left = [one for unit in units(encodings, stage) for one in fit(unit, stage, limit, "drop")]
        assert not isinstance(length, str)
        assert length.kept == sum(len(one.input_ids) for one in left)
        assert length.trained == sum(one.trained_tokens for one in left)
