"""What a model said, as text: its thinking between <think> and </think>, however it was marked.

A prompt may have opened the thought, so that the completion begins inside it, and templates have
other marks, some of them special tokens. Rewards and measures read one form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.reasoning import KEY, SAID, THOUGHT, form_of, rendered
from workers.data.tokenize.template_head import ASKED, with_defaults
from workers.data.tokenize.thought import MARKS, head_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENING, CLOSING = MARKS[0]


def completion_text(ids: list[int], prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A completion's text without special tokens, its thinking in the form that rewards know.

    Args:
        ids: its tokens, the one that ends it perhaps among them.
        prompt: what it completes, or the end of that, special tokens included.
    """
    this: Any = tokenizer
    opening, closing, lead = marks_of(str(tokenizer.get_chat_template()))
    if CLOSING in closing and not _is_special(CLOSING, this):
        head = head_of(prompt)
        opened = prompt[len(head.text) :] if head.state == "open" else ""
        return opened + this.decode(ids, skip_special_tokens=True)
    raw = str(this.decode(ids, skip_special_tokens=False)).lstrip()
    if not (raw.startswith(opening) or prompt.rstrip().endswith(opening)):
        return "" if _begun(raw, opening, lead) else _bare(raw.removeprefix(lead), tokenizer)
    thought, closed, said = raw.removeprefix(opening).partition(closing)
    if not closed:
        thought = _without_begun(thought, closing)
    shown = f"{OPENING}\n{_bare(thought, tokenizer).strip()}"
    return f"{shown}\n{CLOSING}\n\n{_bare(said, tokenizer).lstrip()}" if closed else shown


def answer_turn(text: str, tokenizer: PreTrainedTokenizerBase) -> Message:
    """A completion's text as a turn: its thinking stands apart where the template marks it
    otherwise, and where it reads it there."""
    turn: Message = {"role": "assistant", "content": text}
    template = str(tokenizer.get_chat_template())
    if CLOSING in marks_of(template).closing or not text.startswith(OPENING):
        return turn
    thought, _, said = text.removeprefix(OPENING).partition(CLOSING)
    return turn | {"content": said.lstrip(), KEY: thought.strip()}


def cut_while_thinking(text: str, *, truncated: bool) -> bool:
    """Whether a completion came to its longest length before it came to its answer."""
    return truncated and text.rfind(OPENING) > text.rfind(CLOSING)


class Marks(NamedTuple):
    """What a template writes around thinking and answers; white space is left out."""

    opening: str
    closing: str
    """Between the thinking and the answer."""
    lead: str
    """Before an answer without thinking; empty where the prompt has it."""


@lru_cache(maxsize=32)
def marks_of(template: str) -> Marks:
    """Found by rendering; of a template that shows no thinking in a last answer, the known marks
    that stand in its text."""
    on = with_defaults(template, "on")
    question, answer = ASKED[0][0], {"role": "assistant", "content": SAID}
    text = rendered(on, [question, form_of(template)(answer, THOUGHT)])
    asked = rendered(on, [question], add_generation_prompt=True)
    plain = rendered(on, [question, answer]).partition(SAID)[0]
    lead = plain[len(asked.rstrip()) :].strip() if plain.startswith(asked.rstrip()) else ""
    before, _, rest = text.partition(THOUGHT)
    closing, found, _ = rest.partition(SAID)
    if not found or not before.startswith(asked.rstrip()):
        known = next((marks for marks in reversed(MARKS) if marks[0] in template), MARKS[0])
        return Marks(*known, lead)
    opening = before[len(asked.rstrip()) :].strip() or asked[len(head_of(asked).text) :].strip()
    return Marks(opening, closing.strip(), lead)


def _begun(raw: str, *marks: str) -> bool:
    """Whether there is no more of it yet than the beginning of a mark."""
    return any(mark.startswith(raw.rstrip()) and mark != raw for mark in marks)


def _without_begun(thought: str, closing: str) -> str:
    """A thought without the beginning of the mark that ends it."""
    lengths = range(min(len(closing), len(thought)), 0, -1)
    begun = next((n for n in lengths if thought.endswith(closing[:n])), 0)
    return thought[: len(thought) - begun]


def _is_special(mark: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a mark is lost where special tokens are left out, as in Phi-4's reasoning models."""
    tokens = tokenizer.added_tokens_decoder.values()
    return any(token.special and token.content == mark for token in tokens)


def _bare(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A text without the special tokens in it."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, "")
    return text
