"""A line of Jinja before a chat template: values for the variables that callers leave out.

Every program that renders the template, ours and foreign ones, then asks the model as it was
trained: whether it thinks, how long, and on which date. What the line says stands in its comment,
from which it is read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.reasoning import COMMENT, SAID, THOUGHT, form_of, rendered
from workers.protocol.recipe import Effort, Thinking
from workers.protocol.refusal import Refusal

HEAD = re.compile(r"\{#- set in fine-tuning: (?P<said>[^#\n]*) -#\}[^\n]*\n")
SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "reasoning": (True, False),
    "thinking_option": ("on", "off"),
    "thinking_mode": ("enabled", "disabled"),
}
"""Variables by which templates let a model think or not, with their values for both: Qwen, Gemma 4
and GLM; Granite and DeepSeek; Cohere; Ling; MiniMax."""
EFFORTS = ("reasoning_effort", "reasoning_strength", "thinking_effort")
"""Variables that say how long a model thinks: gpt-oss and Qwen; Muse; Kimi."""
LEVELS = {"low": ("low",), "medium": ("medium",), "high": ("high", "xhigh", "max")}
"""What templates call the levels of a recipe; the first one that they take counts."""
CLOCK = re.compile(r"strftime_now\(\s*(['\"])(?P<format>[^'\"]+)\1\s*\)")
ASKED: tuple[list[Message], ...] = (
    [{"role": "user", "content": "?"}],
    [{"role": "system", "content": "!"}, {"role": "user", "content": "?"}],
)


class Defaults(NamedTuple):
    """What the line before a template says; empty where it says nothing."""

    thinking: str = ""
    effort: str = ""
    date: str = ""
    """ISO 8601."""


class Switches(NamedTuple):
    """What can be set in a template, found by rendering a question with each value."""

    thinking: tuple[str, ...]
    """The variables that let the model think or not; none where it has no switch."""
    thinks: bool | None
    """Whether it does where nothing is said; None where neither value gives the same text."""
    effort: str
    """The variable of the effort; empty where there is none."""
    levels: dict[str, str]
    """A recipe's levels of effort, as the template calls them."""


def without_defaults(template: str) -> str:
    """The template's own text."""
    return HEAD.sub("", template, count=1) if HEAD.match(template) else template


def defaults_of(template: str) -> Defaults:
    """What the line before a template says."""
    found = HEAD.match(template)
    said = found["said"].split(", ") if found else []
    return Defaults(**dict(one.split("=", 1) for one in said))


def check_switches(template: str, thinking: Thinking = "auto", effort: Effort = "") -> None:
    """Refuses what a template has no variable for.

    Raises:
        Refusal: `thinking` or `effort` is asked for and would change nothing.
    """
    known = switches_of(without_defaults(template))
    if thinking != "auto" and not known.thinking:
        raise Refusal(
            f"model.thinking = '{thinking}' changes nothing: the model's chat template has no "
            "switch for thinking.",
            f"It reads none of {', '.join(SWITCHES)}: this model always thinks, or never does.",
            "Set model.thinking = 'auto'. What it learns decides: training.reasoning = 'drop' "
            "takes the thinking out of the answers.",
        )
    if effort and effort not in known.levels:
        levels = ", ".join(reversed(known.levels))
        raise Refusal(
            f"model.reasoning_effort = '{effort}' changes nothing: the model's chat template "
            f"{f'knows {levels} alone' if levels else 'has no levels of effort'}.",
            f"Levels stand in {', '.join(EFFORTS)}, where a template reads one of them.",
            f"Set model.reasoning_effort to {' or '.join(reversed(known.levels)) or 'nothing'}.",
        )


def values_for(template: str, thinking: Thinking) -> dict[str, Any]:
    """The variables that let a model think or not; none for auto, or where there is no switch."""
    if thinking == "auto":
        return {}
    names = switches_of(without_defaults(template)).thinking
    return {name: SWITCHES[name][thinking == "off"] for name in names}


def mode_of(template: str) -> str:
    """Whether a template lets the model think where nothing is asked for, on or off; empty where it
    has no switch."""
    known, said = switches_of(without_defaults(template)), defaults_of(template).thinking
    if not known.thinking:
        return ""
    return said or ("off" if known.thinks is False else "on")


def for_answers(template: str, *, thought: bool) -> str:
    """The template in the mode in which answers are learnt, with thinking or without.

    The switch is set so, unless the template's own mode alone lets a prompt be the beginning of
    the text that is trained on.
    """
    own, said = without_defaults(template), defaults_of(template)
    set_so = _headed(own, Defaults("on" if thought else "off"))
    ours = _begins(own, thought) and not _begins(set_so, thought)
    return _headed(own, said._replace(thinking="" if ours else "on" if thought else "off"))


def _begins(template: str, thought: bool) -> bool:
    """Whether the prompt of an answer is the beginning of the text with the answer."""
    question, answer = ASKED[0][0], {"role": "assistant", "content": SAID}
    turn = form_of(template)(answer, THOUGHT) if thought else answer
    asked = rendered(template, [question], add_generation_prompt=True)
    return rendered(template, [question, turn]).startswith(asked)


def with_defaults(
    template: str, thinking: Thinking = "auto", effort: Effort = "", today: date | None = None
) -> str:
    """The template with a line before it, or none where nothing is to be said.

    Args:
        template: perhaps with a line already, which counts for what is left out here.
        thinking: auto keeps what is said so far.
        effort: empty keeps what is said so far.
        today: the date that it gives from now on, unless one is said already.
    """
    own, said = without_defaults(template), defaults_of(template)
    mode = thinking if thinking != "auto" else said.thinking
    day = said.date or (today.isoformat() if today else "")
    return _headed(own, Defaults(mode, effort or said.effort, day))


def _headed(own: str, wanted: Defaults) -> str:
    """The template with a line that says what it knows of and does not do by itself."""
    known = switches_of(own)
    usual = not known.thinking or known.thinks == (wanted.thinking == "on")
    wanted = Defaults(
        "" if usual else wanted.thinking,
        wanted.effort if wanted.effort in known.levels else "",
        wanted.date if CLOCK.search(own) else "",
    )
    if not any(wanted):
        return own
    told = ", ".join(f"{name}={value}" for name, value in wanted._asdict().items() if value)
    line = "".join(_statements(own, wanted))
    if not own[:1].isspace():  # which the last tag would take along
        line = line.removesuffix("%}") + "-%}"
    return f"{{#- set in fine-tuning: {told} -#}}{line}\n{own}"


def _statements(own: str, wanted: Defaults) -> Iterator[str]:
    known = switches_of(own)
    values: dict[str, Any] = {}
    if wanted.thinking:
        mode: Thinking = "off" if wanted.thinking == "off" else "on"
        values |= values_for(own, mode)
    if wanted.effort:
        values[known.effort] = known.levels[wanted.effort]
    yield from (_unless_given(name, value) for name, value in values.items())
    if wanted.date:
        yield _clock(own, datetime.combine(date.fromisoformat(wanted.date), time()))


def _unless_given(name: str, value: Any) -> str:
    literal = {True: "true", False: "false"}.get(value) or f"'{value}'"
    return f"{{% if {name} is not defined %}}{{% set {name} = {literal} %}}{{% endif %}}"


def _clock(own: str, moment: datetime) -> str:
    """A `strftime_now` that always gives the same day, in the formats that the template asks for.

    https://huggingface.co/docs/transformers/chat_templating_writing
    """
    formats = dict.fromkeys(found["format"] for found in CLOCK.finditer(own))
    cases = "".join(
        f"{{% {'elif' if at else 'if'} format == '{one}' %}}{moment.strftime(one)}"
        for at, one in enumerate(formats)
    )
    return f"{{% macro strftime_now(format) %}}{cases}{{% endif %}}{{% endmacro %}}"


@lru_cache(maxsize=32)
def switches_of(template: str) -> Switches:
    """What can be set in a template."""
    own = without_defaults(template)
    text = COMMENT.sub("", own)
    names = [name for name in SWITCHES if re.search(rf"\b{name}\b", text)]
    names = [name for name in names if len({_asked(own, {name: to}) for to in SWITCHES[name]}) > 1]
    on, off = ({name: SWITCHES[name][to] for name in names} for to in (0, 1))
    usual = _asked(own, {})
    thinks = next(
        (mode for mode, to in ((True, on), (False, off)) if _asked(own, to) == usual), None
    )
    for effort in EFFORTS:
        levels = _levels(own, effort, on) if effort in text else {}
        if levels:
            return Switches(tuple(names), thinks, effort, levels)
    return Switches(tuple(names), thinks, "", {})


def _levels(own: str, name: str, on: dict[str, Any]) -> dict[str, str]:
    """The levels that a template takes; none where they make no difference."""
    shown = {
        (level, theirs): _asked(own, {**on, name: theirs})
        for level, called in LEVELS.items()
        for theirs in called
    }
    differ = len({text for text in shown.values() if any(text)}) > 1
    taken = [key for key, text in shown.items() if any(text) and differ]
    return dict(reversed(taken))


def _asked(template: str, variables: dict[str, Any]) -> tuple[str, ...]:
    """Questions as a model is asked them."""
    return tuple(
        rendered(template, talk, add_generation_prompt=True, **variables) for talk in ASKED
    )
