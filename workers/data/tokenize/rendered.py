"""A conversation and the texts that are made of it for training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.chat_template import Tools, render
from workers.data.tokenize.template_traits import is_led, traits_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""From the first character to the one behind the last."""

FOLDED = (
    "The chat template knows no system turn: its text stands before the first question, as it does "
    "at inference."
)


class Rendered(NamedTuple):
    """A text to train on, and where in it stands what is in the loss."""

    text: str
    spans: list[Span]
    source: str = "spans"
    """Which way its mask was made: generation, spans or per answer."""
    apart: int = 0
    """Letters of the prompt that is tokenized apart from the answer, as it is at inference, so that
    no token holds letters of both; 0 where all is tokenized as one."""
    turns: int | None = None
    """How many of the conversation's messages it holds; None for all."""
    thoughts: tuple[Span, ...] = ()
    """Where answers think, within the spans."""
    differences: tuple[str, ...] = ()
    """Where it differs from what the model reads and writes at inference, in sentences."""


class Conversation:
    """Messages with one tokenizer's template; keeps what was rendered."""

    def __init__(
        self, messages: list[Message], tokenizer: PreTrainedTokenizerBase, tools: Tools = ()
    ) -> None:
        self.messages = messages
        self.tokenizer: Any = tokenizer
        self.tools = tools
        self.differences = _differences(messages, tokenizer)
        self.thinks = False
        """Whether the prompt is to be one for an answer that thinks, as that of a pair is where one
        of its answers does."""
        self._texts: dict[tuple[int, bool], str] = {}

    def through(self, count: int) -> str:
        """The text of the first `count` messages.

        Raises:
            Refusal: the template does not take them.
        """
        return self._text(count, asked=False)

    def asked(self, count: int) -> str:
        """The prompt for the message behind the first `count`, as it is at inference.

        Raises:
            Refusal: the template does not take them.
        """
        return self._text(count, asked=True)

    def _text(self, count: int, *, asked: bool) -> str:
        key = (count, asked)
        if key not in self._texts:
            self._texts[key] = render(
                self.messages[:count], self.tokenizer, generation=asked, tools=self.tools
            )
        return self._texts[key]


def _differences(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    folded = is_led(messages) and traits_of(str(tokenizer.get_chat_template())).no_system
    return (FOLDED,) if folded else ()


def is_trained(message: Message) -> bool:
    """Whether a turn is in the loss: an answer is, unless its row says otherwise."""
    return message.get("train", message["role"] == "assistant")


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two sequences begin with in common."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
