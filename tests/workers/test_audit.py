"""What an audit counts: tokens as trained, rows that cannot be, bad lines, rows on disk."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.conversations import example_of
from tests.workers.audited import THINGS, Rows, clean, named, row
from workers.data.audit.audit import Audit
from workers.data.audit.findings import MOST_BAD, BadLines, merged
from workers.data.audit.row_text import completion_of
from workers.data.read.fault import RowFault
from workers.data.reader import BadRow, Row, read, read_table, stages_of
from workers.data.row_store import RowStore
from workers.data.schema.parser import RowParser
from workers.data.tokenize.chat_template import CHATML
from workers.data.tokenize.encode import encode
from workers.data.tokenize.token_counts import TokenCounter
from workers.protocol.recipe import Stage

BUILTIN = ("arithmetic", "reasoning", "sums", "preferences", "feedback", "stories")
STAGES: tuple[Stage, ...] = ("cpt", "sft", "dpo", "kto", "grpo")


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
            examples = [made.truncate(limit) for made in encode(one, "sft", tokenizer)]
            assert not isinstance(length, str)
            assert (length.kept, length.trained, length.truncated) == (
                sum(len(example.input_ids) for example in examples),
                sum(example.trained_tokens for example in examples),
                any(example.truncated for example in examples),
            ), one


def test_an_end_of_turn_that_the_template_lacks_is_named(audit: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["no end"]
    found = named(audit(clean(), tokenizer=tokenizer))
    assert "end_of_turn_masked" not in found  # it is added, and learnt
    told = found["unlike_inference"]
    assert (told.level, told.count, told.share) == ("warning", 60, 1.0)
    assert "would never stop" in told.examples[0].text


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
        "{% if 'Brief' in messages[0].content %}{{ raise_exception('No brevity') }}{% endif %}"
        + CHATML
    )
    rows = clean()
    rows[7] = Row(prompt=[{"role": "system", "content": "Brief."}, *rows[7].prompt],
                  completion=rows[7].completion)  # fmt: skip
    found = named(audit(rows, tokenizer=tokenizer))["template_refuses"]
    assert [example.row for example in found.examples] == [8]
    assert "No brevity" in found.examples[0].text


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


def test_pairs_that_a_reward_model_leaves_out_whole_are_named(audit: Any) -> None:
    rows = [
        Row(prompt=one.prompt, completion=one.completion,
            rejected=[{"role": "assistant", "content": "word " * (200 if at < 6 else 1)}])
        for at, one in enumerate(clean())
    ]  # fmt: skip
    found = audit(rows, "reward", max_length=128)
    assert (named(found)["too_long"].count, named(found)["too_long"].level) == (6, "warning")
    assert not {"truncated", "answer_cut_off", "no_trained_tokens"} & named(found).keys()
    assert found.tokens.trained == audit(rows[6:], "reward", max_length=128).tokens.trained
    assert named(audit(rows, "dpo", max_length=128))["answer_cut_off"].count == 6


def test_a_stage_that_samples_its_answers_has_no_share(audit: Any) -> None:
    assert audit(clean(), "grpo").trained_token_share is None


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
    long = "too_long" if stage == "rlhf" else "truncated"  # prompts that do not fit are left out
    assert {"exact_duplicates", "wrong_template", long} <= named(found).keys()


def test_memory_hardly_grows_with_the_rows(
    audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.data.audit.audit.BATCH_LETTERS", 20_000)
    rows = _plain_rows(4000)
    path = tmp_path / "rows.jsonl"

    def peak(count: int) -> int:
        asked = [
            {"prompt": one.prompt[0]["content"], "completion": completion_of(one)} for one in rows
        ]
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
