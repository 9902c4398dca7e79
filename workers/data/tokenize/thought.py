"""Thinking in the texts of chat templates: what marks it, and whether a prompt opens it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.reasoning import KEY, at_head, form_of
from workers.protocol.recipe import Reasoning

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKS = (
    ("<think>", "</think>"),
    ("<|channel>thought", "<channel|>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
)
"""What templates write around thinking, from DeepSeek-R1's on; each as its template has it."""
State = Literal["none", "open", "closed"]


class Head(NamedTuple):
    """The part of a prompt that begins an answer."""

    text: str
    """Without the thought."""
    state: State
    """Whether a thought is open at its end, or an empty one was closed."""
    marks: tuple[str, str] = MARKS[0]


class Block(NamedTuple):
    """The thought at the beginning of an answer as a template writes it."""

    thought: str
    closing: str
    """From the closing mark on."""
    behind: str
    """Behind the closing mark, white space included."""


def head_of(prompt: str) -> Head:
    """Tells a thought that a generation prompt opens, or that it skips, from what precedes it."""
    written = prompt.rstrip()
    for opener, closer in MARKS:
        if written.endswith(opener):
            return Head(written.removesuffix(opener), "open", (opener, closer))
        if written.endswith(closer):
            begin = written.rfind(opener)
            text = written[:begin] if begin >= 0 else written.removesuffix(closer)
            return Head(text, "closed", (opener, closer))
    return Head(prompt, "none")


def block_of(answer: str, marks: tuple[str, str] | None = None) -> Block | None:
    """The thought at an answer's beginning, which may be empty or closed without being opened."""
    bare = answer.lstrip()
    for opener, closer in [marks] if marks else MARKS:
        if not bare.startswith((opener, closer)):
            continue
        at = bare.find(closer)
        if at >= 0:
            thought = bare[:at].removeprefix(opener).strip()
            return Block(thought, bare[at:], bare[at + len(closer) :])
    return None


def split_thought(message: Message) -> tuple[str, str]:
    """An answer's thinking, wherever its row has it, and what it says behind that."""
    content = message["content"]
    if message.get(KEY):
        return message[KEY].strip(), content
    block = block_of(content, MARKS[0])
    return (block.thought, block.behind.lstrip()) if block else ("", content)


def any_thinks(answers: Iterable[list[Message]], reasoning: Reasoning = "learn") -> bool:
    """Whether one of the answers to a prompt thinks, and its thinking is kept."""
    return reasoning != "drop" and any(split_thought(answer[-1])[0] for answer in answers)


def as_learnt(
    messages: list[Message], reasoning: Reasoning, tokenizer: PreTrainedTokenizerBase
) -> list[Message]:
    """The turns as they go to the template: without thinking where it is dropped, and with it
    beside the content where the template reads it there, an empty thought left out."""
    if not any("</think>" in turn["content"] or KEY in turn for turn in messages):
        return messages
    if reasoning == "drop":
        return [_without(turn) for turn in messages]
    beside = form_of(str(tokenizer.get_chat_template())) is not at_head
    return [_beside(turn) for turn in messages] if beside else messages


def _without(turn: Message) -> Message:
    if turn["role"] != "assistant":
        return turn
    bare = {key: value for key, value in turn.items() if key != KEY}
    return bare | {"content": split_thought(turn)[1]}


def _beside(turn: Message) -> Message:
    if turn["role"] != "assistant" or KEY in turn:
        return turn
    thought, said = split_thought(turn)
    return turn | {"content": said} | ({KEY: thought} if thought else {})
