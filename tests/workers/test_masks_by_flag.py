"""Which turns and which thinking are in the loss, as row and recipe ask."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.conversations import row_of
from tests.fakes.templates import template_paths, tokenizer_for
from workers.data.schema.row import Row
from workers.data.tokenize.chat_template import end_turns
from workers.data.tokenize.encode import IGNORED, Encoding, encode
from workers.data.tokenize.template_head import with_defaults
from workers.data.tokenize.token_counts import TokenCounter
from workers.data.tokenize.token_view import TokenViewer
from workers.engines.tokenizer import load_tokenizer, read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

STARTER = Located("starter", assets_folder() / "starter" / "model")


def tokenizer_of(name: str, thinking: Any = "off") -> Any:
    text = template_paths(Path())[f"trl:{name}"].read_text()
    made = tokenizer_for(f"trl:{name}", text)
    made.chat_template = with_defaults(made.chat_template, thinking)
    return made


def turns(*said: str, **flags: Any) -> list[dict[str, Any]]:
    """Turns of the user and the assistant; flags by number, as `turn_2=False`."""
    roles = itertools.cycle(("user", "assistant"))
    made: list[dict[str, Any]] = [
        {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
    ]
    for name, trained in flags.items():
        made[int(name.removeprefix("turn_"))]["train"] = trained
    return made


def trained(encoding: Encoding, tokenizer: Any) -> str:
    return tokenizer.decode([one for one in encoding.labels if one != IGNORED])


TALK = ("Who?", "First answer.", "Why?", "Second answer.")


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "deepseek_r1_distill"])
def test_an_answer_whose_flag_says_so_is_masked(name: str) -> None:
    tokenizer = tokenizer_of(name)
    (made,) = encode(row_of(turns(*TALK, turn_1=False)), "sft", tokenizer)
    assert "Second answer." in trained(made, tokenizer)
    assert "First answer." not in trained(made, tokenizer)
    assert "First answer." in made.text


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
def test_a_question_whose_flag_says_so_is_learnt(name: str) -> None:
    tokenizer = tokenizer_of(name)
    made = encode(row_of(turns(*TALK, turn_2=True)), "sft", tokenizer)
    learnt = "".join(trained(one, tokenizer) for one in made)
    assert learnt.count("Why?<|im_end|>") == 1
    assert learnt.count("First answer.<|im_end|>") == learnt.count("Second answer.<|im_end|>") == 1
    assert "Who?" not in learnt
    row = row_of(turns(*TALK, turn_2=True))
    (count,) = TokenCounter(tokenizer, "sft", 512).count([row])
    assert not isinstance(count, str)
    assert count.trained == sum(label != IGNORED for one in made for label in one.labels)


def test_flags_that_cannot_be_followed_are_refused_with_the_reason() -> None:
    tokenizer = tokenizer_of("qwen2_5")
    twice = turns("Why?", "First answer.", "Why?", "Second answer.", turn_2=True)
    with pytest.raises(Refusal, match="cannot be told apart"):
        encode(row_of(twice), "sft", tokenizer)
    none = turns(*TALK, turn_1=False, turn_3=False)
    with pytest.raises(Refusal, match="No turn of this row is to be trained"):
        encode(row_of(none), "sft", tokenizer)


THOUGHT = [*turns("Who?"), {"role": "assistant", "content": "An answer.",
                            "reasoning_content": "A thought."}]  # fmt: skip
INLINE = turns("Who?", "<think>A thought.</think>An answer.")


@pytest.mark.parametrize("messages", [THOUGHT, INLINE], ids=["beside", "inline"])
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "gemma4", "deepseek_r1_distill", "gptoss"])
def test_thinking_is_learnt_read_or_dropped(name: str, messages: list[dict[str, Any]]) -> None:
    tokenizer = tokenizer_of(name, "on" if name in ("qwen3", "gemma4") else "auto")
    row = row_of(messages)
    (learnt,), (read,), (dropped,) = (
        encode(row, "sft", tokenizer, reasoning=way) for way in ("learn", "read", "drop")
    )
    assert "A thought." in trained(learnt, tokenizer)
    assert learnt.input_ids == read.input_ids
    assert "A thought." not in trained(read, tokenizer)
    assert trained(read, tokenizer).startswith("An answer.")
    assert "A thought." not in dropped.text
    for one in (learnt, read, dropped):
        assert trained(one, tokenizer).endswith(f"An answer.{tokenizer.eos_token}")


def test_the_view_shows_each_answer_its_thinking_and_how_it_was_masked() -> None:
    tokenizer = tokenizer_for("trl:qwen3", template_paths(Path())["trl:qwen3"].read_text())
    talk = [*THOUGHT, *turns("Why?"), {"role": "assistant", "content": "Another.",
                                       "reasoning_content": "A second one."}]  # fmt: skip
    first, second = TokenViewer(tokenizer, thought=True).views(row_of(talk), 0, "sft", 512)
    assert [first.title, second.title] == ["answer 1 of 2", "answer 2 of 2"]
    assert "behind the prompt" in first.mask
    thinking = "".join(piece.text for piece in second.pieces if piece.thinking)
    assert thinking == "<think>\nA second one.\n</think>\n\n"
    assert "A thought." not in "".join(piece.text for piece in second.pieces)
    (whole,) = TokenViewer(read_tokenizer(STARTER)).views(row_of(turns(*TALK)), 0, "sft", 512)
    assert "whole conversation" in whole.mask
    assert whole.title == ""


def test_a_template_that_marks_answers_says_where_they_end() -> None:
    tokenizer = tokenizer_of("qwen2_5")
    text = template_paths(Path())["trl:qwen2_5"].with_name("qwen2_5_training.jinja").read_text()
    tokenizer.chat_template = text
    (made,) = encode(row_of(turns(*TALK)), "sft", tokenizer)
    assert made.mask_source == "generation"
    assert trained(made, tokenizer).split() == [
        "First", "answer.<|im_end|>", "Second", "answer.<|im_end|>",
    ]  # fmt: skip


def test_a_prompt_keeps_its_own_tokens_where_an_answer_follows() -> None:
    """GPT-2's tokenizer parts two line breaks where a letter follows, as no prompt has it."""
    from tokenizers import pre_tokenizers

    tokenizer = tokenizer_of("llama3_2")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    row = row_of(turns(*TALK))
    first, second = encode(row, "sft", tokenizer)
    for made, until in ((first, 1), (second, 3)):
        asked = tokenizer.apply_chat_template(
            row.messages[:until], add_generation_prompt=True, return_dict=False
        )
        assert made.input_ids[: len(asked)] == asked
        assert made.labels[len(asked) - 1] == IGNORED
        assert made.labels[len(asked)] != IGNORED
    (count,) = TokenCounter(tokenizer, "sft", 512).count([row])
    assert not isinstance(count, str)
    assert count.tokens == len(first.input_ids) + len(second.input_ids)


@pytest.mark.parametrize("name", ["qwen3", "gemma4"])
def test_a_saved_tokenizer_masks_as_the_run_did(tmp_path: Path, name: str) -> None:
    """A chain goes on with what the stage before has saved, its switch and its end of turn too."""
    tokenizer = tokenizer_of(name, "on")
    end_turns(tokenizer)
    rows = [row_of([*THOUGHT, *turns("Why?", "Another.")]), row_of(THOUGHT)]
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(Located("run:before", tmp_path))
    pair = Row(prompt=THOUGHT[:1], completion=THOUGHT[1:], rejected=turns("", "No.")[1:])
    asked: list[tuple[Stage, Row]] = [("sft", rows[0]), ("sft", rows[1]), ("dpo", pair)]
    for stage, row in asked:
        before, after = (encode(row, stage, one) for one in (tokenizer, again))
        assert [(one.input_ids, one.labels) for one in after] == [
            (one.input_ids, one.labels) for one in before
        ]
