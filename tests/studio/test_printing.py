"""What the verbs say of an audit."""

from __future__ import annotations

from typing import Any

import pytest

from studio.printing import print_audit, status_in_words
from studio.terminal import Terminal
from workers.protocol.audit import AuditExample, AuditFinding, AuditResult


def _said(capsys: pytest.CaptureFixture[str], **fields: Any) -> str:
    known: dict[str, Any] = {
        "source": "d.jsonl", "format": "chat", "stages": ["sft"], "stage": "sft", "rows": 3,
        "model": "starter", "bad": [], "bad_total": 0, "findings": [], "seconds": 0.1,
        "trained_token_share": None, "tokens": None,
    }  # fmt: skip
    terminal = Terminal(json=False)
    terminal.out.width = 400
    print_audit(terminal, AuditResult(**(known | fields)))
    told = capsys.readouterr()
    return f"{told.out}\n{told.err}"


def test_why_the_template_takes_no_row_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [AuditExample(row=row, text="It leaves out tools.") for row in (1, 2)]
    finding = AuditFinding(
        kind="template_refuses", level="alarm", count=3, share=1.0, examples=examples,
        meaning="The template does not take them.", remedy="Choose another.",
    )  # fmt: skip
    said = _said(capsys, findings=[finding])
    assert said.count("It leaves out tools.") == 1
    assert "Rows 1, 2." in said


def test_nothing_was_looked_for_where_no_row_can_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "No findings." in _said(capsys)
    assert "No findings." not in _said(capsys, rows=0, format=None, stages=[], stage=None)


def test_a_run_that_waits_for_a_card_says_so_in_place_of_its_status() -> None:
    waits = {"status": "running", "phase": "Waiting for the GPU: small is training"}
    assert status_in_words(waits) == "waiting for the GPU: small is training"
    assert status_in_words({"status": "running", "phase": "Training"}) == "running"
