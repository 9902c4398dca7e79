"""Tries a chat template that is being written, on a row and on what lint looks at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from workers.data.reader import Row
from workers.data.tokenize.chat_template import CHATML, TEMPLATES, is_one_token
from workers.data.tokenize.lint import lint
from workers.data.tokenize.template_head import without_defaults
from workers.data.tokenize.template_trial import Call, TemplateTrial
from workers.data.tokenize.token_view import TokenViewer
from workers.protocol.events import TemplateTried
from workers.protocol.recipe import Stage
from workers.protocol.templates import AUTO, LONGEST, template_text

FILE = "being-written.jinja"
TOO_LONG = f"It is longer than {LONGEST >> 10} kB; no template needs that much."

PLAIN = "This row is plain text, which no chat template touches."


class LoadedTokenizer(NamedTuple):
    """A tokenizer and the end tokens that the model's generation knows besides its own."""

    tokenizer: Any
    stops_at: list[int]


class TemplateTest:
    """Keeps one tokenizer for each model, and the child that renders.

    Args:
        load: reads a model's tokenizer; raises `Refusal` where there is none.
        folder: where the template is kept while it is tried.
        thought: whether the data has thinking, which decides what `auto` thinking is.
    """

    def __init__(
        self, load: Callable[[str], LoadedTokenizer], folder: Path, *, thought: bool
    ) -> None:
        self._load = load
        self._thought = thought
        self._folder = folder
        self._trial = TemplateTrial()
        self._loaded: dict[str, tuple[LoadedTokenizer, Any, Any]] = {}

    def close(self) -> None:
        self._trial.close()

    def text(self, model: str, template: str) -> str:
        """The Jinja text of a template by its name; of `auto` the model's own, without the defaults
        that a run has put before it."""
        if template in TEMPLATES:
            return TEMPLATES[template].text
        if template != AUTO:
            return template_text(template)
        own = self._fresh(model).tokenizer.chat_template
        return without_defaults(str(own)) if own else CHATML

    def try_on(
        self, row: Row, number: int, jinja: str, model: str, stage: Stage, max_length: int
    ) -> TemplateTried:
        """Renders a row with a template, in the child first.

        Raises:
            Refusal: the stage cannot learn from the row, or training would refuse it.
        """
        if len(jinja.encode()) > LONGEST:
            return TemplateTried(row=number, reason=TOO_LONG)
        loaded = self._fresh(model)
        marks = {
            name: mark for name, mark in loaded.tokenizer.special_tokens_map.items()
            if isinstance(mark, str)
        }  # fmt: skip
        findings = lint(
            jinja, self._trial, marks, lambda mark: is_one_token(loaded.tokenizer, mark)
        )
        if not row.messages:
            return TemplateTried(row=number, reason=PLAIN, findings=findings)
        turns = [{key: turn[key] for key in turn if key != "train"} for turn in row.messages]
        call = Call(turns, tools=row.tools)
        (rendered,) = self._trial.render(jinja, [call], marks)
        if rendered.fault:
            others = [one for one in findings if rendered.fault not in one.text]
            return TemplateTried(
                row=number, reason=rendered.fault, line=rendered.line, findings=others
            )
        path = self._folder / FILE
        path.write_text(jinja, encoding="utf-8")
        viewer = TokenViewer(loaded.tokenizer, str(path), loaded.stops_at, thought=self._thought)
        views = viewer.views(row, number, stage, max_length)
        return TemplateTried(row=number, views=views, findings=findings)

    def _fresh(self, model: str) -> LoadedTokenizer:
        """The model's tokenizer as it lies in its folder: trials change its template and end."""
        if model not in self._loaded:
            made = self._load(model)
            self._loaded[model] = made, made.tokenizer.chat_template, made.tokenizer.eos_token
        made, template, end = self._loaded[model]
        with contextlib.suppress(ValueError):
            made.tokenizer.eos_token = end
        made.tokenizer.chat_template = template
        return made
