"""Datasets read into rows; every bad row is named by its line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.workers.chats import BAD, CHAT, GOOD, PROMPT, write
from workers.data.reader import Row, read_table, serves
from workers.protocol.assets import builtin_datasets
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal
from workers.protocol.stages import STAGES


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
    table = read_table(write(tmp_path / "d.jsonl", row, row))
    assert table.format == shape
    assert [row.messages for row in table.rows] == [CHAT["messages"]] * 2


def test_an_alpaca_input_follows_its_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    table = read_table(write(tmp_path / "d.json", json.dumps([row])))
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
    source = write(tmp_path / "d.jsonl", CHAT, CHAT, row)
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
        read_table(write(tmp_path / "d.jsonl", row))


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
    table = read_table(write(tmp_path / "d.jsonl", row))
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
        read_table(write(tmp_path / "d.jsonl", row))


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
