"""The line before a chat template: thinking, effort and date for every program that renders it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from tests.workers.test_reasoning import STARTER, shipped
from workers.data.reader import Row
from workers.data.tokenize.chat_template import (
    CHATML,
    name_of,
    render,
    set_chat_template,
    think_by_data,
)
from workers.data.tokenize.reasoning import rendered
from workers.data.tokenize.template_head import (
    Defaults,
    defaults_of,
    for_answers,
    switches_of,
    with_defaults,
    without_defaults,
)
from workers.engines.tokenizer import load_tokenizer, read_tokenizer
from workers.protocol.refusal import Refusal

DAY = date(2026, 11, 21)
ASKED = [{"role": "user", "content": "Two and two?"}]
CLOSED, OPEN = "<think>\n\n</think>\n\n", "<think>\n"


@pytest.fixture
def tokenizer() -> Any:
    return read_tokenizer(STARTER)


def prompt(template: str, **variables: Any) -> str:
    return rendered(template, ASKED, add_generation_prompt=True, **variables)


@pytest.mark.parametrize(
    ("name", "on", "off"),
    [("qwen3", "assistant\n", CLOSED), ("qwen3_5_think", OPEN, CLOSED),
     ("nemotron_3_nano", OPEN, "<think></think>"), ("glm4moe", "<|assistant|>", "<think></think>")],
)  # fmt: skip
def test_a_template_asks_with_thinking_or_without(name: str, on: str, off: str) -> None:
    own = shipped(name)
    assert prompt(with_defaults(own, "on")).endswith(on)
    set_off = with_defaults(own, "off")
    assert prompt(set_off).endswith(off)
    assert prompt(set_off, enable_thinking=True) == prompt(own, enable_thinking=True)
    assert without_defaults(set_off) == own
    assert with_defaults(set_off) == set_off
    assert with_defaults(set_off, "on") == own  # which it does by itself


def test_every_template_renders_with_the_line_as_with_the_variables() -> None:
    for name in ("qwen3", "qwen3_8", "gptoss", "muse_glimmer", "gemma4", "nemotron_3_super"):
        own = shipped(name)
        known = switches_of(own)
        for level, theirs in {"": "", **known.levels}.items():
            given = dict.fromkeys(known.thinking, False) | ({known.effort: theirs} if level else {})
            today = with_defaults(own, today=DAY)
            set_so = with_defaults(own, "off", level, DAY)  # type: ignore[arg-type]
            assert prompt(set_so) == prompt(today, **given), (name, level)


def test_levels_of_effort_are_called_as_the_template_calls_them() -> None:
    assert switches_of(shipped("qwen3_8")).levels["high"] == "xhigh"
    assert "Reasoning: low" in prompt(with_defaults(shipped("gptoss"), effort="low"))


@pytest.mark.parametrize(("name", "shown"), [("llama3_2", "21 Nov 2026"), ("gptoss", "2026-11-21")])
def test_the_date_stays(name: str, shown: str) -> None:
    dated = with_defaults(shipped(name), today=DAY)
    assert shown in prompt(dated)
    later = with_defaults(dated, today=date(2027, 1, 1))
    assert later == dated


def test_the_line_takes_nothing_from_the_template() -> None:
    for start in ("\n x", "  {% if true %}y{% endif %}", "z"):
        own = start + "{{ enable_thinking }}"
        assert rendered(with_defaults(own, "off"), ASKED) == rendered(own, ASKED) + "False"


@pytest.mark.parametrize("thought", [True, False])
def test_the_prompt_is_the_beginning_of_what_is_learnt(thought: bool) -> None:
    thinking = {"reasoning_content": "2+2"} if thought else {}
    answer = {"role": "assistant", "content": "Four."} | thinking
    for name in ("qwen3", "qwen3_5_think", "qwen3_6", "glm4moe", "nemotron_3_nano"):
        template = for_answers(shipped(name), thought=thought)
        learnt = rendered(template, [*ASKED, answer])
        assert learnt.startswith(prompt(template)), name
        assert learnt[len(prompt(template)) :].lstrip("<think>\n").startswith("2+2") == thought


def test_what_an_earlier_run_has_set_gives_way_to_the_data(tokenizer: Any) -> None:
    tokenizer.chat_template = with_defaults(shipped("qwen3_5_think"), "off")
    answer = {"role": "assistant", "content": "Four.", "reasoning_content": "2+2"}
    thoughtful = Row(prompt=ASKED, completion=[answer])
    assert think_by_data(tokenizer, [thoughtful], "grpo") == ""  # it learns no answers
    assert defaults_of(tokenizer.chat_template) == Defaults("off")
    assert "model.thinking = 'off'" in think_by_data(tokenizer, [thoughtful], "sft")
    assert tokenizer.chat_template == shipped("qwen3_5_think")
    assert "model.thinking = 'on'" in think_by_data(tokenizer, [thoughtful], "sft", "drop")
    assert render(ASKED, tokenizer, generation=True).endswith(CLOSED)


def test_a_template_without_a_switch_stays_as_it_is(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    plain = Row(prompt=ASKED, completion=[{"role": "assistant", "content": "Four."}])
    assert think_by_data(tokenizer, [plain], "sft") == ""
    assert tokenizer.chat_template == CHATML
    for asked in ({"thinking": "on"}, {"effort": "low"}):
        with pytest.raises(Refusal, match="changes nothing"):
            load_tokenizer(STARTER, **asked)  # type: ignore[arg-type]


def test_effort_that_a_template_does_not_take_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ reasoning_effort if reasoning_effort in ('low', 'high') }}"
    assert set_chat_template(tokenizer, effort="low") == "own"
    with pytest.raises(Refusal, match="knows low, high alone"):
        set_chat_template(tokenizer, effort="medium")


def test_a_template_keeps_its_name(tokenizer: Any) -> None:
    assert name_of(f"{{#- set in fine-tuning: thinking=off -#}}\n{CHATML}") == "chatml"


@pytest.mark.parametrize("name", ["qwen3_5_think", "llama3_2", "gptoss", "glm4moe"])
def test_llama_cpp_renders_the_line_alike(name: str) -> None:
    """As llama-cpp-python does with the template of a GGUF file."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    template = with_defaults(shipped(name), "off", today=DAY)
    assert template != shipped(name)
    asked: Any = ASKED
    made = Jinja2ChatFormatter(template, eos_token="", bos_token="")(messages=asked)
    assert made.prompt == prompt(template)
