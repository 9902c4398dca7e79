"""Schemas found by columns or mapped by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers.chats import BAD, CHAT, GOOD, PROMPT, write
from workers.data.reader import Row, inspect, read_table
from workers.protocol.recipe import Column
from workers.protocol.refusal import Refusal

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
    table = read_table(write(tmp_path / "d.jsonl", *rows))
    assert (table.format, table.rows[0]) == (shape, first)
    assert stages <= set(table.detected.stages)
    assert table.detected.why.endswith(".")
    assert inspect(table.source) == table.detected


def test_what_was_decided_is_told_with_the_columns_left_unused(tmp_path: Path) -> None:
    rows = PUBLISHED["OpenMathReasoning-mini"][0]
    found = inspect(write(tmp_path / "d.jsonl", *rows))
    assert found.mapping == {
        "problem": "prompt", "generated_solution": "completion", "expected_answer": "answer",
    }  # fmt: skip
    assert "inference_mode" in found.unused
    assert "problem is the prompt" in found.why


# Mapping by hand


def test_a_mapping_takes_the_place_of_detection(tmp_path: Path) -> None:
    source = write(
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
        read_table(write(tmp_path / "d.jsonl", {"ask": "Hi", "said": "Yes"}), mapping=mapping)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_a_row_without_a_mapped_column_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", {"ask": "Hi", "said": "Yes"}, {"ask": "Hi"})
    with pytest.raises(Refusal, match='line 2: "said" is missing'):
        read_table(source, mapping={"ask": "prompt", "said": "completion"})


def test_rows_may_not_change_what_a_column_is(tmp_path: Path) -> None:
    source = write(
        tmp_path / "d.jsonl",
        {"question": "1+2?", "answer": "3"},
        {"question": "1+2?", "solution": "3"},
        {"question": "1+2?", "answer": "3", "label": True},
    )
    table = read_table(source, bad_rows="skip")
    assert [bad.line for bad in table.bad] == [2, 3]
    assert "it is feedback where the rows before are prompt_completion" in table.bad[1].reason
    assert 'no column "answer" but "solution"' in table.bad[0].reason
