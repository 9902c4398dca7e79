"""Rows as other trainers and the hub's sets have them, by hand after their published descriptions:
each is read right, or refused by name.

LLaMA-Factory data/README.md and src/llamafactory/v1; Axolotl docs/dataset-formats; ms-swift
docs/source_en/Customization/Custom-dataset.md; TRL docs/source/dataset_formats.md; OpenAI's
fine-tuning guides (supervised, direct preference, reinforcement); the cards of the sets named.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.workers.chats import BAD, CHAT, GOOD, PROMPT, write
from workers.data.read.fault import RowFault
from workers.data.reader import Row, read_table
from workers.data.schema.messages import ROLES
from workers.data.schema.parser import RowParser
from workers.data.schema.row import Segment
from workers.protocol.refusal import Refusal
from workers.protocol.stages import likeliest


def turns(*said: str, system: str = "") -> list[dict[str, Any]]:
    """Question and answer in turn, behind an optional system's text."""
    first = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant") * len(said)
    return first + [
        {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
    ]


def shared(*said: tuple[str, str]) -> list[dict[str, Any]]:
    """Turns as ShareGPT has them."""
    return [{"from": who, "value": text} for who, text in said]


def call(name: str = "add", **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def parts(text: str, kind: str = "text") -> list[dict[str, str]]:
    """Content as LLaMA-Factory's newer form has it."""
    return [{"type": kind, "value": text}]


ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}  # fmt: skip
BARE = ADD["function"]
ASKED, TALK = turns("1+2?"), turns("Hi", "Yes", "1+2?")
CALLED = {"role": "assistant", "content": "", "tool_calls": [call(a=1)]}
GAVE, SAID = {"role": "tool", "content": "3"}, {"role": "assistant", "content": "It is 3."}
WITH_TOOLS = Row(prompt=[*ASKED, CALLED, GAVE], completion=[SAID], tools=[ADD])
LED = turns("Hi", system="Be brief.")


class Shape(NamedTuple):
    row: dict[str, Any]
    schema: str
    first: Row
    stage: str
    """The likeliest one."""


PAIR = Row(prompt=PROMPT, completion=GOOD, rejected=BAD)
KTO = Row(prompt=PROMPT, completion=GOOD, label=True)

SHAPES: dict[str, Shape] = {
    # LLaMA-Factory
    "LLaMA-Factory: Alpaca with system and history": Shape(
        {"instruction": "1+2?", "input": "", "output": "3", "system": "Be brief.",
         "history": [["Hi", "Yes"], ["And?", "So."]]}, "alpaca",
        Row(prompt=turns("Hi", "Yes", "And?", "So.", "1+2?", system="Be brief."),
            completion=turns("", "3")[1:]), "sft",
    ),
    "LLaMA-Factory: an empty history": Shape(
        {"instruction": "Hi", "input": "", "output": "Yes", "history": []}, "alpaca",
        Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "LLaMA-Factory: Alpaca ranking": Shape(
        {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4"}, "preference",
        Row(prompt=turns("Add.\n\n1 2"), completion=turns("", "3")[1:],
            rejected=turns("", "4")[1:]), "dpo",
    ),
    "LLaMA-Factory: ShareGPT with tools": Shape(
        {"conversations": shared(("human", "1+2?"),
                                 ("function_call", '{"name": "add", "arguments": {"a": 1}}'),
                                 ("observation", "3"), ("gpt", "It is 3.")),
         "tools": json.dumps([BARE])}, "chat", WITH_TOOLS, "sft",
    ),
    "LLaMA-Factory: two calls at once behind words": Shape(
        {"conversations": shared(
            ("human", "1+2?"), ("gpt", "Let me see."),
            ("function_call", json.dumps([{"name": "add", "arguments": {"a": 1}},
                                          {"name": "add", "arguments": {"a": 2}}])),
            ("observation", "3"), ("observation", "4"), ("gpt", "It is 3."))}, "chat",
        Row(prompt=[*ASKED, {"role": "assistant", "content": "Let me see.",
                             "tool_calls": [call(a=1), call(a=2)]},
                    GAVE, {"role": "tool", "content": "4"}], completion=[SAID]), "sft",
    ),
    "LLaMA-Factory: ShareGPT ranking": Shape(
        {"conversations": shared(("human", "Hi"), ("gpt", "Yes"), ("human", "1+2?")),
         "chosen": {"from": "gpt", "value": "3"}, "rejected": {"from": "gpt", "value": "4"}},
        "preference",
        Row(prompt=TALK, completion=turns("", "3")[1:], rejected=turns("", "4")[1:]), "dpo",
    ),
    "LLaMA-Factory: KTO": Shape(
        {"conversations": shared(("human", "Hi"), ("gpt", "Yes")), "kto_tag": True}, "feedback",
        KTO, "kto",
    ),
    "LLaMA-Factory: KTO with messages": Shape(
        {"messages": turns("Hi", "Yes"), "label": True}, "feedback", KTO, "kto",
    ),
    "LLaMA-Factory v1": Shape(
        {"messages": [
            {"role": "user", "content": parts("Hi"), "loss_weight": 0.0},
            {"role": "assistant", "content": parts("Hm.", "reasoning") + parts("Yes"),
             "loss_weight": 1.0}]}, "chat",
        Row(prompt=PROMPT, completion=[GOOD[0] | {"reasoning_content": "Hm."}]), "sft",
    ),
    "LLaMA-Factory v1: calls in parts": Shape(
        {"messages": [
            {"role": "user", "content": parts("1+2?")},
            {"role": "assistant",
             "content": parts('{"name": "add", "arguments": {"a": 1}}', "tool_call")},
            {"role": "tool", "content": parts("3")},
            {"role": "assistant", "content": parts("It is 3.")}],
         "tools": json.dumps([ADD])}, "chat", WITH_TOOLS, "sft",
    ),
    "LLaMA-Factory v1: pairs": Shape(
        {"chosen_messages": [{"role": "user", "content": parts("Hi"), "loss_weight": 0.0},
                             {"role": "assistant", "content": parts("Yes"), "loss_weight": 1.0}],
         "rejected_messages": [{"role": "user", "content": parts("Hi"), "loss_weight": 0.0},
                               {"role": "assistant", "content": parts("No"), "loss_weight": 1.0}]},
        "preference", PAIR, "dpo",
    ),
    # Axolotl
    "Axolotl: input_output": Shape(
        {"segments": [{"label": False, "text": "<s>1+2="}, {"label": True, "text": "3</s>"}]},
        "segments",
        Row(segments=[Segment(text="<s>1+2=", trained=False), Segment(text="3</s>", trained=True)]),
        "sft",
    ),
    "Axolotl: completion": Shape({"text": "Once."}, "text", Row(text="Once."), "cpt"),
    "Axolotl: turns to train on": Shape(
        {"conversations": [
            {"from": "system", "value": "Be brief.", "train": False},
            {"from": "human", "value": "Hi", "train": False},
            {"from": "assistant", "value": "Yes", "train": False},
            {"from": "human", "value": "1+2?", "train": True},
            {"from": "assistant", "value": "3", "train": True}]}, "chat",
        Row(prompt=[*LED, GOOD[0] | {"train": False}, ASKED[0] | {"train": True}],
            completion=turns("", "3")[1:]), "sft",
    ),
    "Axolotl: metharme": Shape(
        {"prompt": "Hi", "generation": "Yes"}, "prompt_completion",
        Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "Axolotl: context_qa": Shape(
        {"context": "One and two.", "question": "1+2?", "answer": "3"}, "prompt_completion",
        Row(prompt=turns("One and two.\n\n1+2?"), completion=turns("", "3")[1:], answer="3"), "sft",
    ),
    "Axolotl: pygmalion": Shape(
        {"conversations": [{"role": "human", "value": "Hi"}, {"role": "model", "value": "Yes"}]},
        "chat", Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "Axolotl: tool parameters as JSON": Shape(
        {"messages": [*ASKED, CALLED, GAVE, SAID],
         "tools": [{"type": "function",
                    "function": BARE | {"parameters": json.dumps(BARE["parameters"])}}]},
        "chat", WITH_TOOLS, "sft",
    ),
    # ms-swift
    "ms-swift: query, response and history": Shape(
        {"system": "Be brief.", "query": "1+2?", "response": "3", "history": [["Hi", "Yes"]]},
        "prompt_completion",
        Row(prompt=[*LED, *GOOD, *ASKED], completion=turns("", "3")[1:]), "sft",
    ),
    "ms-swift: ShareGPT": Shape(
        {"system": "Be brief.", "conversation": [{"human": "Hi", "assistant": "Yes"},
                                                 {"human": "1+2?", "assistant": "3"}]},
        "chat", Row(prompt=[*LED, *GOOD, *ASKED], completion=turns("", "3")[1:]), "sft",
    ),
    "ms-swift: loss": Shape(
        {"messages": [PROMPT[0], GOOD[0] | {"loss": False}, ASKED[0], SAID | {"loss": True}]},
        "chat", Row(prompt=[*PROMPT, GOOD[0] | {"train": False}, *ASKED], completion=[SAID]), "sft",
    ),
    "ms-swift: rejected_response": Shape(
        {"messages": turns("Hi", "Yes"), "rejected_response": "No"}, "preference", PAIR, "dpo",
    ),
    "ms-swift: rejected_response as turns": Shape(
        {"messages": turns("Hi", "Yes"), "rejected_response": BAD}, "preference", PAIR, "dpo",
    ),
    "ms-swift: rejected_messages": Shape(
        {"messages": turns("Hi", "Yes"), "rejected_messages": turns("Hi", "No")}, "preference",
        PAIR, "dpo",
    ),
    "ms-swift: response and rejected_response": Shape(
        {"query": "Hi", "response": "Yes", "rejected_response": "No"}, "preference", PAIR, "dpo",
    ),
    "ms-swift: KTO": Shape(
        {"messages": turns("Hi", "No"), "label": False}, "feedback",
        Row(prompt=PROMPT, completion=BAD, label=False), "kto",
    ),
    "ms-swift: GRPO": Shape(
        {"messages": LED}, "chat_prompt", Row(prompt=LED), "grpo",
    ),
    "ms-swift: GRPO with a solution": Shape(
        {"messages": TALK, "solution": "3"}, "chat", Row(prompt=TALK, answer="3"), "grpo",
    ),
    "ms-swift: agent": Shape(
        {"tools": json.dumps([ADD]), "messages": [
            *ASKED, {"role": "tool_call", "content": '{"name": "add", "arguments": {"a": 1}}'},
            {"role": "tool_call", "content": '{"name": "add", "arguments": {"a": 2}}'},
            {"role": "tool_response", "content": "3"}, {"role": "tool_response", "content": "4"},
            SAID]}, "chat",
        Row(prompt=[*ASKED, CALLED | {"tool_calls": [call(a=1), call(a=2)]}, GAVE,
                    {"role": "tool", "content": "4"}], completion=[SAID], tools=[ADD]), "sft",
    ),
    "ms-swift: Anthropic's parts": Shape(
        {"messages": [
            {"role": "user", "content": "1+2?"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1",
                 "content": [{"type": "text", "text": "3"}]}]},
            {"role": "assistant", "content": [{"type": "text", "text": "It is 3."}]}]}, "chat",
        Row(prompt=[*ASKED, {"role": "assistant", "content": "Let me see.",
                             "tool_calls": [call(a=1) | {"id": "t1"}]},
                    GAVE | {"tool_call_id": "t1"}], completion=[SAID]), "sft",
    ),
    # TRL
    "TRL: language modelling": Shape(
        {"text": "The sky is blue."}, "text", Row(text="The sky is blue."), "cpt",
    ),
    "TRL: conversations": Shape(
        CHAT, "chat", Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "TRL: prompts": Shape({"prompt": "Hi"}, "prompt", Row(prompt=PROMPT), "grpo"),
    "TRL: prompts as turns": Shape({"prompt": TALK}, "prompt", Row(prompt=TALK), "grpo"),
    "TRL: prompt and completion": Shape(
        {"prompt": PROMPT, "completion": GOOD}, "prompt_completion",
        Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "TRL: explicit prompt": Shape(
        {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}, "preference", PAIR, "dpo",
    ),
    "TRL: explicit prompt in text": Shape(
        {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}, "preference", PAIR, "dpo",
    ),
    "TRL: implicit prompt": Shape(
        {"chosen": turns("Hi", "Yes"), "rejected": turns("Hi", "No")}, "preference", PAIR, "dpo",
    ),
    "TRL: implicit prompt in text": Shape(
        {"chosen": "The sky is blue.", "rejected": "The sky is black."}, "preference",
        Row(prompt=turns("The sky is"), completion=turns("", "blue.")[1:],
            rejected=turns("", "black.")[1:]), "dpo",
    ),
    "TRL: unpaired preference": Shape(
        {"prompt": PROMPT, "completion": GOOD, "label": True}, "feedback", KTO, "kto",
    ),
    "TRL: tools": Shape(
        {"prompt": [*ASKED, CALLED, GAVE], "completion": [SAID], "tools": [ADD]},
        "prompt_completion", WITH_TOOLS, "sft",
    ),
    "KTO mix, completions whole": Shape(
        {"prompt": PROMPT, "completion": turns("Hi", "Yes"), "label": True, "rating": 5.0},
        "feedback", KTO, "kto",
    ),
    # Unsloth
    "Unsloth: standardized ShareGPT": Shape(
        {"conversations": turns("Hi", "Yes"), "source": "a", "score": 5.2}, "chat",
        Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "Unsloth: GRPO": Shape(
        {"prompt": LED, "answer": "3", "question": "1+2?"}, "prompt_answer",
        Row(prompt=LED, answer="3"), "grpo",
    ),
    # OpenAI
    "OpenAI: chat": Shape(
        {"messages": [{"role": "developer", "content": "Be brief."}, *PROMPT,
                      GOOD[0] | {"weight": 0}, *ASKED, SAID | {"weight": 1}]}, "chat",
        Row(prompt=[*LED, GOOD[0] | {"train": False}, *ASKED], completion=[SAID]), "sft",
    ),
    "OpenAI: chat with tools": Shape(
        {"messages": [*ASKED, {"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function",
             "function": {"name": "add", "arguments": '{"a": 1}'}}]}],
         "parallel_tool_calls": False, "tools": [ADD]}, "chat",
        Row(prompt=ASKED, completion=[CALLED | {"tool_calls": [call(a=1) | {"id": "c1"}]}],
            tools=[ADD]), "sft",
    ),
    "OpenAI: functions": Shape(
        {"messages": [*ASKED, {"role": "assistant", "content": None, "function_call": {
            "name": "add", "arguments": '{"a": 1}'}},
            {"role": "function", "name": "add", "content": "3"}, SAID], "functions": [BARE]},
        "chat",
        Row(prompt=[*ASKED, CALLED, GAVE | {"name": "add"}], completion=[SAID], tools=[ADD]), "sft",
    ),
    "OpenAI: a refusal": Shape(
        {"messages": [*PROMPT, {"role": "assistant", "content": None, "refusal": "No"}]}, "chat",
        Row(prompt=PROMPT, completion=BAD), "sft",
    ),
    "OpenAI: preference": Shape(
        {"input": {"messages": PROMPT, "tools": [], "parallel_tool_calls": True},
         "preferred_output": GOOD, "non_preferred_output": BAD}, "preference", PAIR, "dpo",
    ),
    "OpenAI: reinforcement": Shape(
        {"messages": LED, "reference_answer": "Yes", "topic": "greetings"}, "chat",
        Row(prompt=LED, answer="Yes"), "grpo",
    ),
    # The hub
    "HH-RLHF with its prompt apart": Shape(
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Yes", "rejected": " No"},
        "preference",
        Row(prompt=PROMPT, completion=[{"role": "assistant", "content": " Yes"}],
            rejected=[{"role": "assistant", "content": " No"}]), "dpo",
    ),
    "Tulu 3": Shape(
        {"id": "x", "messages": turns("Hi", "Yes"), "source": "ai2-adapt-dev/flan_v2"}, "chat",
        Row(prompt=PROMPT, completion=GOOD), "sft",
    ),
    "Tulu 3 preferences": Shape(
        {"id": "x", "source": "a", "prompt": "Hi", "chosen": turns("Hi", "Yes"),
         "chosen_model": "m", "rejected": turns("Hi", "No"), "rejected_model": "n"},
        "preference", PAIR, "dpo",
    ),
    "Hermes function calling": Shape(
        {"id": "x", "conversations": shared(
            ("system", "You call functions."), ("human", "1+2?"),
            ("gpt", "<tool_call>\n{'name': 'add', 'arguments': {'a': 1}}\n</tool_call>"),
            ("tool", "<tool_response>\n3\n</tool_response>"), ("gpt", "It is 3.")),
         "tools": json.dumps([ADD]), "category": "Math", "task": "Adding"}, "chat",
        Row(prompt=[*turns("1+2?", system="You call functions."), CALLED, GAVE], completion=[SAID],
            tools=[ADD]), "sft",
    ),
    "xLAM": Shape(
        {"id": 1, "query": "1+2?",
         "answers": json.dumps([{"name": "add", "arguments": {"a": 1}}]),
         "tools": json.dumps([{"name": "add", "description": "Adds.", "parameters": {
             "a": {"description": "One.", "type": "int"},
             "b": {"description": "Other.", "type": "str, optional", "default": ""}}}])},
        "prompt_completion",
        Row(prompt=ASKED, completion=[CALLED], tools=[{"type": "function", "function": {
            "name": "add", "description": "Adds.", "parameters": {
                "type": "object", "required": ["a"], "properties": {
                    "a": {"description": "One.", "type": "integer"},
                    "b": {"description": "Other.", "type": "string", "default": ""}}}}}]), "sft",
    ),
    "glaive v2": Shape(
        {"system": "SYSTEM: You are a helpful assistant with access to the following functions. "
                   "Use them if required -\n" + json.dumps(BARE, indent=4),
         "chat": "USER: 1+2?\n\n\nASSISTANT: <functioncall> {\"name\": \"add\", \"arguments\": "
                 "'{\"a\": 1}'} <|endoftext|>\n\n\nFUNCTION RESPONSE: 3\n\n\n"
                 "ASSISTANT: It is 3. <|endoftext|>\n\n\n"}, "chat", WITH_TOOLS, "sft",
    ),
    "glaive v2 without functions": Shape(
        {"system": "SYSTEM: You are a helpful assistant, with no access to external functions.",
         "chat": "USER: Hi\n\n\nASSISTANT: Yes <|endoftext|>\n\n\n"}, "chat",
        Row(prompt=turns("Hi", system="You are a helpful assistant, with no access to external "
                                      "functions."), completion=GOOD), "sft",
    ),
    "WikiQA": Shape(
        {"question_id": "Q1", "question": "1+2?", "document_title": "Sums", "answer": "3",
         "label": 1}, "feedback",
        Row(prompt=ASKED, completion=turns("", "3")[1:], label=True), "kto",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_read_as_its_makers_mean_it(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    table = read_table(write(tmp_path / "d.jsonl", shape.row, shape.row))
    assert table.format == shape.schema
    assert list(table.rows) == [shape.first] * 2
    assert likeliest(table.detected.stages) == shape.stage


@pytest.mark.parametrize("column", ["reasoning", "thinking", "chain_of_thought"])
def test_a_column_of_thinking_goes_before_its_answer(tmp_path: Path, column: str) -> None:
    item = {"question": "1+2?", column: "One and two.", "response": "It is 3."}
    path = write(tmp_path / "d.jsonl", item, item | {column: None})
    by_hand = {"question": "prompt", "response": "completion", column: "reasoning"}
    known = column != "chain_of_thought"
    for mapping in ({}, by_hand) if known else (by_hand,):
        first, second = read_table(path, mapping=mapping).rows  # type: ignore[arg-type]
        assert first.completion == [SAID | {"reasoning_content": "One and two."}]
        assert second.completion == [SAID]
    switch = write(tmp_path / "s.jsonl", item | {column: "on"})
    assert read_table(switch).rows[0].completion == [SAID]


def test_tools_of_a_pair_stand_beside_its_question(tmp_path: Path) -> None:
    row = {"input": {"messages": PROMPT, "tools": [ADD]}, "preferred_output": GOOD,
           "non_preferred_output": BAD}  # fmt: skip
    made = read_table(write(tmp_path / "d.jsonl", row)).rows[0]
    assert made == Row(prompt=PROMPT, completion=GOOD, rejected=BAD, tools=[ADD])


def test_what_was_detected_can_be_asked_for_by_hand(tmp_path: Path) -> None:
    """The mapping that is shown gives the same rows where somebody takes it."""
    for name, shape in SHAPES.items():
        source = write(tmp_path / "d.jsonl", shape.row)
        table = read_table(source)
        if shape.schema in ("prompt", "chat_prompt"):
            continue  # a prompt alone may be a mapping that was left unfinished
        again = read_table(source, mapping=table.detected.mapping)
        assert msgspec.structs.replace(again.rows[0], answer="") == msgspec.structs.replace(
            shape.first, answer=""
        ), name  # a short completion is no reference answer unless it is found to be one


# Refused by name

MASKED = {"role": "assistant", "content": "Well, yes."}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "TRL: stepwise supervision": (
        {"prompt": "1+2?", "completions": ["One.", "Three."], "labels": [True, False]},
        "stepwise supervision",
    ),
    "Axolotl: tokens": (
        {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [-100, 2]}, "token ids",
    ),
    "ms-swift: classification": (
        {"messages": turns("A fine day"), "label": 1}, "classification",
    ),
    "ms-swift: several labels": (
        {"messages": turns("A fine day"), "label": [1, 3]}, "classification",
    ),
    "LLaMA-Factory v1: pictures": (
        {"messages": [{"role": "user", "content": parts("a.jpg", "image_url") + parts("Who?")},
                      *GOOD]}, "a part of type 'image_url'",
    ),
    "ms-swift: a rejected picture": (
        {"messages": turns("Hi", "Yes"), "rejected_images": ["a.png"], "rejected_response": "No"},
        '"rejected_images" holds more than the text',
    ),
    "TRL: a picture beside a pair": (
        {"prompt": "Hi", "chosen": "Yes", "rejected": "No", "image": {"bytes": "x"}},
        '"image" holds more than the text',
    ),
    "ms-swift: settings of the template": (
        {"messages": turns("Hi", "Yes"), "chat_template_kwargs": {"enable_thinking": False}},
        "chat_template_kwargs",
    ),
    "a weight of the row": ({"messages": turns("Hi", "Yes"), "weight": 0.5}, '"weight" is 0.5'),
    "a weight of the row in text": ({"prompt": "Hi", "completion": "Yes", "weight": "2"},
                                    '"weight" is 2'),
    "answers to choose from": (
        {"question": "1+2?", "choices": ["2", "3"], "answer": "B"}, '"choices" lists',
    ),
    "ms-swift: loss_scale": (
        {"messages": [*PROMPT, MASKED | {"loss_scale": 2.0}]}, '"loss_scale": 2.0',
    ),
    "Axolotl: a piece of an answer": (
        {"messages": [*PROMPT, MASKED | {"train_detail": [
            {"begin_offset": 0, "end_offset": 4, "train": False}]}]},
        '"train_detail" for parts of it alone',
    ),
    "Axolotl: parts of an answer": (
        {"messages": [*PROMPT, {"role": "assistant", "content": [
            {"type": "text", "text": "Well,", "train": False},
            {"type": "text", "text": " yes."}]}]}, '"train" for parts of it alone',
    ),
    "flags that disagree": (
        {"messages": [*PROMPT, MASKED | {"train": True, "weight": 0}]},
        "train and weight that disagree",
    ),
    "Axolotl: no segment to learn": ({"segments": [{"label": False, "text": "a"}]}, "to be learnt"),
    "Axolotl: a segment without a label": ({"segments": [{"text": "a"}]}, "segment 1 must be"),
    "ms-swift: pre-training": (
        {"messages": [{"role": "assistant", "content": "I love music"}]}, "must be the user's",
    ),
    "ms-swift: pairs of whole errands": (
        {"messages": [*ASKED, CALLED, GAVE, SAID], "rejected_response": [SAID]},
        "differ in more than their last answer",
    ),
    "ms-swift: history that is none": (
        {"query": "1+2?", "response": "3", "history": ["Hi", "Yes"]}, "pairs of question and",
    ),
    "pairs that begin otherwise": ({"chosen": "Yes", "rejected": "No"}, "no prompt column"),
    "glaive: functions that are no JSON": (
        {"system": "SYSTEM: You are with access to the following functions. {name: add}",
         "chat": "USER: Hi\n\n\nASSISTANT: Yes"}, "cannot be read as JSON",
    ),
    "glaive: a call that is no JSON": (
        {"system": "SYSTEM: Be brief.",
         "chat": "USER: Hi\n\nASSISTANT: <functioncall> {add 1}\n\nFUNCTION RESPONSE: 3\n\n"
                 "ASSISTANT: 3"}, "not JSON",
    ),
    "Hermes: a call that is no JSON": (
        {"conversations": shared(("human", "Hi"), ("gpt", "<tool_call>add(1)</tool_call>"),
                                 ("tool", "3"), ("gpt", "3"))}, "not JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learnt_is_refused_by_name(tmp_path: Path, name: str) -> None:
    row, reason = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        read_table(write(tmp_path / "d.jsonl", row))
    assert "line 1: " in caught.value.what
    assert reason in caught.value.what


@pytest.mark.parametrize("column", ["weight", "chat_template_kwargs", "choices"])
def test_a_column_that_means_more_is_passed_over_by_hand_alone(tmp_path: Path, column: str) -> None:
    values = {"weight": 2, "chat_template_kwargs": {"fps": 2}, "choices": ["a"]}
    row = {"messages": CHAT["messages"], column: values[column]}
    source = write(tmp_path / "d.jsonl", row)
    assert len(read_table(source, mapping={"messages": "messages"}).rows) == 1
    with pytest.raises(Refusal, match=f'"{column}"'):
        read_table(source)


@pytest.mark.parametrize("value", [None, 1, 1.0, "1", [], {}, "heavy"])
def test_a_weight_that_weighs_nothing_passes(tmp_path: Path, value: object) -> None:
    row = {"messages": CHAT["messages"], "weight": value, "chat_template_kwargs": {}}
    assert len(read_table(write(tmp_path / "d.jsonl", row)).rows) == 1


# Conversations that go on


def test_a_question_behind_the_last_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    more = [*turns("Hi", "Yes", "And?"), {"role": "user", "content": "Hello?"}]
    source = write(tmp_path / "d.jsonl", CHAT, {"messages": more}, {"messages": TALK})
    table = read_table(source)
    assert [row.messages for row in table.rows] == [turns("Hi", "Yes")] * 3
    assert table.notes == [
        "2 conversations go on behind the last answer; what nobody answers is left out."
    ]


def test_a_question_alone_among_answers_is_refused(tmp_path: Path) -> None:
    table = read_table(
        write(tmp_path / "d.jsonl", CHAT, CHAT, {"messages": PROMPT}), bad_rows="skip"
    )
    assert [bad.reason for bad in table.bad] == ["the last message must be the assistant's"]


def test_prompts_keep_the_question_that_they_end_with(tmp_path: Path) -> None:
    rows = {"messages": TALK}, {"messages": PROMPT}, {"messages": ASKED}
    table = read_table(write(tmp_path / "d.jsonl", *rows))
    assert [row.prompt for row in table.rows] == [TALK, PROMPT, ASKED]
    assert table.notes == []
    assert likeliest(table.detected.stages) == "grpo"


def test_two_system_turns_at_the_head_are_one(tmp_path: Path) -> None:
    led = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]
    row = read_table(write(tmp_path / "d.jsonl", {"messages": [*led, *CHAT["messages"]]})).rows[0]
    assert row.prompt[0] == {"role": "system", "content": "Be brief.\n\nBe kind."}


def test_what_nothing_reads_in_a_turn_is_counted(tmp_path: Path) -> None:
    told = [PROMPT[0] | {"weight": 1, "name": "Ada"}, GOOD[0] | {"mood": "glad", "name": ""}]
    table = read_table(write(tmp_path / "d.jsonl", CHAT, {"messages": told}, {"messages": told}))
    assert table.unread == {"weight": 2, "name": 2, "mood": 2}


def test_marks_of_calls_are_text_where_there_are_no_tools(tmp_path: Path) -> None:
    said = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    row = {"messages": turns("How does a call look?", said)}
    assert read_table(write(tmp_path / "d.jsonl", row)).rows[0].completion[0]["content"] == said


def test_reading_changes_nothing_in_the_file_as_it_is_shown() -> None:
    """Rows are made of values that the data page shows as they are."""
    for shape in SHAPES.values():
        before = json.dumps(shape.row)
        RowParser([shape.row]).row(shape.row)
        assert json.dumps(shape.row) == before


JUNK: tuple[Any, ...] = (
    None, 0, 1.5, True, "", "a", "[", "[{", [], [None], [[]], {}, {"role": 3}, {"from": None},
    [{"role": "user"}], [{"type": "tool_call"}], {"name": 1}, "<tool_call>", float("nan"), -1,
)  # fmt: skip


def _spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a row a value stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from _spots(one, (*path, key))


def _changed(row: Any, path: tuple[Any, ...], junk: Any) -> Any:
    made = json.loads(json.dumps(row))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return made


def test_no_value_crashes_the_parser() -> None:
    """Whatever stands wherever in a row: it is read into sound turns, or refused with a reason."""
    published = [*(shape.row for shape in SHAPES.values()), *(row for row, _ in REFUSED.values())]
    changes = ((row, spot, junk) for row in published for spot in _spots(row) for junk in JUNK)
    read, reasons = 0, set[str]()
    for row, spot, junk in itertools.islice(changes, 0, None, 3):
        item = _changed(row, spot, junk)
        try:
            made = RowParser([item]).row(item)
        except RowFault as fault:
            reasons.add(str(fault))
            continue
        read += 1
        for turn in (*made.messages, *made.rejected):
            assert turn["role"] in ROLES
            assert all(isinstance(turn.get(key, ""), str) for key in ("content", "name"))
            assert turn.get("train", turn["role"] == "assistant") in (True, False)
    assert read > 500
    assert all(3 < len(reason) < 600 for reason in reasons)
