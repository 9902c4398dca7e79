"""From a conversation to token ids and labels, by the model's own chat template.

Labels are the token's id where it is trained and -100 where it is only read (PyTorch's
`ignore_index`). Only the assistant's tokens are trained, its end-of-turn token among them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from workers.data.formats import Message
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
Span = tuple[int, int]
Tools = Sequence[dict[str, Any]]
"""Definitions of tools, as a template takes them."""


class Example(msgspec.Struct, frozen=True):
    """One tokenized row; `input_ids` and `labels` are equally long."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def trained_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Layout(msgspec.Struct, frozen=True):
    """A row as text and as tokens; ids, labels and offsets are equally long."""

    text: str
    input_ids: list[int]
    labels: list[int]
    offsets: list[Span]
    """Where each token stands in the text."""

    def cut(self, max_length: int) -> Example:
        """The first `max_length` tokens."""
        ids, labels = self.input_ids[:max_length], self.labels[:max_length]
        return Example(ids, labels, truncated=len(self.input_ids) > max_length)


def tokenize(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    assistant_only: bool = True,
    tools: Tools = (),
) -> Example:
    """Renders, tokenizes and masks a conversation, cut at `max_length` tokens from the start.

    Raises:
        Refusal: the template rewrites earlier turns, so that answers cannot be told apart, or
            leaves out tools that were called.
    """
    return lay_out(messages, tokenizer, assistant_only, tools).cut(max_length)


def lay_out(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    assistant_only: bool = True,
    tools: Tools = (),
) -> Layout:
    """As `tokenize`, before the cut."""
    text = render(messages, tokenizer, tools=tools)
    check_tools(messages, tools, text)
    ids, offsets = encode(text, tokenizer)
    if assistant_only:
        labels = _mask(ids, offsets, assistant_spans(messages, text, tokenizer, tools))
    else:
        labels = list(ids)
    return Layout(text, ids, labels, offsets)


def read(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Example:
    """Plain text with its end mark, every token of which is trained; no chat template."""
    return lay_out_text(text, tokenizer).cut(max_length)


def lay_out_text(text: str, tokenizer: PreTrainedTokenizerBase) -> Layout:
    """As `read`, before the cut."""
    ids, offsets = encode(text, tokenizer)
    if tokenizer.eos_token_id is not None:
        ids, offsets = [*ids, tokenizer.eos_token_id], [*offsets, (len(text), len(text))]
    return Layout(text, ids, ids, offsets)


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[Span]]:
    """Token ids of a text, and where in it each stands."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]  # type: ignore[return-value]


def render(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    generation: bool = False,
    tools: Tools = (),
) -> str:
    """The text that the model sees; `generation` adds the head of the answer to come."""
    return tokenizer.apply_chat_template(  # type: ignore[return-value]
        messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=generation
    )


def check_tools(messages: list[Message], tools: Tools, text: str) -> None:
    """Refuses a template that leaves out the tools, their calls or what they gave."""
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    named = [called["function"]["name"] for called in calls]
    named += [tool.get("function", tool).get("name", "") for tool in tools]
    given = [message["content"].strip() for message in messages if message["role"] == "tool"]
    shown = all(name in text for name in named) and all(
        one in text or json.dumps(one, ensure_ascii=False)[1:-1] in text for one in given
    )
    if not shown:
        raise Refusal(
            "The model's chat template leaves out tools that the data calls.",
            f"The call of {named[0] if named else 'a tool'}, or what it gave, is not in the text "
            "that the model would read.",
            "Choose a model whose template knows tools, or take those rows out.",
        )


def assistant_spans(
    messages: list[Message], text: str, tokenizer: PreTrainedTokenizerBase, tools: Tools = ()
) -> list[Span]:
    """Where each answer stands in the rendered text, from its first letter to its end-of-turn."""
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(messages[:index], tokenizer, generation=True, tools=tools)
        through = render(messages[: index + 1], tokenizer, tools=tools)
        if not (text.startswith(through) and through.startswith(before)):
            raise Refusal(
                "The model's chat template rewrites earlier turns when later ones follow.",
                "The tokens of each answer cannot be told apart in the whole conversation.",
                "Split conversations so that each row ends with the one answer to learn, or set "
                "training.assistant_only = false.",
            )
        spans.append((len(before), _without_trailing_space(through, message["content"])))
    return spans


def _without_trailing_space(through: str, content: str) -> int:
    """The end of the turn, without the line break that some templates put after its end token."""
    end = len(through.rstrip())
    said = content.rstrip()
    return len(through) if said and through[:end].endswith(said) else end


def _mask(ids: list[int], offsets: list[Span], spans: list[Span]) -> list[int]:
    """Labels: the id of every token that lies wholly inside a span, else `IGNORED`."""
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        for index, (first, last) in enumerate(offsets):
            if start <= first and last <= end and first < last:
                labels[index] = ids[index]
    return labels
