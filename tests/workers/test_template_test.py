"""Trying a chat template that is being written: a row's tokens, faults with their line, lint."""

from __future__ import annotations

import pytest

from tests.workers.opened import ROWS, Look, Open
from workers.data.tokenize import template_trial
from workers.data.tokenize.chat_template import CHATML
from workers.protocol.events import TemplateShown, TemplateTried
from workers.protocol.requests import ShowTemplate, TryTemplate

LINES = (
    "{% for message in messages %}\n"
    "<|im_start|>{{ message.role }}: {{ message.content }}<|im_end|>\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)


def _tried(look: Look, jinja: str, row: int = 3, text: str = "") -> TemplateTried:
    return look.ask(TryTemplate(row=row, jinja=jinja, text=text), TemplateTried)


def test_a_template_is_shown_by_its_name(opened: Open) -> None:
    look = opened(ROWS)
    own = look.ask(ShowTemplate(), TemplateShown)
    assert (own.template, "messages" in own.jinja, own.reason) == ("auto", True, "")
    assert look.ask(ShowTemplate(template="chatml"), TemplateShown).jinja == CHATML
    assert "<think>" in look.ask(ShowTemplate(template="trl:qwen3"), TemplateShown).jinja
    assert (
        "no chat template 'qwen9'" in look.ask(ShowTemplate(template="qwen9"), TemplateShown).reason
    )


def test_a_row_is_shown_as_the_written_template_makes_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = opened(ROWS)
    tried = _tried(look, LINES)
    view = tried.views[0]
    text = "".join(piece.text for piece in view.pieces)
    assert text == (
        f"<|im_start|>user: {ROWS[3]['prompt']}<|im_end|>\n"
        "<|im_start|>assistant: It is 4: ü, 数.<|im_end|>\n"
    )
    assert "".join(piece.text for piece in view.pieces if piece.trained).startswith("It is 4")
    assert [one.level for one in tried.findings] == ["info"]
    edited = _tried(look, LINES, text='{"prompt": "Another?", "completion": "Yes."}')
    assert "Another?" in "".join(piece.text for piece in edited.views[0].pieces)

    broken = _tried(look, LINES.replace("endfor", "endfro"))
    assert (broken.views, broken.line, "endfro" in broken.reason) == ([], 3, True)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(template_trial, "SECONDS", 0.3)
    assert "loop never ends" in _tried(look, endless).reason
    monkeypatch.undo()

    assert look.view(3).template == "own"  # the tokenizer is as it was
    assert _tried(look, LINES).views == [view]


def test_rows_without_turns_and_faulty_rows_are_told(opened: Open) -> None:
    look = opened([{"text": "Once upon a time."}])
    assert "plain text" in _tried(look, LINES, row=0).reason
    assert "The row cannot be used" in _tried(look, LINES, row=0, text="{").reason
