"""What is wrong with a chat template, told before a run depends on it.

A few short conversations are rendered in a child; what they became tells whether answers end,
whether training and asking show the model the same text, and what is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import Environment, nodes

from workers.data.tokenize.template_trial import Call, Rendered, TemplateTrial
from workers.protocol.browse import TemplateFinding

ASKED, SAID, THEN, AGAIN = "ask\ue001", "say\ue002", "next\ue003", "more\ue004"
RULE, THOUGHT, RESULT = "rule\ue005", "thought\ue006", "found\ue007"
TOOL = "lookup_weather"
"""Words that stand for turns; they mean nothing to a template."""
TOOLS: list[dict[str, Any]] = [{
    "type": "function",
    "function": {
        "name": TOOL, "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}},
                       "required": ["town"]},
    },
}]  # fmt: skip
CALLED = {"type": "function", "id": "call00001",
          "function": {"name": TOOL, "arguments": {"town": "Oslo"}}}  # fmt: skip
QUESTION = {"role": "user", "content": ASKED}
ANSWER = {"role": "assistant", "content": SAID}
FOLLOWED = [{"role": "user", "content": THEN}, {"role": "assistant", "content": AGAIN}]
CALLS = {
    "plain": Call([QUESTION, ANSWER]),
    "asked": Call([QUESTION], generation=True),
    "unasked": Call([QUESTION]),
    "followed": Call([QUESTION, ANSWER, *FOLLOWED]),
    "system": Call([{"role": "system", "content": RULE}, QUESTION, ANSWER]),
    "tools": Call([QUESTION, ANSWER], tools=TOOLS),
    "called": Call(
        [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALLED]},
         {"role": "tool", "name": TOOL, "tool_call_id": "call00001", "content": RESULT},
         ANSWER], tools=TOOLS,
    ),
    "thought": Call([QUESTION, {**ANSWER, **dict.fromkeys(
        ("reasoning_content", "reasoning", "thinking"), THOUGHT)}]),
    "thought inside": Call(
        [QUESTION, {**ANSWER, "content": f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"}]
    ),
}  # fmt: skip
"""The conversations that are rendered, by name."""
GIVEN = {
    "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token",
    "pad_token", "unk_token", "raise_exception", "strftime_now", "enable_thinking", "thinking",
    "reasoning_effort",
}  # fmt: skip
"""Variables that a template is handed."""
OF_JINJA = {"loop", "self", "caller", "varargs", "kwargs"}
"""Names that Jinja sets where they stand."""
MARK = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|</?s>")
GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
SHOWN = 40
"""Letters of a rendering that a finding quotes."""
Result = Mapping[str, Rendered]


def lint(
    template: str,
    trial: TemplateTrial,
    marks: dict[str, str],
    is_token: Callable[[str], bool] | None = None,
) -> list[TemplateFinding]:
    """What is wrong with a template, the worst first.

    Args:
        template: its Jinja text.
        trial: renders it.
        marks: the tokenizer's special tokens by name.
        is_token: whether a mark is one token of the model; not looked at where it is left out.
    """
    found = dict(zip(CALLS, trial.render(template, list(CALLS.values()), marks), strict=True))
    if found["plain"].fault:
        return [TemplateFinding(
            level="error",
            text=f"It does not render a question and its answer: {found['plain'].fault}",
            remedy="Mend that line.", line=found["plain"].line,
        )]  # fmt: skip
    checks = (
        _of_turns(found), _of_end(found, is_token), _of_prompt(found), _of_history(found),
        _of_system(found), _of_tools(found), _of_thinking(found), _of_names(template),
    )  # fmt: skip
    levels = ("error", "warning", "info")
    return sorted(
        (one for check in checks for one in check), key=lambda one: levels.index(one.level)
    )


def _error(text: str, remedy: str) -> TemplateFinding:
    return TemplateFinding(level="error", text=text, remedy=remedy)


def _warning(text: str, remedy: str, line: int = 0) -> TemplateFinding:
    return TemplateFinding(level="warning", text=text, remedy=remedy, line=line)


def _info(text: str, remedy: str = "") -> TemplateFinding:
    return TemplateFinding(level="info", text=text, remedy=remedy)


def _of_turns(found: Result) -> Iterator[TemplateFinding]:
    text = found["plain"].text
    for word, what in ((ASKED, "question"), (SAID, "answer")):
        if word not in text:
            yield _error(f"It does not write the {what}.",
                         "Write {{ message['content'] }} for every message.")  # fmt: skip


def _of_end(found: Result, is_token: Callable[[str], bool] | None) -> Iterator[TemplateFinding]:
    _, said, behind = found["plain"].text.rpartition(SAID)
    if not said:
        return
    if not behind.strip():
        yield _error(
            "Nothing ends an answer: the model would never learn to stop.",
            "Write {{ eos_token }}, or an end mark that the model knows, behind every answer.",
        )
        return
    mark = match[0] if (match := MARK.match(behind.lstrip())) else behind.strip()[:SHOWN]
    if is_token is not None and not is_token(mark):
        yield _warning(
            f"The end mark {mark} is no token of this model: it is spelt in pieces, at which "
            "generation cannot stop.",
            "Take a mark that the model has as one token, {{ eos_token }} for example.",
        )


def _of_prompt(found: Result) -> Iterator[TemplateFinding]:
    """Whether the model is asked with the text behind which it was taught to answer."""
    asked, plain = found["asked"], found["plain"].text
    if asked.fault:
        yield _error(
            f"It does not render a question alone: {asked.fault}",
            "The model is asked with add_generation_prompt set and no answer.",
        )
        return
    before = plain.partition(SAID)[0]
    if asked.text == before:
        return
    if not before.startswith(asked.text):
        yield _warning(
            f"The model is asked with other text than it learns to answer behind: "
            f"{_end(asked.text, before)} when asked, {_end(before, asked.text)} in training.",
            "Let add_generation_prompt write what stands before an answer, and nothing else.",
        )
        return
    head = before[len(asked.text) :]
    if asked.text == found["unasked"].text and head.strip():
        yield _warning(
            f"It does not write {_quoted(head)} when the model is asked, only before answers.",
            "End it with {% if add_generation_prompt %} and that text {% endif %}.",
        )
    else:
        yield _info(
            f"Before an answer it writes {_quoted(head)}, which is not written when the model is "
            "asked.",
            "That is learnt as a part of the answer, or masked; look at the tokens of a row.",
        )


def _of_history(found: Result) -> Iterator[TemplateFinding]:
    followed = found["followed"]
    if followed.fault:
        yield _warning(
            f"It refuses a second question: {followed.fault}",
            "Rows of more than one question are then refused.", followed.line,
        )  # fmt: skip
    elif not followed.text.startswith(found["plain"].text.rstrip()):
        yield _info(
            "It writes an answer otherwise once other turns follow it.",
            "Each answer is then trained as an example of its own, with the turns before it.",
        )


def _of_system(found: Result) -> Iterator[TemplateFinding]:
    system = found["system"]
    if system.fault:
        yield _warning(f"It refuses a system message: {system.fault}",
                       "Rows with one are then refused.", system.line)  # fmt: skip
    elif RULE not in system.text:
        yield _warning("It leaves out the system message.",
                       "Write it before the first question, or in a turn of its own.")  # fmt: skip


def _of_tools(found: Result) -> Iterator[TemplateFinding]:
    tools, called = found["tools"], found["called"]
    if tools.fault or TOOL not in tools.text:
        yield _info("It does not write which tools there are.",
                    "Rows with tools are then refused; write {{ tools | tojson }}.")  # fmt: skip
    elif called.fault:
        yield _warning(f"It refuses a call of a tool: {called.fault}",
                       "Rows in which a tool is called are then refused.", called.line)  # fmt: skip
    elif not all(word in called.text for word in ("Oslo", RESULT)):
        yield _warning("It leaves out what a tool was asked or what it found.",
                       "Write message['tool_calls'], and turns of the role tool.")  # fmt: skip


def _of_thinking(found: Result) -> Iterator[TemplateFinding]:
    if not any(THOUGHT in found[name].text for name in ("thought", "thought inside")):
        yield _info("It leaves out the thinking of an answer.",
                    "Rows whose thinking is to be learnt are then refused.")  # fmt: skip


def _of_names(template: str) -> Iterator[TemplateFinding]:
    """What its text tells without being rendered."""
    if "strftime_now" in template:
        yield _info("It writes the date; a run keeps the day on which it began.")
    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False)
    tree = environment.parse(GENERATION.sub("", template))
    names = list(tree.find_all(nodes.Name))
    made = {name.name for name in names if name.ctx != "load"}
    made |= {macro.name for macro in tree.find_all(nodes.Macro)}
    read = {name.name for name in names if name.ctx == "load"} - OF_JINJA
    for name in sorted(read - made - GIVEN - set(environment.globals)):
        if not re.search(rf"\b{re.escape(name)}\s+is\s+(not\s+)?defined\b", template):
            yield TemplateFinding(
                level="info", text=f"It reads {name}, which nothing sets: it counts as empty.",
                remedy="Correct its spelling, or ask whether it is defined.",
                line=_line_of(name, template),
            )  # fmt: skip


def _line_of(name: str, template: str) -> int:
    found = re.search(rf"\b{re.escape(name)}\b", template)
    return template.count("\n", 0, found.start()) + 1 if found else 0


def _end(text: str, other: str) -> str:
    """The end of a text, from where it differs from another."""
    shared = next(
        (at for at, (one, two) in enumerate(zip(text, other, strict=False)) if one != two),
        min(len(text), len(other)),
    )
    return _quoted(text[shared:]) if text[shared:] else "nothing more"


def _quoted(text: str) -> str:
    clean = text.translate({ord(letter): "…" for letter in "\ue001\ue002\ue003\ue004"})
    shown = clean if len(clean) <= SHOWN else f"{clean[:SHOWN]}…"
    return repr(shown)
