"""What shows in a single row: left-overs in its text, an answer that is none, a pair of equals."""

from __future__ import annotations

from workers.data.audit.completions import (
    agrees,
    asks_something,
    in_question,
    is_empty,
    is_unclosed,
)
from workers.data.audit.findings import Findings
from workers.data.audit.text_checks import personal_data, placeholder
from workers.data.schema.row import Row
from workers.data.tokenize.template_marks import template_marks


def check_text(findings: Findings, at: int, text: str, digits: int, own: str | None) -> None:
    """Looks for what must not stand in a row's text.

    Args:
        digits: how many the text has.
        own: the model's template, whose marks may stand in text that is rendered already.
    """
    if family := template_marks(text, own):
        findings.add("wrong_template", at, f"{family}: {text}")
    if blank := placeholder(text):
        findings.add("template_literal", at, f"{blank}: {text}")
    if kind := personal_data(text, digits):
        findings.add("personal_data", at, kind)  # not the data itself


def check_reference(findings: Findings, at: int, row: Row) -> None:
    """Looks whether a row's question gives its reference answer away."""
    if in_question(row):
        asked = row.prompt[-1]["content"]
        findings.add("answer_in_question", at, f"{row.answer} stands in: {asked}")


def check_answer(findings: Findings, at: int, row: Row) -> None:
    """Looks at a row's completion, unless it is labelled undesirable."""
    text = row.completion[-1]["content"]
    if row.label is False:
        return
    if not asks_something(row.prompt):
        findings.add("missing_prompt", at, text)
    if "think>" in text and is_unclosed(text):
        findings.add("unclosed_thinking", at, text)
    if is_empty(text) and "tool_calls" not in row.completion[-1]:
        findings.add("empty_answer", at, text)
    if row.answer and "\\boxed" in text and not agrees(text, row.answer):
        findings.add("answer_not_in_completion", at, f"{row.answer} is not in: {text}")
