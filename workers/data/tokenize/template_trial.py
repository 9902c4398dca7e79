"""Renders a foreign chat template in a child, where an endless loop can be broken off.

Jinja's sandbox keeps a template from Python's objects, but neither from looping for hours nor from
filling the memory. What rendered here in time is then taken in this process too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from workers.protocol.refusal import Refusal

SECONDS = 3.0
"""For all calls of one trial together."""
START_S = 60.0
"""For the child to import what renders."""
MEMORY_BYTES = 4 << 30
LONGEST_TEXT = 1 << 20
"""Letters of a rendering that are sent back."""
SLOW = f"It takes longer than {SECONDS:g} seconds, or more memory than there is: a loop never ends."
STAND_INS = {f"{mark}_token": f"<{mark}>" for mark in ("bos", "eos", "pad", "unk")}
"""Special tokens where no tokenizer is at hand."""
IN_TEMPLATE = "<template>"
"""What Jinja calls the file of a template given as text."""


class Call(NamedTuple):
    """One conversation to render."""

    messages: list[dict[str, Any]]
    generation: bool = False
    tools: Sequence[dict[str, Any]] = ()


class Rendered(NamedTuple):
    """What a template wrote, or why it could not."""

    text: str = ""
    fault: str = ""
    line: int = 0
    """Of the template, from 1; 0 where it is not known."""


class TemplateTrial:
    """One child that renders; started at the first trial and again after it had to be killed."""

    def __init__(self) -> None:
        self._child: Any = None
        self._pipe: Connection | None = None

    def close(self) -> None:
        if self._child is not None and self._pipe is not None:
            self._child.kill()
            self._child.join()
            self._pipe.close()
        self._child = self._pipe = None

    def render(self, template: str, calls: Sequence[Call], marks: dict[str, str]) -> list[Rendered]:
        """What a template writes for each call.

        Args:
            template: its Jinja text.
            calls: what to render; a call that fails costs that one alone.
            marks: the tokenizer's special tokens by name, `bos_token` for example.
        """
        pipe = self._started()
        with contextlib.suppress(EOFError, OSError):
            pipe.send((template, list(calls), marks))
            if pipe.poll(SECONDS):
                return pipe.recv()
        self.close()
        return [Rendered(fault=SLOW)] * len(calls)

    def _started(self) -> Connection:
        if self._pipe is not None:
            return self._pipe
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._child.start()
        theirs.close()
        ready = False
        with contextlib.suppress(EOFError, OSError):
            ready = self._pipe.poll(START_S) and self._pipe.recv()
        if not ready:
            self.close()
            raise Refusal(
                "The chat template cannot be tried.", "Its own process did not start.",
                "Try again; the log says more.",
            )  # fmt: skip
        return self._pipe


def check_renders(template: str, name: str, trial: TemplateTrial) -> None:
    """Refuses a template that does not render one question and its answer in time."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    (found,) = trial.render(template, [Call(messages)], STAND_INS)
    if found.fault:
        where = f" (line {found.line})" if found.line else ""
        raise Refusal(
            f"The chat template {name} does not render{where}.", found.fault,
            "Mend it in the template editor on the Data page, or choose another.",
        )  # fmt: skip


# In the child


def _serve(pipe: Connection) -> None:
    """Renders what comes, until the other end is gone."""
    from transformers.utils.chat_template_utils import render_jinja_template

    _bound()
    pipe.send(True)
    with contextlib.suppress(EOFError, OSError):
        while True:
            template, calls, marks = pipe.recv()
            pipe.send([_rendered(render_jinja_template, template, one, marks) for one in calls])


def _bound() -> None:
    """Bounds the memory; Windows has no such limit for one process."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > MEMORY_BYTES:
        with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and refuses it
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, most))


def _rendered(render: Any, template: str, call: Call, marks: dict[str, str]) -> Rendered:
    try:
        (text,), _ = render(
            conversations=[call.messages], tools=list(call.tools) or None,
            chat_template=template, add_generation_prompt=call.generation, **marks,
        )  # fmt: skip
    except MemoryError:
        return Rendered(fault=SLOW)
    except Exception as fault:  # templates raise what they like
        words = f"{fault}".strip() or type(fault).__name__
        return Rendered(fault=words[:500], line=_line_of(fault))
    if len(text) > LONGEST_TEXT:
        return Rendered(fault=f"It writes {len(text):,} letters for a short conversation.")
    return Rendered(text)


def _line_of(fault: Exception) -> int:
    """The line of a template at which it failed."""
    if named := getattr(fault, "lineno", 0):
        return int(named)
    line, trace = 0, fault.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == IN_TEMPLATE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
