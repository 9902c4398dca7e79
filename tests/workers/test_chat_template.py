"""Chat templates by name: the documented text, the trained spans, the end token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from tests.conversations import example_of, row_of
from workers.data.tokenize.chat_template import (
    OWN,
    TEMPLATES,
    begins_documents,
    end_turns,
    is_one_token,
    name_of,
    render,
    replaced_end,
    set_chat_template,
    turn_end,
)
from workers.data.tokenize.encode import IGNORED, encode
from workers.data.tokenize.token_counts import TokenCounter
from workers.engines.tokenizer import load_tokenizer, read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Template
from workers.protocol.refusal import Refusal
from workers.protocol.templates import OURS

STARTER = Located("starter", assets_folder() / "starter" / "model")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And one?"},
    {"role": "assistant", "content": "Five."},
]
NAMED = list(OURS)
DOCUMENTED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nTwo and two?<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n"
    "<|im_start|>user\nAnd one?<|im_end|>\n<|im_start|>assistant\nFive.<|im_end|>\n",
    "llama-3": "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nTwo and two?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nFour.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd one?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nFive.<|eot_id|>",
    "gemma": "<bos><start_of_turn>user\nBe brief.\n\nTwo and two?<end_of_turn>\n"
    "<start_of_turn>model\nFour.<end_of_turn>\n<start_of_turn>user\nAnd one?<end_of_turn>\n"
    "<start_of_turn>model\nFive.<end_of_turn>\n",
    "mistral": "<bos>[INST] Be brief.\n\nTwo and two? [/INST] Four.<eos>"
    "[INST] And one? [/INST] Five.<eos>",
    "alpaca": "<bos>Be brief.\n\n### Instruction:\nTwo and two?\n\n### Response:\nFour.<eos>"
    "\n\n### Instruction:\nAnd one?\n\n### Response:\nFive.<eos>",
}
HEADS = {
    "chatml": "<|im_start|>assistant\n",
    "llama-3": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>model\n",
    "mistral": " [/INST]",
    "alpaca": "\n\n### Response:\n",
}
ENDS = {
    "chatml": "<|im_end|>",
    "llama-3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "mistral": "<eos>",
    "alpaca": "<eos>",
}


@pytest.fixture
def tokenizer() -> Any:
    """The starter's, with marks of sequences that are easily told from marks of turns."""
    made: Any = read_tokenizer(STARTER)
    made.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>"})
    return made


@pytest.fixture
def spoken(tokenizer: Any) -> Any:
    """One that has the token that ends an answer in every template."""
    marks = [known.end for known in TEMPLATES.values() if known.end]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


def test_every_name_of_the_recipe_has_a_template() -> None:
    assert list(TEMPLATES) == NAMED


@pytest.mark.parametrize("name", NAMED)
def test_a_conversation_reads_as_documented(spoken: Any, name: Template) -> None:
    assert set_chat_template(spoken, name) == name
    assert render(TALK, spoken) == DOCUMENTED[name]
    asked = render(TALK[:-1], spoken, generation=True)
    assert asked.endswith(HEADS[name])
    assert DOCUMENTED[name].startswith(asked)


def test_alpaca_leads_in_by_itself_where_there_is_no_system_turn(tokenizer: Any) -> None:
    set_chat_template(tokenizer, "alpaca")
    assert render(TALK[1:2], tokenizer, generation=True) == (
        "<bos>Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nTwo and two?\n\n### Response:\n"
    )


@pytest.mark.parametrize("name", NAMED)
def test_the_answers_and_their_ends_alone_are_trained(spoken: Any, name: Template) -> None:
    set_chat_template(spoken, name)
    example = example_of(TALK, spoken, 512)
    trained = spoken.decode([label for label in example.labels if label != IGNORED])
    end = ENDS[name]
    assert trained.replace(" ", "") == f"Four.{end}Five.{end}"
    assert example_of(TALK, spoken, 512, assistant_only=False).labels == example.input_ids


@pytest.mark.parametrize("name", NAMED)
def test_no_mark_of_a_sequence_is_written_where_the_model_has_none(name: Template) -> None:
    bare: Any = read_tokenizer(STARTER)
    bare.bos_token = bare.eos_token = None
    set_chat_template(bare, name)
    marks = ("<bos>", "<eos>")
    expected = DOCUMENTED[name]
    for mark in marks:
        expected = expected.replace(mark, "")
    assert render(TALK, bare) == expected


@pytest.mark.parametrize("name", ["chatml", "llama-3", "gemma"])
def test_the_models_own_token_ends_answers_where_it_lacks_the_templates(name: Template) -> None:
    """Spelt in pieces, the end would be learnt, and no generation would stop at it."""
    base: Any = read_tokenizer(STARTER)
    base.add_special_tokens({"eos_token": "<eos>"})
    end = TEMPLATES[name].end
    assert set_chat_template(base, name) == name
    replaced = "" if is_one_token(base, end) else end
    assert replaced_end(base) == replaced
    ends = turn_end(base)
    assert ends == base.convert_tokens_to_ids("<eos>" if replaced else end)
    trained = [one for one in example_of(TALK, base, 512).labels if one != IGNORED]
    assert sum(one == ends for one in trained) == 2


@pytest.mark.parametrize("name", NAMED)
def test_a_tokenizer_that_begins_texts_begins_conversations_once(
    tokenizer: Any, name: Template
) -> None:
    from tokenizers.processors import TemplateProcessing

    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", begin)]
    )
    assert begins_documents(tokenizer)
    assert set_chat_template(tokenizer, name) == name
    assert example_of(TALK, tokenizer, 512).input_ids[0] == begin
    assert example_of(TALK, tokenizer, 512).input_ids.count(begin) == 1


def test_a_template_brings_its_end_token_where_the_model_has_it(tokenizer: Any) -> None:
    set_chat_template(tokenizer, "gemma")
    end_turns(tokenizer)
    assert tokenizer.eos_token == "<eos>"  # <end_of_turn> is spelt in pieces here
    assert not is_one_token(tokenizer, "<end_of_turn>")
    set_chat_template(tokenizer, "chatml")
    end_turns(tokenizer)
    assert tokenizer.eos_token == "<|im_end|>"


def test_auto_keeps_the_models_own_and_gives_chatml_where_there_is_none(tmp_path: Path) -> None:
    own: Any = read_tokenizer(STARTER)
    kept = own.chat_template
    assert set_chat_template(own) == OWN
    assert own.chat_template == kept
    own.chat_template = None
    own.pad_token = None
    own.save_pretrained(tmp_path)
    assert load_tokenizer(Located("base", tmp_path)).chat_template == TEMPLATES["chatml"].text
    assert name_of(load_tokenizer(Located("base", tmp_path), "alpaca").chat_template) == "alpaca"
    assert load_tokenizer(Located("base", tmp_path)).pad_token == own.eos_token


def test_whatever_a_template_raises_is_a_refusal(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ 1 // (messages | length - 1) }}"
    with pytest.raises(Refusal, match="does not take this conversation"):
        render(TALK[:1], tokenizer)


def test_an_end_token_that_takes_the_line_break_behind_it_is_learnt() -> None:
    """As Phi-3's does."""
    base: Any = read_tokenizer(STARTER)
    base.add_special_tokens({"eos_token": AddedToken("<|end|>", rstrip=True, special=True)})
    base.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    )
    for messages in (TALK[1:3], TALK):
        made = encode(row_of(messages), "sft", base)
        assert [one.end[-1] for one in made] == [base.eos_token_id] * len(made)
        (counted,) = TokenCounter(base, "sft", 512).count([row_of(messages)])
        assert not isinstance(counted, str)
        assert counted.trained == sum(one.truncate(512).trained_tokens for one in made)
