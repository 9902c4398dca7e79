"""Every planted silent failure is named, and clean data is left in peace."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conversations import example_of
from workers.data.audit.audit import Audit, Audited
from workers.data.audit.findings import MOST_BAD, BadLines, merged
from workers.data.audit.row_text import answer
from workers.data.audit.text_checks import personal_data, placeholder
from workers.data.read.fault import RowFault
from workers.data.reader import BadRow, Row, read, read_table, stages_of
from workers.data.row_store import RowStore
from workers.data.schema.parser import RowParser
from workers.data.tokenize.chat_template import CHATML
from workers.data.tokenize.template_marks import template_marks
from workers.data.tokenize.token_counts import TokenCounter
from workers.protocol.assets import assets_folder
from workers.protocol.audit import AuditFinding
from workers.protocol.recipe import Stage

Rows = list[Row]
BUILTIN = ("arithmetic", "reasoning", "sums", "preferences", "feedback", "stories")
STAGES: tuple[Stage, ...] = ("cpt", "sft", "dpo", "kto", "grpo")
THINGS = "boat lamp reef storm crew rope sail wind tide gull rock sand".split()  # noqa: SIM905


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets_folder() / "starter" / "model")


def row(asked: str, said: str, **more: Any) -> Row:
    return Row(
        prompt=[{"role": "user", "content": asked}],
        completion=[{"role": "assistant", "content": said}],
        **more,
    )


def clean(count: int = 60) -> Rows:
    draw = random.Random(0)
    return [
        row(f"Tell me of {' and '.join(draw.sample(THINGS, 3))}, number {n}.",
            f"The {' '.join(draw.choices(THINGS, k=12))} are there.")
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def audit(tokenizer: Any) -> Callable[..., Audited]:
    def run(rows: Rows, stage: Stage = "sft", max_length: int = 1024, **more: Any) -> Audited:
        return Audit(rows, more.pop("tokenizer", tokenizer), stage, max_length, **more).run()

    return run


def named(audited: Audited) -> dict[str, AuditFinding]:
    return {one.kind: one for one in audited.findings}


@pytest.mark.parametrize("name", BUILTIN)
def test_a_builtin_set_gives_advice_at_most(name: str, audit: Any) -> None:
    rows = read_table(f"builtin:{name}").rows
    for stage in stages_of(rows, STAGES):
        assert [f for f in audit(rows, stage).findings if f.level != "advice"] == []


def test_clean_rows_give_no_finding_and_their_lengths(audit: Any, tokenizer: Any) -> None:
    rows = clean()
    found = audit(rows)
    examples = [example_of(one.messages, tokenizer, 1024) for one in rows]
    assert found.findings == []
    assert found.tokens.total == sum(len(one.input_ids) for one in examples)
    assert found.tokens.trained == sum(one.trained_tokens for one in examples)
    assert found.trained_token_share == found.tokens.trained / found.tokens.total
    assert sum(bar.count for bar in found.tokens.histogram) == len(rows)
    assert found.tokens.percentiles["p100"] == max(len(one.input_ids) for one in examples)


# The template


TEMPLATES = {
    "ChatML": CHATML,
    "a beginning only once": "{{ '<|im_start|>' }}{% for m in messages %}{% if loop.first %}First: "
    "{% endif %}[{{ m.role }}] {{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}",
    "no end": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "changes what is thought": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content | replace('<think>', '<think>\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "all capitals": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_lengths_are_those_of_training(template: str, tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES[template]
    rows = [
        *clean(8), row("Hi", "<think>so</think>yes"), row(" padded ", "  also padded\n"),
        row("größer 🦊 als?", "ja 🦊🦊"), row("x", "日本語のテキスト"),
        row("a\n\nb", "<|im_end|> said"),
        Row(prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1"},
                    {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
            completion=[{"role": "assistant", "content": "4"}]),
    ]  # fmt: skip
    for limit in (1024, 40, 20):
        lengths = TokenCounter(tokenizer, "sft", limit).count(rows)
        for one, length in zip(rows, lengths, strict=True):
            example = example_of(one.messages, tokenizer, limit)
            assert not isinstance(length, str)
            assert (length.kept, length.trained, length.truncated) == (
                len(example.input_ids), example.trained_tokens, example.truncated,
            ), one  # fmt: skip


def test_an_end_of_turn_that_is_not_learnt_is_named(audit: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["no end"]
    found = named(audit(clean(), tokenizer=tokenizer))["end_of_turn_masked"]
    assert (found.level, found.count, found.share) == ("alarm", 60, 1.0)
    assert "never stop" in found.meaning


def test_an_end_that_generation_does_not_know_is_named(audit: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|im_start|>")
    found = named(audit(clean(), tokenizer=tokenizer))
    assert found["end_of_turn_unknown"].level == "warning"
    assert "end_of_turn_masked" not in found
    known = audit(clean(), tokenizer=tokenizer, stops_at=[
        tokenizer.convert_tokens_to_ids("<|im_start|>")])  # fmt: skip
    assert "end_of_turn_unknown" not in named(known)


def test_a_row_that_the_template_refuses_is_named(audit: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        + CHATML
    )
    rows = clean()
    rows[7] = Row(prompt=[{"role": "system", "content": "Brief."}, *rows[7].prompt],
                  completion=rows[7].completion)  # fmt: skip
    found = named(audit(rows, tokenizer=tokenizer))["template_refuses"]
    assert [example.row for example in found.examples] == [8]
    assert "No system role" in found.examples[0].text


def test_tools_that_the_template_does_not_show_are_named(audit: Any) -> None:
    rows = clean()
    call = {"type": "function", "function": {"name": "ask_the_harbour", "arguments": {}}}
    rows[2] = Row(
        prompt=[rows[2].prompt[0], {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "high"}],
        completion=[{"role": "assistant", "content": "It is high."}],
    )  # fmt: skip
    found = named(audit(rows))["template_refuses"]
    assert [example.row for example in found.examples] == [3]
    assert "tool" in found.examples[0].text


# Lengths


def test_rows_without_a_trained_token_are_named(audit: Any) -> None:
    rows = clean()
    for at in range(0, 60, 3):
        rows[at] = row("word " * 200, "Yes.")
    found = named(audit(rows, max_length=128))["no_trained_tokens"]
    assert (found.count, found.level) == (20, "alarm")
    assert found.share == pytest.approx(1 / 3)
    assert [example.row for example in found.examples] == [1, 4, 7]


def test_answers_that_are_cut_off_are_named(audit: Any) -> None:
    rows = clean()
    for at in range(10):
        rows[at] = row("Go on.", "word " * 200 + str(at))
    found = named(audit(rows, max_length=128))
    assert found["answer_cut_off"].count == found["truncated"].count == 10
    assert found["answer_cut_off"].level == "alarm"
    assert "no_trained_tokens" not in found


def test_a_stage_that_samples_its_answers_has_no_share(audit: Any) -> None:
    assert audit(clean(), "grpo").trained_token_share is None


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


def test_one_answer_to_everything_is_named(audit: Any) -> None:
    rows = [row(one.prompt[0]["content"], "I cannot help with that.") for one in clean()]
    found = named(audit(rows))["identical_answers"]
    assert (found.count, found.level) == (60, "alarm")


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


# Bad lines


def test_bad_lines_are_findings_where_more_is_wrong_than_their_form() -> None:
    said = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    values: list[Any] = [
        {"messages": [said[0], said[0], said[1]]},
        {"messages": [said[0], {"role": "assistant", "content": " "}]},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"},
        {"messages": [{"role": "user", "content": ""}, said[1]]},
        RowFault("json", "not valid JSON"),
    ]
    bad = BadLines()
    for line, value in enumerate(values, 1):
        with pytest.raises(RowFault) as fault:
            RowParser([value]).row(value)
        bad.append(BadRow(line, str(fault.value), kind=fault.value.kind))
    found = bad.findings(5)
    assert [one.kind for one in found] == [
        "roles", "empty_answer", "chosen_equals_rejected", "missing_prompt",
    ]  # fmt: skip
    both = merged(found[:1], found[:1])
    assert (both[0].count, len(both)) == (2, 1)
    assert both[0].share == pytest.approx(2 / 10)


def test_of_many_bad_lines_the_first_are_kept_and_all_are_counted() -> None:
    bad = BadLines()
    for line in range(1, 5 * MOST_BAD + 1):
        bad.append(BadRow(line, "message 2 is empty", kind="empty_answer"))
    assert [one.line for one in bad.first] == list(range(1, MOST_BAD + 1))
    assert len(bad) == 5 * MOST_BAD
    assert [(one.kind, one.count) for one in bad.findings(0)] == [("empty_answer", len(bad))]


# Rows on disk


def _plain_rows(count: int) -> Rows:
    draw = random.Random(0)
    return [row(f"Number {n}?", " ".join(draw.choices(THINGS, k=14))) for n in range(count)]


@pytest.mark.parametrize("stage", ["sft", "distill", "rlhf"])
def test_rows_on_disk_are_judged_as_rows_in_memory(
    audit: Any, tmp_path: Path, stage: Stage
) -> None:
    rows = [Row(text="not for this stage"), *clean(80), *clean(3), *_plain_rows(30), row("x", " ")]
    rows += [row("What is it?", "[INST] Hi [/INST]"), row(f"{'long ' * 300}?", "No.")]
    with RowStore(tmp_path, 1) as file:
        for one in rows:
            file.append(one)
        found = audit(file, stage, 128, folder=tmp_path)
    assert found == audit(rows, stage, 128)
    assert {"exact_duplicates", "wrong_template", "truncated"} <= named(found).keys()


def test_memory_hardly_grows_with_the_rows(
    audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.data.audit.audit.BATCH_LETTERS", 20_000)
    rows = _plain_rows(4000)
    path = tmp_path / "rows.jsonl"

    def peak(count: int) -> int:
        asked = [{"prompt": one.prompt[0]["content"], "completion": answer(one)} for one in rows]
        path.write_text("\n".join(map(json.dumps, asked[:count])))
        tracemalloc.start()
        try:
            with RowStore(tmp_path, 1) as file:
                read(str(path), rows=file)
                audit(file, folder=tmp_path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # The language model alone takes 110 MB for a moment, however many rows there are.
    monkeypatch.setattr("workers.data.audit.audit.language_guesser", lambda: lambda text: "en")
    peak(500)  # what is kept from the first time on
    assert (peak(4000) - peak(500)) / 3500 < 500  # a row itself takes 2,000


def test_an_audit_ends_when_asked(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.data.audit.audit.BATCH_LETTERS", 200)
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> bool:
        told.append((done, total))
        return len(told) < 3

    Audit(clean(), tokenizer, "sft", 1024).run(progress)
    assert len(told) == 3
    assert told[-1][0] < told[-1][1] == 60
