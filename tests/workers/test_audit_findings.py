"""Every silent failure put in is named, and clean data is left in peace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.workers.audited import THINGS, Rows, clean, named, row
from workers.data.audit.findings import Findings, unread_flags
from workers.data.audit.row_checks import check_answer
from workers.data.audit.row_text import completion_of, text_of
from workers.data.audit.text_checks import personal_data, placeholder
from workers.data.reader import Row
from workers.data.tokenize.chat_template import CHATML
from workers.data.tokenize.template_marks import template_marks

# Texts


@pytest.mark.parametrize(
    "text",
    [
        "[INST] Hello [/INST] Hi", "<|start_header_id|>user<|end_header_id|>Hello",
        "### Instruction:\nSay it\n### Response:\nIt", "<start_of_turn>user\nHi<end_of_turn>",
        "Human: Hello\nAssistant: Hi", "<|im_start|>user\nHello<|im_end|>",
    ],
)  # fmt: skip
def test_marks_of_a_template_are_named(text: str, audit: Any) -> None:
    rows = clean()
    rows[3] = row("Hello", text)
    found = named(audit(rows))["wrong_template"]
    assert (found.count, found.examples[0].row, found.level) == (1, 4, "warning")


@pytest.mark.parametrize(
    "text", ["All human: assistants wanted", "a[1] < b[2]", "## Instructions", "The user: me"]
)
def test_other_texts_have_no_marks(text: str) -> None:
    assert template_marks(text) is None


def test_text_rendered_for_the_model_may_hold_its_own_marks() -> None:
    assert template_marks("<|im_start|>user\nHi<|im_end|>", own=CHATML) is None
    assert template_marks("[INST] Hi [/INST]", own=CHATML) == "Llama 2"


@pytest.mark.parametrize(
    "text",
    ["{{messages}}", "{{ prompt }}", "Say: {input}", "{% for m in messages %}x{% endfor %}",
     "{{ messages[0]['content'] }}", "{{ question | trim }}"],
)  # fmt: skip
def test_a_blank_is_named(text: str, audit: Any) -> None:
    rows = clean()
    rows[9] = row(text, "Very well then.")
    assert named(audit(rows))["template_literal"].examples[0].row == 10


@pytest.mark.parametrize(
    "text",
    [r"\boxed{answer}", r"\frac{{a}}{{b}}", "```\nf'{input}'\n```", "`{{ name }}`", "${output}",
     '{"input": 3}', "{a, b}", r"x^{{n}}", "100 {% of it}"],
)  # fmt: skip
def test_other_braces_are_no_blanks(text: str) -> None:
    assert placeholder(text) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe@acme-mail.com now", "an e-mail address"),
        ("Call +49 30 901820 today", "a phone number"),
        ("Call (415) 555-2671.", "a phone number"),
        ("my phone is 0171 2345678", "a phone number"),
        ("Call +1 212 555 0123 today", "a phone number"),
        ("Call +1 555 123 4567 today", None),
        ("Call 212-155-0123 today", None),
        ("DE89 3704 0044 0532 0130 00", "an IBAN"),
        ("DE89 3704 0044 0532 0130 01", None),
        ("GB82WEST12345698765432", "an IBAN"),
        ("Card: 4111 1111 1111 1234", None),
        ("Card: 4012 8888 8888 1881", "a card number"),
        ("my visa is 4012888888881881", "a card number"),
        ("from 93.184.216.34 at noon", "an IP address"),
    ],
)
def test_personal_data_is_told_by_its_own_checks(text: str, kind: str | None) -> None:
    assert personal_data(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "4012888888881881 + 1 = 4012888888881882", "12 + 34567890123", "98, 4, 91, 8, 44",
        "700-300-2000 = -1600", "3.14159265358979", "1234567890123456", "version 10.2.33.4",
        "on 2024-05-17 10:23:45", "192.168.0.1 and 127.0.0.1", "user@example.com", "10000000000",
        "58 +123456789", "1 000 000 000", "0.1.2.3", "555-1234", "ISBN 978-3-16-148410-0",
        "100 200 300 400", "a@b", "x = 5555555555554444 * 2", "1,234,567,890", "2+3456789012=",
    ],
)  # fmt: skip
def test_other_numbers_are_nobodys(text: str) -> None:
    assert personal_data(text) is None


def test_examples_of_personal_data_do_not_repeat_it(audit: Any) -> None:
    rows = clean()
    rows[0] = row("Who?", "It is jane.doe@acme-mail.com, as I said.")
    found = named(audit(rows))["personal_data"]
    assert (found.count, found.examples[0].text) == (1, "an e-mail address")


def test_languages_that_are_mixed_are_named(audit: Any) -> None:
    rows = [row(f"Question {n}?", "This is a long answer in the English language, you can see.")
            for n in range(30)]  # fmt: skip
    rows += [row(f"Frage {n}?", "Das ist eine lange Antwort in deutscher Sprache, wie man hört.")
             for n in range(10)]  # fmt: skip
    found = named(audit(rows))["language_mix"]
    assert (found.count, found.level) == (10, "advice")
    assert found.examples[0].text.startswith("de")


# Answers


def test_answers_that_say_nothing_are_named(audit: Any) -> None:
    rows = clean()
    rows[0] = row("Well?", "<think>Let me see.</think>\n")
    rows[1] = row("And?", "NaN")
    assert named(audit(rows))["empty_answer"].count == 2


def test_an_answer_that_calls_a_tool_is_not_empty() -> None:
    called = {"type": "function", "function": {"name": "add", "arguments": {}}}
    made = row("1+2?", "")
    made.completion[0]["tool_calls"] = [called]
    for expected, one in (([], made), (["empty_answer"], row("1+2?", ""))):
        findings = Findings(lambda at: at + 1)
        check_answer(findings, 0, one)
        assert [found.kind for found in findings.all(1)] == expected


def test_one_answer_to_everything_is_named(audit: Any) -> None:
    rows = [row(one.prompt[0]["content"], "I cannot help with that.") for one in clean()]
    found = named(audit(rows))["identical_answers"]
    assert (found.count, found.level) == (60, "alarm")


def test_answers_that_call_tools_otherwise_are_not_the_same(audit: Any) -> None:
    rows = clean()
    for number, one in enumerate(rows):
        given = {"name": "add", "arguments": {"a": number}}
        one.completion[0] |= {"content": "", "tool_calls": [{"function": given}]}
    assert "identical_answers" not in named(audit(rows))
    assert completion_of(rows[7]) == 'add {"a": 7}'


def test_rows_that_differ_in_their_calls_alone_are_no_duplicates() -> None:
    first, other = row("Add.", ""), row("Add.", "")
    for one, number in ((first, 1), (other, 2)):
        given = {"name": "add", "arguments": {"a": number}}
        one.completion[0]["tool_calls"] = [{"type": "function", "function": given}]
    assert text_of(first) != text_of(other)


def test_thinking_left_open_is_named(audit: Any) -> None:
    rows = clean()
    rows[0] = row("1?", "<think>one. It is 1")
    rows[1] = row("2?", "two</think> 2")
    rows[2] = row("3?", "<think>three</think> 3")
    assert named(audit(rows))["unclosed_thinking"].count == 2


def test_a_box_that_differs_from_the_answer_is_named(audit: Any) -> None:
    rows = clean()
    rows[0] = row("1 + 1?", "\\boxed{3}", answer="2")
    rows[1] = row("1 + 2?", "\\boxed{3}", answer="3")
    rows[2] = row("1 / 2?", "\\boxed{\\frac{1}{2}}", answer="0.5")
    rows[3] = row("1000?", "\\boxed{1,000}", answer="so 1000\n#### 1000")
    found = named(audit(rows))["answer_not_in_completion"]
    assert [example.row for example in found.examples] == [1]


def pairs(chosen: Callable[[int], str], rejected: Callable[[int], str]) -> Rows:
    return [
        row(one.prompt[0]["content"], chosen(n),
            rejected=[{"role": "assistant", "content": rejected(n)}])
        for n, one in enumerate(clean())
    ]  # fmt: skip


def test_pairs_told_apart_by_length_or_not_at_all_are_named(audit: Any) -> None:
    found = named(
        audit(pairs(lambda n: f"A long and kind answer {n}.", lambda n: f"No {n}"), "dpo")
    )
    assert (found["length_leak"].share, found["length_leak"].level) == (1.0, "warning")
    alike = pairs(lambda n: f"Say {n}", lambda n: f"say  {n}" if n < 6 else f"Sag {n}")
    found = named(audit(alike, "dpo"))
    assert found["chosen_equals_rejected"].count == 6
    assert "length_leak" not in found


def test_rows_that_stand_twice_are_named(audit: Any) -> None:
    draw = random.Random(1)
    long = row("Tell it.", " ".join(f"{draw.choice(THINGS)}{chr(97 + n % 26)}" for n in range(80)))
    near = row("Tell it.", long.completion[0]["content"].replace("a ", "b ", 1))
    rows = [*clean(), clean()[4], clean()[4], long, near]
    found = named(audit(rows))
    assert found["exact_duplicates"].count == 2
    assert found["exact_duplicates"].examples[0].text.startswith("As row 5:")
    assert [example.row for example in found["near_duplicates"].examples] == [64]


def test_test_rows_among_the_training_rows_are_named(audit: Any) -> None:
    test = [*clean()[:5], row("Never asked before?", "No.")]
    found = named(audit(clean(), test=test))["test_overlap"]
    assert (found.count, found.level) == (5, "alarm")
    assert found.share == pytest.approx(5 / 6)
    assert [example.row for example in found.examples] == [1, 2, 3]


def test_numbers_in_the_same_words_are_other_tasks(audit: Any) -> None:
    told = "Tom has {} apples and Ann has {} more apples than he has, so how many do they have?"
    rows = [row(told.format(n, n + 7), f"They have {2 * n + 7}.") for n in range(10, 90)]
    assert audit(rows).findings == []


# Labels, references, flags


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_alone_are_named(label: bool, audit: Any) -> None:
    rows = [row(f"Say {n}.", f"Well, {THINGS[n % 12]} {n}.", label=label) for n in range(30)]
    found = named(audit(rows, "kto"))["one_label"]
    assert (found.level, found.count, found.share) == ("alarm", 30, 1.0)
    assert found.examples[0].text.startswith(f"{str(label).lower()}: ")
    rows[3] = row("Say 3.", "No.", label=not label)
    assert "one_label" not in named(audit(rows, "kto"))
    assert "one_label" not in named(audit(clean(), "sft"))


def test_answers_that_their_question_gives_away_are_named(audit: Any) -> None:
    questions = [f"How many are {n} and {n + 1}? (It is {2 * n + 1}.)" for n in range(100, 130)]
    rows = [
        Row(prompt=[{"role": "user", "content": question}], answer=str(2 * n + 1))
        for n, question in enumerate(questions, 100)
    ]
    found = named(audit(rows, "grpo"))["answer_in_question"]
    assert (found.level, found.count) == ("warning", 30)
    assert found.examples[0].text.startswith("201 stands in: How many are 100 and 101?")


def test_flags_of_turns_that_nothing_reads_are_named() -> None:
    assert unread_flags({}, 9) == []
    (found,) = unread_flags({"mood": 3, "priority": 7}, 20)
    assert (found.level, found.count, found.share) == ("advice", 7, 0.35)
    assert found.meaning.endswith("They are mood (3 rows), priority (7 rows).")
