"""A row as the model will see it: tokens as trained, and where template, model and row disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conversations import example_of
from tests.workers.opened import ROWS, Open
from workers.data.reader import Row
from workers.data.tokenize.chat_template import CHATML
from workers.data.tokenize.encode import IGNORED, encode
from workers.data.tokenize.token_view import TokenViewer
from workers.engines.tokenizer import read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder
from workers.protocol.browse import LONGEST_SHOWN, TokenView

STARTER = Located("starter", assets_folder() / "starter" / "model")
PAIR = {"prompt": "Say it.", "chosen": "Well said.", "rejected": "No."}


@pytest.fixture
def tokenizer() -> Any:
    return read_tokenizer(STARTER)


def trained(view: TokenView) -> str:
    return "".join(piece.text for piece in view.pieces if piece.trained)


def test_tokens_are_those_of_training(opened: Open, tokenizer: Any) -> None:
    view = opened(ROWS).view(3)
    turns = [
        {"role": "user", "content": ROWS[3]["prompt"]},
        {"role": "assistant", "content": ROWS[3]["completion"]},
    ]
    example = example_of(turns, tokenizer, 1024)
    assert [piece.trained for piece in view.pieces] == [one != IGNORED for one in example.labels]
    assert (view.tokens, view.trained) == (len(example.input_ids), example.trained_tokens)
    text = "".join(piece.text for piece in view.pieces)
    assert text == tokenizer.apply_chat_template(turns, tokenize=False)
    assert trained(view) == "It is 4: ü, 数.<|im_end|>"
    assert [piece.text for piece in view.pieces if piece.special] == [
        "<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    assert (view.template, view.warnings, view.truncated_at, view.title) == ("own", [], None, "")


def test_a_letter_of_several_tokens_stands_in_one_piece(opened: Open) -> None:
    view = opened([{"prompt": "a", "completion": "🦊🦊 é"}]).view()
    texts = [piece.text for piece in view.pieces if piece.trained]
    assert "".join(texts) == "🦊🦊 é<|im_end|>"
    assert "" in texts
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)


def test_a_pair_has_two_views(opened: Open) -> None:
    shown = opened([PAIR]).tokens(0)
    assert [view.title for view in shown.views] == ["chosen", "rejected"]
    assert [trained(view) for view in shown.views] == [
        "Well said.<|im_end|>\n", "No.<|im_end|>\n",
    ]  # fmt: skip
    assert [view.warnings for view in shown.views] == [[], []]
    look = opened([PAIR])
    assert [view.title for view in look.tokens(0, stage="sft").views] == [""]


def test_only_the_last_answer_of_a_pair_is_learnt(opened: Open) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
             {"role": "user", "content": "c"}]  # fmt: skip
    pair = {"prompt": turns, "chosen": "d", "rejected": "e"}
    assert [trained(view)[0] for view in opened([pair]).tokens(0).views] == ["d", "e"]
    chat = {"messages": [*turns, {"role": "assistant", "content": "d"}]}
    assert trained(opened([chat], "c.jsonl").view()) == "b<|im_end|>d<|im_end|>"


def test_a_prompt_with_an_answer_shows_the_head_and_trains_nothing(opened: Open) -> None:
    look = opened([{"prompt": "Two and two?", "answer": 4}])
    view = look.view()
    assert (view.trained, trained(view)) == (0, "")
    assert "".join(piece.text for piece in view.pieces).endswith("<|im_start|>assistant\n")
    assert view.warnings == []
    assert look.view(max_length=3).warnings == [
        "The prompt is longer than 3 tokens: the row is left out."
    ]


def test_plain_text_is_learnt_whole_with_its_end(opened: Open, tokenizer: Any) -> None:
    view = opened([{"text": "Once upon a time."}]).view()
    assert all(piece.trained for piece in view.pieces)
    assert trained(view) == "Once upon a time.<|im_end|>"
    assert view.pieces[-1].special
    assert view.template == ""
    assert view.tokens == len(encode(Row(text="Once upon a time."), "cpt", tokenizer)[0].input_ids)


def test_what_lies_behind_the_cut_is_shown_and_told(opened: Open) -> None:
    look = opened(ROWS)
    whole = look.view()
    cut = look.view(max_length=whole.tokens - 4, too_long="cut")
    assert (cut.tokens, cut.truncated_at) == (whole.tokens, whole.tokens - 4)
    assert cut.trained < whole.trained
    assert any("is truncated: its last 3 tokens" in told for told in cut.warnings)
    dropped = look.view(max_length=whole.tokens - 4)
    assert (dropped.trained, dropped.truncated_at) == (0, whole.tokens - 4)
    assert (
        f"An answer does not fit into {whole.tokens - 4} tokens: the row is left out."
        in dropped.warnings
    )
    none = look.view(max_length=5)
    assert (none.trained, none.truncated_at) == (0, 5)
    assert any("No token of this row is in the loss" in told for told in none.warnings)


def test_a_pair_that_a_reward_model_leaves_out_says_so(opened: Open) -> None:
    look = opened([PAIR | {"chosen": "Well said. " * 9}])
    whole = look.tokens(0, stage="reward").views
    limit = whole[1].tokens
    views = look.tokens(0, stage="reward", max_length=limit).views
    assert [view.trained for view in views] == [0, 0]
    for view in views:
        assert f"The pair is longer than {limit} tokens: the row is left out." in view.warnings
    assert all(view.trained for view in look.tokens(0, stage="dpo", max_length=limit,
                                                   too_long="cut").views)  # fmt: skip


def test_long_rows_are_shown_up_to_a_bound(opened: Open) -> None:
    view = opened([{"text": "word " * 9000}]).view()
    assert len(view.pieces) == LONGEST_SHOWN < view.tokens


def test_an_edited_row_is_shown_before_it_is_saved(opened: Open) -> None:
    look = opened(ROWS)
    edited = json.dumps({"prompt": "Who?", "completion": "Me."})
    assert trained(look.view(text=edited)) == "Me.<|im_end|>"
    assert "cut off" in look.tokens(0, text='{"prompt').reason
    assert look.tokens(0, text='{"prompt": "Who?"}').reason


def test_what_cannot_be_shown_has_a_reason(opened: Open) -> None:
    look = opened([*ROWS[:2], {"prompt": 1, "completion": "x"}])
    assert '"prompt" must be text' in look.tokens(2).reason
    assert "no row number 9" in look.tokens(9).reason
    assert "Stage dpo cannot learn" in look.tokens(0, stage="dpo").reason
    assert "no stage 'nix'" in look.tokens(0, stage="nix").reason
    assert "no chat template 'nix'" in look.tokens(0, template="nix").reason
    assert "no base model at" in look.tokens(0, model="/nowhere").reason


def test_another_template_is_told_to_differ(opened: Open) -> None:
    look = opened(ROWS)
    view = look.view(template="llama-3")
    assert view.template == "llama-3"
    assert trained(view) == "It is 1: ü, 数.<|im_end|>"  # <|eot_id|> is no token of the starter
    assert any("otherwise than the model's own" in told for told in view.warnings)
    assert any("<|eot_id|> is no token of this model" in told for told in view.warnings)
    assert not any("would never stop" in told for told in view.warnings)
    same = look.view(template="chatml")
    assert (same.template, same.warnings) == ("chatml", [])


def chat(*turns: tuple[str, str]) -> Row:
    made = [{"role": role, "content": content} for role, content in turns]
    return Row(prompt=made[:-1], completion=made[-1:])


TALK = chat(("user", "Hi."), ("assistant", "Hello."))


def warned(tokenizer: Any, row: Row = TALK, **more: Any) -> list[str]:
    return TokenViewer(tokenizer, **more).views(row, 0, "sft", 1024)[0].warnings


def test_a_base_model_without_a_template_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert warned(tokenizer) == ["The model has no chat template of its own, so ChatML is used."]


def test_a_masked_or_unknown_end_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "")
    assert any("would never stop" in told for told in warned(tokenizer))
    tokenizer.chat_template = CHATML.replace("<|im_end|>", " Over.<|im_start|>")
    assert any("ends with <|im_start|>" in told for told in warned(tokenizer))
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert warned(tokenizer, stops_at=[start]) == []
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|im_start|>")
    assert warned(tokenizer) == []  # generation is made to stop at it


def test_a_template_that_leaves_turns_out_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for message in messages if message.role != 'system' %}" + (
        CHATML.removeprefix("{% for message in messages %}")
    )
    row = chat(("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."))
    assert warned(tokenizer, row) == ["The template leaves out or changes the system message."]


def test_marks_of_a_template_in_the_text_are_told(tokenizer: Any) -> None:
    row = chat(("user", "[INST] Hi. [/INST]"), ("assistant", "Hello."))
    assert any("marks of a chat template (Llama 2)" in told for told in warned(tokenizer, row))


def test_tools_that_a_template_leaves_out_are_refused_as_in_training(opened: Open) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    turns: list[Any] = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "One."},
    ]
    assert "leaves out tools" in opened([{"messages": turns}]).tokens(0).reason
