"""How a chat template takes the thinking that stands beside an answer, found by rendering one.

Templates read it under different names, or as a part of the content; where a template reads none,
the thinking is put at the head of the content, as DeepSeek-R1 writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from workers.data.schema.messages import Message
from workers.data.tokenize.template_traits import as_taken, rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "reasoning_content"
"""Where a turn of ours has its thinking."""
OURS = (KEY, "train")
"""Keys of a turn that no template is handed."""
NAMES = (KEY, "reasoning", "thinking", "thought")
"""Under which templates read thinking."""
COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
SAID, THOUGHT = "\ue000", "\ue001"
"""Stand for an answer and for its thinking; of no meaning to a template."""
PROBES: tuple[list[Message], ...] = (
    [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}],
    [{"role": "user", "content": "?"},
     {"role": "assistant", "content": SAID, "tool_calls": [
         {"type": "function", "function": {"name": "f", "arguments": {}}}]}],
)  # fmt: skip
"""What thinking is shown with: some templates write it before calls of tools alone."""

Form = Callable[[Message, str], Message]
"""From a turn without its thinking, and the thinking, to a turn as a template reads it."""


def as_handed(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[Message]:
    """The turns as the tokenizer's template reads them, without the keys that are ours alone."""
    template = tokenizer.get_chat_template()
    if any(key in turn for turn in messages for key in OURS):
        form = form_of(template)
        messages = [_handed(turn, form) for turn in messages]
    return as_taken(messages, template)


def _handed(turn: Message, form: Form) -> Message:
    bare = {key: value for key, value in turn.items() if key not in OURS}
    return form(bare, turn[KEY]) if turn.get(KEY) else bare


@lru_cache(maxsize=32)
def form_of(template: str) -> Form:
    """How a template reads thinking: as it shows it, else under a name that stands in its text.

    One that reads it and shows it under conditions alone drops it from the others: they are for
    the check of what was rendered.
    """
    text = COMMENT.sub("", template)
    read = [name for name in NAMES if re.search(rf"\.{name}\b|['\"]{name}['\"]", text)]
    forms = [_beside(name) for name in read] + [_in_parts] * ("thinking" in read)
    shown = (form for form in forms if any(_shows(template, form, probe) for probe in PROBES))
    return next(shown, forms[0] if forms else at_head)


def _shows(template: str, form: Form, probe: list[Message]) -> bool:
    question, answer = probe
    text = rendered(template, [question, form(answer, THOUGHT)])
    return THOUGHT in text and SAID in text


def _beside(name: str) -> Form:
    return lambda turn, thought: turn | {name: thought}


def _in_parts(turn: Message, thought: str) -> Message:
    """As a part of the content (Ministral 3)."""
    parts = [{"type": "thinking", "thinking": thought}]
    parts += [{"type": "text", "text": turn["content"]}] if turn["content"] else []
    return turn | {"content": parts}


def at_head(turn: Message, thought: str) -> Message:
    """Before the answer, between the tags that DeepSeek-R1 and Qwen3 write."""
    return turn | {"content": f"<think>\n{thought.strip()}\n</think>\n\n{turn['content']}"}
