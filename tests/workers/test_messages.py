"""Conversations brought to one form: tools, parts, flags, and what cannot be learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.workers.chats import CHAT, write
from workers.data.reader import read_table, serves
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal
from workers.protocol.stages import likeliest

CALL = {"id": "c1", "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}  # fmt: skip
WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "1+2?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
}


def test_tool_turns_are_kept_for_answers_to_learn_with_arguments_as_objects(tmp_path: Path) -> None:
    row = read_table(write(tmp_path / "d.jsonl", WITH_TOOLS)).rows[0]
    called = row.messages[1]
    assert called["content"] == ""
    assert called["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert row.messages[2] == {"role": "tool", "content": "3", "tool_call_id": "c1"}
    assert row.tools[0]["function"]["name"] == "add"
    serving = [stage for stage in get_args(Stage) if serves(row, stage)]
    assert serving == ["sft", "rlhf", "grpo", "distill"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+2?", "chosen": "3", "rejected": "4"},
        {"prompt": "1+2?", "completion": "3"},
        {"prompt": "1+2?", "completion": "3", "label": True},
        {"prompt": "1+2?", "answer": "3"},
        {"messages": [*WITH_TOOLS["messages"]], "label": True},
    ],
)
def test_every_shape_may_bring_tools(tmp_path: Path, row: dict[str, object]) -> None:
    for tools in (WITH_TOOLS["tools"], json.dumps(WITH_TOOLS["tools"])):
        read = read_table(write(tmp_path / "d.jsonl", row | {"tools": tools})).rows[0]
        assert read.tools == WITH_TOOLS["tools"]


def test_sharegpt_calls_become_tool_calls(tmp_path: Path) -> None:
    turns = [("human", "1+2?"), ("function_call", '{"name": "add", "arguments": {"a": 1}}'),
             ("observation", "3"), ("gpt", "It is 3.")]  # fmt: skip
    said = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    row = read_table(write(tmp_path / "d.jsonl", said)).rows[0]
    assert [turn["role"] for turn in row.messages] == ["user", "assistant", "tool", "assistant"]
    assert row.messages[1]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"role": "tool", "content": "3"}], "without having been called"),
        ([{"role": "assistant", "tool_calls": [CALL]}, {"role": "assistant", "content": "3"}],
         "does not answer"),
        ([{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}],
         "without a name"),
        ([{"role": "assistant", "content": "x", "weight": 0.5}], '"weight": 0.5'),
        ([{"role": "assistant", "content": "x", "images": ["a.png"]}], '"images"'),
        ([{"role": "assistant", "content": "x", "reasoning": ["Hm."]}], "that is no text"),
        ([{"role": "assistant", "content": "<think>Well.</think>x", "thinking": "Hm."}], "twice"),
        ([{"role": "assistant", "content": "x", "thinking": "Hm.", "reasoning": "Oh."}], "twice"),
        ([{"role": "assistant", "content": "", "reasoning": "Hm."}], "is empty"),
        ([{"role": "assistant", "content": [{"type": "image_url"}]}], "image_url"),
    ],
)  # fmt: skip
def test_turns_that_would_lose_their_meaning_are_refused(
    tmp_path: Path, turns: list[object], reason: str
) -> None:
    row = {"messages": [{"role": "user", "content": "1+2?"}, *turns]}
    with pytest.raises(Refusal, match=f"line 1: .*{reason}"):
        read_table(write(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize("key", ["text", "value"])
def test_content_in_parts_is_their_text(tmp_path: Path, key: str) -> None:
    """OpenAI's parts, and those of LLaMA-Factory's newer form."""
    parts = [{"type": "text", key: "Y"}, {"type": "text", key: "es"}]
    row = {"messages": [CHAT["messages"][0], {"role": "assistant", "content": parts}]}
    assert read_table(write(tmp_path / "d.jsonl", row)).rows[0].messages == CHAT["messages"]


THOUGHTFUL = {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    "answer",
    [
        {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "Yes", "reasoning": "Hm.", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "Yes", "thinking": "Hm.", "reasoning": None},
        {"from": "gpt", "value": "Yes", "reasoning": "Hm."},
        {"role": "assistant", "content": [{"type": "reasoning", "value": "Hm."},
                                          {"type": "text", "value": "Yes"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "text": None},
                                          {"type": "text", "text": "Yes", "thinking": None}]},
    ],
)  # fmt: skip
def test_thinking_is_kept_beside_the_content(tmp_path: Path, answer: dict[str, object]) -> None:
    """As DeepSeek, OpenRouter and gpt-oss name it; LLaMA-Factory's and Mistral's parts."""
    source = write(tmp_path / "d.jsonl", {"messages": [CHAT["messages"][0], answer]})
    assert read_table(source).rows[0].completion == [THOUGHTFUL]


def test_thinking_that_stands_in_the_content_stays_there(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "<think>Hm.</think>Yes", "reasoning": "Hm."}
    source = write(tmp_path / "d.jsonl", {"messages": [CHAT["messages"][0], answer]})
    (kept,) = read_table(source).rows[0].completion
    assert kept == {"role": "assistant", "content": "<think>Hm.</think>Yes"}


def test_a_call_of_a_tool_may_be_thought_through(tmp_path: Path) -> None:
    called = {"role": "assistant", "reasoning": "Add them.", "tool_calls": [CALL]}
    turns = [WITH_TOOLS["messages"][0], called, *WITH_TOOLS["messages"][2:]]
    row = read_table(write(tmp_path / "d.jsonl", {"messages": turns})).rows[0]
    assert row.messages[1]["reasoning_content"] == "Add them."


def test_only_answers_have_thinking(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Hi", "reasoning": "Hm."}
    with pytest.raises(Refusal, match="message 1 of the user has thinking"):
        read_table(write(tmp_path / "d.jsonl", {"messages": [asked, CHAT["messages"][1]]}))


@pytest.mark.parametrize(
    "flag",
    [
        {"train": False}, {"training": False}, {"weight": 0}, {"loss": False}, {"loss_scale": 0.0},
        {"loss_weight": 0.0}, {"weight": 0.0, "train": False},
        {"train_detail": [{"begin_offset": 0, "end_offset": 0, "train": False},
                          {"begin_offset": 1, "end_offset": 2, "train": False}]},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_a_flag_takes_out_of_the_loss_says_so(
    tmp_path: Path, flag: dict[str, object]
) -> None:
    shared = {"from": "gpt", "value": "Yes"} | flag
    for answer in (CHAT["messages"][1] | flag, shared):
        row = {"messages": [CHAT["messages"][0], answer, *WITH_TOOLS["messages"]]}
        made = read_table(write(tmp_path / "d.jsonl", row)).rows[0]
        assert made.messages[1] == {"role": "assistant", "content": "Yes", "train": False}
        assert all("train" not in turn for turn in made.messages[2:])


@pytest.mark.parametrize(
    ("flag", "train"),
    [({"train": True}, True), ({"training": 1}, True), ({"loss_weight": 1.0}, True),
     ({"weight": 1}, None), ({"loss": True}, None), ({"train": False}, None)],
)  # fmt: skip
def test_a_question_is_in_the_loss_where_a_flag_of_any_turn_asks_for_it(
    tmp_path: Path, flag: dict[str, object], train: bool | None
) -> None:
    """OpenAI's weight and ms-swift's loss are of answers alone."""
    row = {"messages": [CHAT["messages"][0] | flag, CHAT["messages"][1]]}
    made = read_table(write(tmp_path / "d.jsonl", row)).rows[0]
    assert made.messages[0].get("train") is train


def test_flags_that_ask_for_what_happens_anyway_pass(tmp_path: Path) -> None:
    user = {"role": "user", "content": "Hi", "train": False, "loss_weight": 0.0, "weight": 0}
    answer = {"role": "assistant", "content": "Yes", "train": True, "weight": 1, "loss": None,
              "loss_weight": 1.0, "images": [],
              "train_detail": [{"begin_offset": 0, "end_offset": 2, "train": True}]}  # fmt: skip
    row = {"messages": [user, answer], "images": [], "audio": None, "image": "", "videos": [None]}
    assert read_table(write(tmp_path / "d.jsonl", row)).rows[0].messages == CHAT["messages"]


@pytest.mark.parametrize("column", ["image", "images", "audio", "audios", "video", "videos"])
@pytest.mark.parametrize("value", ["a.png", ["a.png"], {"bytes": None, "path": "a.png"}])
def test_a_row_with_more_than_text_is_refused(tmp_path: Path, column: str, value: object) -> None:
    turns = [{"role": "user", "content": "<image>What is it?"}, CHAT["messages"][1]]
    rows = {"messages": turns, column: value}, {"prompt": "a", "completion": "b", column: value}
    for row in rows:
        with pytest.raises(Refusal, match=f'line 1: .*"{column}".*only text') as caught:
            read_table(write(tmp_path / "d.jsonl", row))
        assert "No row is left" in caught.value.cause


def test_a_word_for_a_picture_is_text_where_no_picture_is(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "<image> or <img> in HTML?"}, CHAT["messages"][1]]
    table = read_table(write(tmp_path / "d.jsonl", {"messages": turns, "images": None}))
    assert table.rows[0].messages == turns


def test_a_mapped_column_of_that_name_is_what_it_is_mapped_to(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", {"image": "A cat on a mat.", "said": "Nice."})
    table = read_table(source, mapping={"image": "prompt", "said": "completion"})
    assert table.rows[0].prompt == [{"role": "user", "content": "A cat on a mat."}]


def test_messages_mapped_with_a_label_are_feedback(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", {"talk": CHAT["messages"], "liked": "false"})
    table = read_table(source, mapping={"talk": "messages", "liked": "label"})
    assert (table.format, table.rows[0].label) == ("feedback", False)
    assert likeliest(table.detected.stages) == "kto"


def test_a_bad_answer_that_calls_tools_is_not_imitated(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = {"messages": CHAT["messages"], "label": False, "tools": tools}
    made = read_table(write(tmp_path / "d.jsonl", row)).rows[0]
    assert made.label is False
    assert not serves(made, "sft")
