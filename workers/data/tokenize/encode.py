"""From a conversation to token ids and labels, by the model's own chat template.

Labels are the token's id where it is trained and -100 where it is only read (PyTorch's
`ignore_index`). Only the assistant's tokens are trained, its end-of-turn token among them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2.exceptions import TemplateError

from workers.data.reader import Message
from workers.data.tokenize.chat_template import PROBE
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
    truncated: bool = False

    @property
    def trained_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Encoding(msgspec.Struct, frozen=True):
    """A row as text and as tokens; ids, labels and offsets are equally long."""

    text: str
    input_ids: list[int]
    labels: list[int]
    offsets: list[Span]
    """Where each token stands in the text."""

    def cut(self, max_length: int, start: int = 0) -> Example:
        """At most `max_length` tokens, from the token at `start` on."""
        end = start + max_length
        ids, labels = self.input_ids[start:end], self.labels[start:end]
        return Example(ids, labels, truncated=len(self.input_ids) > end)


def tokenize(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    assistant_only: bool = True,
    tools: Tools = (),
) -> Example:
    """Renders, tokenizes and masks a conversation, cut at `max_length` tokens from the start.

    Raises:
        Refusal: the template refuses the conversation, rewrites earlier turns, so that answers
            cannot be told apart, or leaves out a part of an answer or tools that were called.
    """
    return encode_conversation(messages, tokenizer, assistant_only, tools).cut(max_length)


def encode_conversation(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    assistant_only: bool = True,
    tools: Tools = (),
) -> Encoding:
    """As `tokenize`, before the cut."""
    text = render(messages, tokenizer, tools=tools)
    check_tools(messages, tools, text)
    ids, offsets = encode(text, tokenizer)
    if assistant_only:
        labels = _mask(ids, offsets, assistant_spans(messages, text, tokenizer, tools))
    else:
        labels = list(ids)
    return Encoding(text, ids, labels, offsets)


def windows(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Example]:
    """Plain text with its begin and end marks, every token of which is trained; no chat template.

    Longer text is split into windows of `max_length` tokens. Each begins with the last token of the
    one before, so that every token is foretold exactly once: a window's first one never is.
    """
    layout = encode_text(text, tokenizer)
    starts = range(0, max(1, len(layout.input_ids) - 1), max_length - 1)
    first, *others = [layout.cut(max_length, start) for start in starts]
    return [first, *(Example(one.input_ids, [IGNORED, *one.labels[1:]]) for one in others)]


def encode_text(text: str, tokenizer: Any, end: int | None = None) -> Encoding:
    """Plain text between the tokens that begin and end a document, all of them trained.

    Args:
        end: the token that ends a document; the tokenizer's end token where it is left out. What
            begins one is written where the tokenizer does so by itself.
    """
    ids, offsets = encode(text, tokenizer)
    if begins_documents(tokenizer):
        ids, offsets = [tokenizer.bos_token_id, *ids], [(0, 0), *offsets]
    end = tokenizer.eos_token_id if end is None else end
    if end is not None:
        ids, offsets = [*ids, end], [*offsets, (len(text), len(text))]
    return Encoding(text, ids, ids, offsets)


def begins_documents(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins every text with its begin token, as Llama's and Gemma's do."""
    begin = tokenizer.bos_token_id
    return begin is not None and tokenizer("a")["input_ids"][:1] == [begin]  # type: ignore[index]


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
    """The text that the model sees; `generation` adds the head of the answer to come.

    Raises:
        Refusal: the template does not take the conversation, a system turn for example.
    """
    try:
        return tokenizer.apply_chat_template(  # type: ignore[return-value]
            messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=generation
        )
    except (TemplateError, TypeError, KeyError) as fault:
        raise Refusal(
            f"The model's chat template does not take this conversation: {fault}.",
            "Some templates know no system turn, or no turns but the user's and the assistant's.",
            OTHER_TEMPLATE,
        ) from fault


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
    """Where each answer stands in the rendered text, from its first letter to its end-of-turn.

    Raises:
        Refusal: an answer cannot be told apart, or the template leaves out a part of it.
    """
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        through = text
        if index + 1 < len(messages):
            through = render(messages[: index + 1], tokenizer, tools=tools)
        if not text.startswith(through):
            raise Refusal(
                "The model's chat template rewrites earlier turns when later ones follow.",
                "The tokens of each answer cannot be told apart in the whole conversation.",
                "Split conversations so that each row has one answer. " + OTHER_TEMPLATE,
            )
        start = answer_start(messages[:index], message, text, tokenizer, tools)
        end = _without_trailing_space(through, message["content"])
        _check_whole(message["content"], text[start:end])
        spans.append((start, end))
    return spans


def answer_start(
    prompt: list[Message],
    answer: Message,
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    tools: Tools = (),
) -> int:
    """Where in the rendered text the answer to a prompt begins.

    That is where the prompt as rendered for generation ends. Some templates write more there than
    stands before an answer that is given, such as an empty thought (Gemma 4) or the opening of one
    (DeepSeek-R1): then it is where the two begin to differ.

    Raises:
        Refusal: they differ before the question is at its end.
    """
    asked = render(prompt, tokenizer, generation=True, tools=tools)
    if text.startswith(asked):
        return len(asked)
    probe = render([*prompt, answer | {"content": PROBE}], tokenizer, tools=tools)
    start = shared_length(asked, probe)
    question = prompt[-1]["content"].strip() if prompt else ""
    if not text.startswith(asked[:start]) or (question in asked and question not in asked[:start]):
        raise Refusal(
            "The model's chat template writes a question otherwise once it is answered.",
            "Where the answer begins cannot be told.",
            OTHER_TEMPLATE,
        )
    return start


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two sequences begin with in common."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def encode_answer(
    prompt: list[Message],
    answer: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    tools: Tools = (),
) -> Encoding:
    """A prompt with one answer to it, everything from the answer's first token on trained.

    As TRL lays out pairs, its line break behind the end of the turn included.

    Raises:
        Refusal: as `tokenize`.
    """
    messages = [*prompt, *answer]
    text = render(messages, tokenizer, tools=tools)
    check_tools(messages, tools, text)
    ids, offsets = encode(text, tokenizer)
    return Encoding(text, ids, _mask(ids, offsets, [answer_span(messages, text, tokenizer, tools)]),
                  offsets)  # fmt: skip


def answer_span(
    messages: list[Message], text: str, tokenizer: PreTrainedTokenizerBase, tools: Tools = ()
) -> Span:
    """Where the last turn, an answer, stands in the rendered text, with all that follows it."""
    *prompt, answer = messages
    start = answer_start(prompt, answer, text, tokenizer, tools)
    _check_whole(answer["content"], text[start:])
    return start, len(text)


def _check_whole(content: str, shown: str) -> None:
    """Refuses a template that drops a part of an answer, its thinking most often."""
    if _letters(content) not in _letters(shown):
        raise Refusal(
            "The model's chat template leaves out or changes a part of the answer.",
            "Thinking between <think> and </think> is what templates drop most often.",
            "Take the thinking out of the answers to train without it. " + OTHER_TEMPLATE,
        )


def _letters(text: str) -> str:
    """A text without white space and capitals, which templates may change."""
    return "".join(text.split()).casefold()


OTHER_TEMPLATE = (
    'Choose another template (model.template = "chatml" takes all turns), or leave such rows out '
    'with bad_rows = "skip".'
)
"""What helps wherever the model's own template does not go with a row."""


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
