"""What is said of chat templates: by hand-written ones with one fault each, and by real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from workers.data.tokenize.chat_template import TEMPLATES
from workers.data.tokenize.lint import lint
from workers.data.tokenize.template_trial import STAND_INS, TemplateTrial
from workers.protocol.browse import TemplateFinding
from workers.protocol.templates import template_text

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
SOUND = TURNS + ASK


@pytest.fixture(scope="module")
def trial() -> Iterator[TemplateTrial]:
    with closing(TemplateTrial()) as made:
        yield made


def _said(template: str, trial: TemplateTrial) -> dict[str, TemplateFinding]:
    return {one.text: one for one in lint(template, trial, STAND_INS)}


def test_a_sound_template_is_told_nothing_but_that_it_knows_no_tools(trial: TemplateTrial) -> None:
    assert list(_said(SOUND, trial)) == ["It does not write which tools there are."]


@pytest.mark.parametrize(
    ("template", "level", "text", "line"),
    [
        ("{% for m in messages %}\n{{ m.content ", "error", "It does not render a question", 2),
        (TURNS.replace("{{ eos_token }}", "") + ASK, "error", "Nothing ends an answer", 0),
        ("{{ messages[0].content }}</s>" + ASK, "error", "It does not write the answer.", 0),
        (TURNS, "warning", "It does not write '<|assistant|>' when the model is asked", 0),
        (TURNS + ASK.replace("<|assistant|>", "<|assistant|><think>\n"), "warning",
         "The model is asked with other text than it learns to answer behind: '<think>\\n' when "
         "asked, nothing more in training.", 0),
        ("{% if messages[0].role == 'system' %}\n{{ raise_exception('no system') }}{% endif %}"
         + SOUND, "warning", "It refuses a system message: no system", 2),
        (SOUND.replace("in messages %}", "in messages if m.role != 'system' %}"), "warning",
         "It leaves out the system message.", 0),
        ("{% if messages | length > 3 %}{{ raise_exception('one only') }}{% endif %}" + SOUND,
         "warning", "It refuses a second question: one only", 1),
        (SOUND.replace("eos_token }}", "eos_token if loop.last else '<|end|>' }}"), "info",
         "It writes an answer otherwise once other turns follow it.", 0),
        (SOUND.replace("m.content", "m.content.split('</think>')[-1]"), "info",
         "It leaves out the thinking of an answer.", 0),
        (SOUND + "{# #}\n{% if debgu %}x{% endif %}", "info", "It reads debgu", 3),
        (SOUND + "{% if false %}{{ strftime_now('%d') }}{% endif %}", "info",
         "It writes the date", 0),
        (SOUND + "{% if tools %}{{ tools | tojson }}{% endif %}", "warning",
         "It leaves out what a tool was asked or what it found.", 0),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_its_line(
    trial: TemplateTrial, template: str, level: str, text: str, line: int
) -> None:
    told = {said: one for said, one in _said(template, trial).items() if said.startswith(text)}
    assert [(one.level, one.line) for one in told.values()] == [(level, line)]
    assert all(one.remedy for one in told.values()) or "date" in text


def test_an_end_that_is_spelt_in_pieces_is_told(trial: TemplateTrial) -> None:
    def told(template: str) -> list[str]:
        found = lint(template, trial, STAND_INS, is_token={"<eos>", "<|im_end|>"}.__contains__)
        return [one.text for one in found if "end mark" in one.text]

    assert told(SOUND) == told(TEMPLATES["chatml"].text) == []
    assert "The end mark <|eot_id|> is no token" in told(TEMPLATES["llama-3"].text)[0]


def test_no_template_of_ours_has_a_fault(trial: TemplateTrial) -> None:
    for written in TEMPLATES.values():
        assert {one.level for one in lint(written.text, trial, STAND_INS)} == {"info"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen3", "It writes an answer otherwise once other turns follow it."),
        ("gptoss", "It writes an answer otherwise once other turns follow it."),
        ("deepseek_r1_distill", "It leaves out the thinking of an answer."),
        ("deepseek_r1_distill", "The model is asked with other text than it learns to answer "
                                "behind: '<think>\\n' when asked, nothing more in training."),
        ("llama3_2", "It writes the date; a run keeps the day on which it began."),
        ("gemma", "It refuses a system message: System role not supported"),
    ],
)  # fmt: skip
def test_real_templates_are_told_apart(trial: TemplateTrial, name: str, text: str) -> None:
    assert text in _said(template_text(f"trl:{name}"), trial)
