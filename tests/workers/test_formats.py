"""Datasets read into conversations; every bad row is named by its line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from workers.data.reader import Row, inspect, read_table, serves
from workers.protocol.assets import builtin_datasets
from workers.protocol.recipe import Column, Stage
from workers.protocol.refusal import Refusal
from workers.protocol.stages import STAGES, likeliest

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}


def _write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (CHAT, "chat"),
        ({"prompt": "Hi", "completion": "Yes"}, "prompt_completion"),
        ({"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}, "prompt_completion"),
        ({"instruction": "Hi", "input": "", "output": "Yes"}, "alpaca"),
    ],
)
def test_answered_shapes_become_conversations(tmp_path: Path, row: object, shape: str) -> None:
    table = read_table(_write(tmp_path / "d.jsonl", row, row))
    assert table.format == shape
    assert [row.messages for row in table.rows] == [CHAT["messages"]] * 2


def test_an_alpaca_input_follows_its_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    table = read_table(_write(tmp_path / "d.json", json.dumps([row])))
    assert table.rows[0].prompt[0]["content"] == "Add.\n\n1 2"


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CHAT).encode() + b"\r\n\r\n")
    assert len(read_table(str(path)).rows) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not valid JSON"),
        ("[1]x", "not valid JSON"),
        ("3", "must be an object"),
        ({"txt": "x"}, "its keys are txt"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": "a"}]}, "last message must be the assistant's"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "first message must be the user's"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "the role 'bot'"),
        ({"messages": [{"role": "user", "content": " "}]}, "message 1 is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "no text content"),
        ({"messages": [*CHAT["messages"][:1] * 2, CHAT["messages"][1]]}, "take turns"),
        ({"messages": [*CHAT["messages"], {"role": "system", "content": "x"}]}, "come first"),
        ({"prompt": "a", "completion": "b"}, "where the rows before are chat"),
    ],
)
def test_a_bad_row_is_named_by_line_and_reason(tmp_path: Path, row: object, reason: str) -> None:
    source = _write(tmp_path / "d.jsonl", CHAT, CHAT, row)
    with pytest.raises(Refusal) as caught:
        read_table(source)
    assert "line 3" in caught.value.what
    assert reason in caught.value.what
    assert source in caught.value.what


@pytest.mark.parametrize(
    "row", [{"prompt": 3, "completion": "x"}, {"instruction": "x", "output": 3}]
)
def test_fields_that_are_no_text_are_named(tmp_path: Path, row: object) -> None:
    with pytest.raises(Refusal, match=r"line 1: .*must be text"):
        read_table(_write(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "holds no rows"),
        (b"\n\n", "holds no rows"),
        (b"[]", "holds no rows"),
        ("caf\u00e9".encode("latin-1"), "line 1: not UTF-8 text; it reads like Latin-1"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'[{"messages": ', "not valid JSON"),
        ('{"a": 1}'.encode("utf-16-le"), "reads like UTF-16"),
    ],
)
def test_an_unusable_file_is_refused_with_its_path(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(data)
    with pytest.raises(Refusal) as caught:
        read_table(str(path))
    assert reason in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_a_missing_dataset_is_refused() -> None:
    with pytest.raises(Refusal, match="There is no dataset at /none"):
        read_table("/none.jsonl")
    with pytest.raises(Refusal, match="no built-in dataset called 'x'"):
        read_table("builtin:x")


PROMPT, GOOD, BAD = CHAT["messages"][:1], CHAT["messages"][1:], [
    {"role": "assistant", "content": "No"}
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "shape", "expected"),
    [
        (
            {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}, "preference",
            Row(prompt=PROMPT, completion=GOOD, rejected=BAD),
        ),
        (
            {"chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}, "preference",
            Row(prompt=PROMPT, completion=GOOD, rejected=BAD),
        ),
        (
            {"prompt": PROMPT, "completion": GOOD, "label": False}, "feedback",
            Row(prompt=PROMPT, completion=GOOD, label=False),
        ),
        ({"prompt": "Hi", "answer": 42}, "prompt_answer", Row(prompt=PROMPT, answer="42")),
        ({**CHAT, "answer": "Yes"}, "chat", Row(prompt=PROMPT, completion=GOOD, answer="Yes")),
        ({"text": "Once"}, "text", Row(text="Once")),
    ],
)  # fmt: skip
def test_other_shapes_keep_what_they_say(
    tmp_path: Path, row: object, shape: str, expected: Row
) -> None:
    table = read_table(_write(tmp_path / "d.jsonl", row))
    assert (table.format, table.rows) == (shape, [expected])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"chosen": PROMPT + GOOD, "rejected": [{"role": "user", "content": "?"}, *BAD]},
         "different prompts"),
        ({"prompt": "a", "completion": "b", "label": "good"}, "must be true or false"),
        ({"prompt": "a", "answer": " "}, '"answer" is empty'),
        ({"prompt": "a", "answer": ["b"]}, "must be text or a number"),
        ({"text": ""}, '"text" must be text'),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_named(tmp_path: Path, row: object, reason: str) -> None:
    with pytest.raises(Refusal, match=f"line 1: .*{reason}"):
        read_table(_write(tmp_path / "d.jsonl", row))


ASKED = {"sft", "distill", "grpo", "rlhf"}
PAIRED = ASKED | {spec.id for spec in STAGES.values() if spec.preference}


@pytest.mark.parametrize(
    ("name", "shape", "stages"),
    [
        ("arithmetic", "chat", ASKED),
        ("arithmetic-test", "chat", ASKED),
        ("reasoning", "chat", ASKED),
        ("reasoning-test", "chat", ASKED),
        ("sums", "chat", ASKED),
        ("preferences", "preference", PAIRED),
        ("feedback", "feedback", ASKED | {"kto"}),
        ("stories", "text", {"cpt"}),
    ],
)
def test_every_built_in_set_passes_the_same_reader(name: str, shape: str, stages: set[str]) -> None:
    table = read_table(f"builtin:{name}")
    assert len(table.rows) >= 250
    assert table.format == shape
    assert {stage for stage in get_args(Stage) if serves(table.rows[0], stage)} == stages
    assert set(table.detected.stages) == stages


def test_no_built_in_set_was_forgotten() -> None:
    assert set(builtin_datasets()) == {
        "arithmetic", "arithmetic-test", "reasoning", "reasoning-test", "sums", "preferences",
        "feedback", "stories",
    }  # fmt: skip


# Published shapes: a few rows each, written by hand after the sets' documented columns

LONG = "We add the two numbers step by step. " * 5


def _turns(*said: str) -> list[dict[str, str]]:
    return [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant") * len(said), said, strict=False)
    ]


PUBLISHED: dict[str, tuple[list[dict[str, object]], str, Row, set[str]]] = {
    "FineTome-100k": (
        [{"conversations": [{"from": "system", "value": "Be brief."},
                            {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}],
          "source": "infini-instruct-top-500k", "score": 5.2}],
        "chat",
        Row(prompt=[{"role": "system", "content": "Be brief."}, *PROMPT], completion=GOOD),
        {"sft"},
    ),
    "OpenMathReasoning-mini": (
        [{"expected_answer": "3", "problem_type": "has_answer_extracted", "problem_source": "aops",
          "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.9", "problem": "1+2?",
          "generated_solution": LONG, "inference_mode": "cot"}],
        "prompt_completion",
        Row(prompt=_turns("1+2?"), completion=_turns("", LONG)[1:], answer="3"),
        {"sft", "grpo"},
    ),
    "DAPO-Math-17k-Processed": (
        [{"prompt": "1+2?", "solution": "3", "data_source": "math_dapo",
          "source_prompt": [{"role": "user", "content": "Solve: 1+2?"}], "ability": "MATH",
          "reward_model": {"ground_truth": "3", "style": "rule-lighteval/MATH_v2"},
          "extra_info": {"index": "a"}}],
        "prompt_answer", Row(prompt=_turns("1+2?"), answer="3"), {"grpo"},
    ),
    "DAPO-Math-17k": (
        [{"data_source": "math_dapo", "prompt": [{"role": "user", "content": "1+2?"}],
          "ability": "MATH", "reward_model": {"ground_truth": "3", "style": "rule"},
          "extra_info": {"index": "a"}}],
        "prompt_answer", Row(prompt=_turns("1+2?"), answer="3"), {"grpo"},
    ),
    "UltraFeedback binarized (TRL)": (
        [{"chosen": _turns("Hi", "Yes"), "rejected": _turns("Hi", "No"),
          "score_chosen": 8.0, "score_rejected": 2.0}],
        "preference", Row(prompt=PROMPT, completion=GOOD, rejected=BAD), {"dpo", "kto", "sft"},
    ),
    "UltraFeedback binarized (H4)": (
        [{"prompt": "Hi", "prompt_id": "a", "chosen": _turns("Hi", "Yes"),
          "rejected": _turns("Hi", "No"), "messages": _turns("Hi", "Yes"), "score_chosen": 8.0,
          "score_rejected": 2.0}],
        "preference", Row(prompt=PROMPT, completion=GOOD, rejected=BAD), {"dpo", "kto", "sft"},
    ),
    "HH-RLHF": (
        [{"chosen": "\n\nHuman: Hi\n\nAssistant: Yes",
          "rejected": "\n\nHuman: Hi\n\nAssistant: No"}],
        "preference", Row(prompt=PROMPT, completion=GOOD, rejected=BAD), {"dpo"},
    ),
    "Orca DPO pairs": (
        [{"system": "Be brief.", "question": "Hi", "chosen": "Yes", "rejected": "No"}],
        "preference",
        Row(prompt=[{"role": "system", "content": "Be brief."}, *PROMPT], completion=GOOD,
            rejected=BAD),
        {"dpo"},
    ),
    "ShareGPT": (
        [{"id": "x_0", "conversations": [{"from": "human", "value": "Hi"},
                                         {"from": "gpt", "value": "Yes"}]}],
        "chat", Row(prompt=PROMPT, completion=GOOD), {"sft"},
    ),
    "Alpaca": (
        [{"instruction": "Hi", "input": "", "output": "Yes", "text": "Below is an instruction"}],
        "alpaca", Row(prompt=PROMPT, completion=GOOD), {"sft"},
    ),
    "Dolly": (
        [{"instruction": "Add.", "context": "1 2", "response": "3", "category": "closed_qa"}],
        "alpaca", Row(prompt=_turns("Add.\n\n1 2"), completion=_turns("", "3")[1:]), {"sft"},
    ),
    "NuminaMath-CoT": (
        [{"source": "synthetic_math", "problem": "Hi", "solution": "Yes",
          "messages": CHAT["messages"]}],
        "chat", Row(prompt=PROMPT, completion=GOOD), {"sft"},
    ),
    "MetaMathQA": (
        [{"type": "MATH_AnsAug", "query": "Hi", "original_question": "Hi?", "response": "Yes"}],
        "prompt_completion", Row(prompt=PROMPT, completion=GOOD), {"sft"},
    ),
    "Orca-Math": (
        [{"question": "1+2?", "answer": LONG}, {"question": "1+3?", "answer": "4"}],
        "prompt_completion", Row(prompt=_turns("1+2?"), completion=_turns("", LONG)[1:]), {"sft"},
    ),
    "MATH-500": (
        [{"problem": "1+2?", "solution": LONG, "answer": "3", "subject": "Algebra", "level": 2}],
        "prompt_completion",
        Row(prompt=_turns("1+2?"), completion=_turns("", LONG)[1:], answer="3"), {"sft", "grpo"},
    ),
    "questions with short answers": (
        [{"question": "1+2?", "answer": "3"}],
        "prompt_completion",
        Row(prompt=_turns("1+2?"), completion=_turns("", "3")[1:], answer="3"), {"sft", "grpo"},
    ),
    "input and output": (
        [{"input": "Hi", "output": "Yes"}],
        "prompt_completion", Row(prompt=PROMPT, completion=GOOD), {"sft"},
    ),
    "KTO": (
        [{"prompt": _turns("Hi"), "completion": GOOD, "label": True}],
        "feedback", Row(prompt=PROMPT, completion=GOOD, label=True), {"kto"},
    ),
    "KTO as messages (LLaMA-Factory)": (
        [{"messages": _turns("Hi", "Yes"), "label": False}],
        "feedback", Row(prompt=PROMPT, completion=GOOD, label=False), {"kto"},
    ),
    "KTO as conversations": (
        [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}],
          "kto_tag": True}],
        "feedback", Row(prompt=PROMPT, completion=GOOD, label=True), {"kto", "sft"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_is_detected_without_help(tmp_path: Path, name: str) -> None:
    rows, shape, first, stages = PUBLISHED[name]
    table = read_table(_write(tmp_path / "d.jsonl", *rows))
    assert (table.format, table.rows[0]) == (shape, first)
    assert stages <= set(table.detected.stages)
    assert table.detected.why.endswith(".")
    assert inspect(table.source) == table.detected


def test_what_was_decided_is_told_with_the_columns_left_unused(tmp_path: Path) -> None:
    rows = PUBLISHED["OpenMathReasoning-mini"][0]
    found = inspect(_write(tmp_path / "d.jsonl", *rows))
    assert found.mapping == {
        "problem": "prompt", "generated_solution": "completion", "expected_answer": "answer",
    }  # fmt: skip
    assert "inference_mode" in found.unused
    assert "problem is the prompt" in found.why


# Tools

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
    row = read_table(_write(tmp_path / "d.jsonl", WITH_TOOLS)).rows[0]
    called = row.messages[1]
    assert called["content"] == ""
    assert called["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert row.messages[2] == {"role": "tool", "content": "3", "tool_call_id": "c1"}
    assert row.tools[0]["function"]["name"] == "add"
    assert [stage for stage in get_args(Stage) if serves(row, stage)] == ["sft", "distill"]


def test_sharegpt_calls_become_tool_calls(tmp_path: Path) -> None:
    turns = [("human", "1+2?"), ("function_call", '{"name": "add", "arguments": {"a": 1}}'),
             ("observation", "3"), ("gpt", "It is 3.")]  # fmt: skip
    said = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    row = read_table(_write(tmp_path / "d.jsonl", said)).rows[0]
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
        ([{"role": "assistant", "content": "x", "weight": 0}], '"weight": 0'),
        ([{"role": "assistant", "content": "x", "weight": 0.5}], '"weight": 0.5'),
        ([{"role": "assistant", "content": "x", "train": False}], '"train": false'),
        ([{"role": "assistant", "content": "x", "loss": False}], '"loss": false'),
        ([{"role": "assistant", "content": "x", "loss_weight": 0.0}], '"loss_weight": 0.0'),
        ([{"from": "gpt", "value": "x", "train": False}], '"train": false'),
        ([{"role": "assistant", "content": "x", "train_detail": [
            {"begin_offset": 0, "end_offset": 0, "train": False}]}], "train_detail"),
        ([{"role": "assistant", "content": "x"}, {"role": "user", "content": "y", "train": True},
          {"role": "assistant", "content": "z"}], 'message 3 has "train": true'),
        ([{"role": "assistant", "content": "x", "images": ["a.png"]}], '"images"'),
        ([{"role": "assistant", "content": "x", "reasoning_content": "Hm."}], "reasoning_content"),
        ([{"role": "assistant", "content": [{"type": "image_url"}]}], "image_url"),
    ],
)  # fmt: skip
def test_turns_that_would_lose_their_meaning_are_refused(
    tmp_path: Path, turns: list[object], reason: str
) -> None:
    row = {"messages": [{"role": "user", "content": "1+2?"}, *turns]}
    with pytest.raises(Refusal, match=f"line 1: .*{reason}"):
        read_table(_write(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize("key", ["text", "value"])
def test_content_in_parts_is_their_text(tmp_path: Path, key: str) -> None:
    """OpenAI's parts, and those of LLaMA-Factory's newer form."""
    parts = [{"type": "text", key: "Y"}, {"type": "text", key: "es"}]
    row = {"messages": [CHAT["messages"][0], {"role": "assistant", "content": parts}]}
    assert read_table(_write(tmp_path / "d.jsonl", row)).rows[0].messages == CHAT["messages"]


def test_flags_that_ask_for_what_happens_anyway_pass(tmp_path: Path) -> None:
    user = {"role": "user", "content": "Hi", "train": False, "loss_weight": 0.0, "weight": 0}
    answer = {"role": "assistant", "content": "Yes", "train": True, "weight": 1, "loss": None,
              "loss_weight": 1.0, "images": [],
              "train_detail": [{"begin_offset": 0, "end_offset": 2, "train": True}]}  # fmt: skip
    row = {"messages": [user, answer], "images": [], "audio": None, "image": "", "videos": [None]}
    assert read_table(_write(tmp_path / "d.jsonl", row)).rows[0].messages == CHAT["messages"]


@pytest.mark.parametrize("column", ["image", "images", "audio", "audios", "video", "videos"])
@pytest.mark.parametrize("value", ["a.png", ["a.png"], {"bytes": None, "path": "a.png"}])
def test_a_row_with_more_than_text_is_refused(tmp_path: Path, column: str, value: object) -> None:
    turns = [{"role": "user", "content": "<image>What is it?"}, CHAT["messages"][1]]
    rows = {"messages": turns, column: value}, {"prompt": "a", "completion": "b", column: value}
    for row in rows:
        with pytest.raises(Refusal, match=f'line 1: .*"{column}".*only text') as caught:
            read_table(_write(tmp_path / "d.jsonl", row))
        assert "No row is left" in caught.value.cause


def test_a_word_for_a_picture_is_text_where_no_picture_is(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "<image> or <img> in HTML?"}, CHAT["messages"][1]]
    table = read_table(_write(tmp_path / "d.jsonl", {"messages": turns, "images": None}))
    assert table.rows[0].messages == turns


def test_a_mapped_column_of_that_name_is_what_it_is_mapped_to(tmp_path: Path) -> None:
    source = _write(tmp_path / "d.jsonl", {"image": "A cat on a mat.", "said": "Nice."})
    table = read_table(source, mapping={"image": "prompt", "said": "completion"})
    assert table.rows[0].prompt == [{"role": "user", "content": "A cat on a mat."}]


def test_messages_mapped_with_a_label_are_feedback(tmp_path: Path) -> None:
    source = _write(tmp_path / "d.jsonl", {"talk": CHAT["messages"], "liked": "false"})
    table = read_table(source, mapping={"talk": "messages", "liked": "label"})
    assert (table.format, table.rows[0].label) == ("feedback", False)
    assert likeliest(table.detected.stages) == "kto"


def test_a_bad_answer_that_calls_tools_is_not_imitated(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = {"messages": CHAT["messages"], "label": False, "tools": tools}
    made = read_table(_write(tmp_path / "d.jsonl", row)).rows[0]
    assert made.label is False
    assert not serves(made, "sft")


# Mapping by hand


def test_a_mapping_takes_the_place_of_detection(tmp_path: Path) -> None:
    source = _write(
        tmp_path / "d.jsonl",
        {"ask": "Hi", "more": "there", "meta": {"said": "Yes"}, "who": "Be brief."},
    )
    table = read_table(
        source,
        mapping={"ask": "prompt", "more": "prompt", "meta.said": "completion", "who": "system"},
    )
    assert [turn["content"] for turn in table.rows[0].messages] == [
        "Be brief.",
        "Hi\n\nthere",
        "Yes",
    ]
    assert "mapping" in table.detected.why or "maps" in table.detected.why


@pytest.mark.parametrize(
    ("mapping", "what", "remedy"),
    [
        ({"question": "prompt", "b": "completion"}, "no column question", "Name one of those"),
        ({"ask": "prompt", "sayd": "completion"}, "no column sayd", "Did you mean said?"),
        ({"ask": "prompt"}, "gives no row", "completion with prompt"),
        ({"ask": "text", "said": "text"}, "both for text", "Leave all but one"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(
    tmp_path: Path, mapping: dict[str, Column], what: str, remedy: str
) -> None:
    with pytest.raises(Refusal) as caught:
        read_table(_write(tmp_path / "d.jsonl", {"ask": "Hi", "said": "Yes"}), mapping=mapping)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_a_row_without_a_mapped_column_is_named(tmp_path: Path) -> None:
    source = _write(tmp_path / "d.jsonl", {"ask": "Hi", "said": "Yes"}, {"ask": "Hi"})
    with pytest.raises(Refusal, match='line 2: "said" is missing'):
        read_table(source, mapping={"ask": "prompt", "said": "completion"})


def test_rows_may_not_change_what_a_column_is(tmp_path: Path) -> None:
    source = _write(
        tmp_path / "d.jsonl",
        {"question": "1+2?", "answer": "3"},
        {"question": "1+2?", "solution": "3"},
        {"question": "1+2?", "answer": "3", "label": True},
    )
    table = read_table(source, bad_rows="skip")
    assert [bad.line for bad in table.bad] == [2, 3]
    assert "it is feedback where the rows before are prompt_completion" in table.bad[1].reason
    assert 'no column "answer" but "solution"' in table.bad[0].reason
