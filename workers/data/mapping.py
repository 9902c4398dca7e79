"""From a conversation to token ids and labels, by the model's own chat template.

Labels are the token's id where it is trained and -100 where it is only read (PyTorch's
`ignore_index`). Only the assistant's tokens are trained, its end-of-turn token among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from workers.data.formats import Message
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
Span = tuple[int, int]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""OpenAI's ChatML, for base models that bring no template of their own."""


class Example(msgspec.Struct, frozen=True):
    """One tokenized row; `input_ids` and `labels` are equally long."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def trained_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def tokenize(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    assistant_only: bool = True,
) -> Example:
    """Renders, tokenizes and masks a conversation, cut at `max_length` tokens from the start.

    Raises:
        Refusal: the template rewrites earlier turns, so that answers cannot be told apart.
    """
    text = render(messages, tokenizer)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    if assistant_only:
        spans = assistant_spans(messages, text, tokenizer)
        labels = _mask(ids, encoded["offset_mapping"], spans)
    else:
        labels = list(ids)
    return Example(ids[:max_length], labels[:max_length], truncated=len(ids) > max_length)


def read(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Example:
    """Plain text with its end mark, every token of which is trained; no chat template."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        ids = [*ids, tokenizer.eos_token_id]
    return Example(ids[:max_length], ids[:max_length], truncated=len(ids) > max_length)


def render(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, *, generation: bool = False
) -> str:
    """The text that the model sees; `generation` adds the head of the answer to come."""
    return tokenizer.apply_chat_template(  # type: ignore[return-value]
        messages, tokenize=False, add_generation_prompt=generation
    )


def assistant_spans(
    messages: list[Message], text: str, tokenizer: PreTrainedTokenizerBase
) -> list[Span]:
    """Where each answer stands in the rendered text, from its first letter to its end-of-turn."""
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(messages[:index], tokenizer, generation=True)
        through = render(messages[: index + 1], tokenizer)
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
    return end if not through[:end].endswith(content.rstrip()) else len(through)


def _mask(ids: list[int], offsets: list[Span], spans: list[Span]) -> list[int]:
    """Labels: the id of every token that lies wholly inside a span, else `IGNORED`."""
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        for index, (first, last) in enumerate(offsets):
            if start <= first and last <= end and first < last:
                labels[index] = ids[index]
    return labels
