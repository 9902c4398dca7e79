"""Where the answers of a conversation stand in the text that its chat template renders.

Knows text alone: which tokens lie in a span is for `encode`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.chat_template import OTHER_TEMPLATE, PROBE, Tools, render
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""From the first character to the one behind the last."""


class Rendered(NamedTuple):
    """A conversation as text, and where in it the answers stand that are in the loss."""

    text: str
    spans: list[Span]


def render_with_spans(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    tools: Tools = (),
    *,
    last_only: bool = False,
) -> Rendered:
    """A conversation and the spans of its answers.

    Args:
        last_only: the last turn alone counts, with all that the template writes behind it, as TRL
            lays out preference data; else every answer up to its end-of-turn token.

    Raises:
        Refusal: the template does not take the conversation, rewrites earlier turns, so that
            answers cannot be told apart, or leaves out a part of an answer or tools that were
            called.
    """
    text = render(messages, tokenizer, tools=tools)
    check_tools(messages, tools, text)
    if last_only:
        return Rendered(text, [completion_span(messages, text, tokenizer, tools)])
    return Rendered(text, assistant_spans(messages, text, tokenizer, tools))


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
        start = completion_start(messages[:index], message, text, tokenizer, tools)
        end = _without_trailing_space(through, message["content"])
        _check_whole(message, text[start:end])
        spans.append((start, end))
    return spans


def completion_start(
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


def completion_span(
    messages: list[Message], text: str, tokenizer: PreTrainedTokenizerBase, tools: Tools = ()
) -> Span:
    """Where the last turn, an answer, stands in the rendered text, with all that follows it."""
    *prompt, answer = messages
    start = completion_start(prompt, answer, text, tokenizer, tools)
    _check_whole(answer, text[start:])
    return start, len(text)


def _check_whole(answer: Message, shown: str) -> None:
    """Refuses a template that drops a part of an answer, its thinking most often."""
    parts = [answer["content"], answer.get("reasoning_content", "")]
    if not all(_letters(part) in _letters(shown) for part in parts):
        raise Refusal(
            "The model's chat template leaves out or changes a part of the answer.",
            "Thinking between <think> and </think> is what templates drop most often.",
            "Take the thinking out of the answers to train without it. " + OTHER_TEMPLATE,
        )


def _letters(text: str) -> str:
    """A text without white space and capitals, which templates may change."""
    return "".join(text.split()).casefold()


def _without_trailing_space(through: str, content: str) -> int:
    """The end of the turn, without the line break that some templates put after its end token."""
    end = len(through.rstrip())
    said = content.rstrip()
    return len(through) if said and through[:end].endswith(said) else end
