"""The texts that train a conversation, and where in them the answers stand.

All answers are trained in one text where that is what the model reads at inference before each of
them: there every beginning of the conversation, rendered for the next answer, begins the whole.
Else there is one text for each answer (see `answers`): where the template rewrites earlier turns
(Qwen3 drops their thinking), opens or skips a thought in the prompt, or ends no answer. A template
that marks answers itself, with {% generation %}, says where they end.

Knows text alone: which tokens lie in a span is for `encode`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from workers.data.schema.messages import Message
from workers.data.tokenize.answers import answer_of, end_of, oddities, thought_in
from workers.data.tokenize.chat_template import Tools
from workers.data.tokenize.completeness import check_answer, check_tools
from workers.data.tokenize.reasoning import as_handed
from workers.data.tokenize.rendered import Conversation, Rendered, Span, is_trained
from workers.data.tokenize.thought import as_learnt
from workers.protocol.recipe import Reasoning
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""How a template marks what the assistant says."""


def conversation(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    tools: Tools = (),
    *,
    reasoning: Reasoning = "learn",
) -> Conversation:
    """A conversation as it is trained, with its thinking or without."""
    return Conversation(as_learnt(messages, reasoning, tokenizer), tokenizer, tools)


def renderings(talk: Conversation, *, last_only: bool = False) -> list[Rendered]:
    """The texts that train a conversation's answers: one, or one for each of them.

    Args:
        last_only: the last turn alone counts, with the white space behind its end, as TRL lays out
            preference data; else every turn that is trained, up to its end-of-turn token.

    Raises:
        Refusal: the template does not take the conversation, or leaves out a part of an answer or
            tools that were called; or no turn is to be trained.
    """
    if last_only:
        return [_last(talk)]
    if not any(map(is_trained, talk.messages)):
        raise Refusal(
            "No turn of this row is to be trained.",
            "Its flags take all of its answers out of the loss.",
            "Take the row out, or the flags.",
        )
    try:
        together = in_one(talk)
    except Refusal:
        together = None
    return [together] if together else by_answer(talk)


def in_one(talk: Conversation) -> Rendered | None:
    """One text for all answers; None where it is not what the model reads before each of them.

    Raises:
        Refusal: the template does not take the conversation, or leaves out a part of it.
    """
    messages = talk.messages
    text = talk.through(len(messages))
    check_tools(messages, talk.tools, text)
    spans: list[Span] = []
    thoughts: list[Span] = []
    differences = list(talk.differences)
    for index, message in enumerate(messages):
        if not is_trained(message):
            continue
        span = _span(talk, index, text)
        if span is None:
            return None
        spans.append(span)
        differences += oddities(talk, index, text[slice(*span)])
        thoughts += thought_in(text, span, message)
    marked = _marked(talk, text, spans)
    return Rendered(
        text, marked or spans, "generation" if marked else "spans", thoughts=tuple(thoughts),
        differences=tuple(differences),
    )  # fmt: skip


def _span(talk: Conversation, index: int, text: str) -> Span | None:
    message = talk.messages[index]
    if message["role"] != "assistant":
        return _asked_span(message, text, talk.tokenizer)
    through, prompt = talk.through(index + 1), talk.asked(index)
    if not (text.startswith(through) and through.startswith(prompt)):
        return None
    end, missing = end_of(through, len(prompt), message, talk.tokenizer)
    check_answer(message, through[len(prompt) : end])
    return None if missing else (len(prompt), end)


def _asked_span(message: Message, text: str, tokenizer: Any) -> Span:
    """Where a turn stands that is no answer and is trained all the same, with the end of turn
    directly behind it."""
    said = message["content"].strip()
    if text.count(said) != 1:
        raise Refusal(
            f"A turn of the {message['role']} that is to be trained cannot be told apart.",
            "The chat template changes its text, or the text stands there more than once.",
            'Take its flag ("train", "weight" or "loss") out.',
        )
    begin = text.index(said)
    end = begin + len(said)
    mark = tokenizer.eos_token or ""
    return begin, end + len(mark) * text.startswith(mark, end)


def by_answer(talk: Conversation) -> list[Rendered]:
    """One text for each answer that is trained.

    Other turns that are trained are so with the next answer, whose history they belong to.

    Raises:
        Refusal: as `renderings`.
    """
    made: list[Rendered] = []
    waiting: list[Message] = []
    for index, message in enumerate(talk.messages):
        if not is_trained(message):
            continue
        if message["role"] != "assistant":
            waiting.append(message)
            continue
        found = answer_of(talk, index)
        asked = [_asked_span(one, found.text, talk.tokenizer) for one in waiting]
        made.append(found._replace(spans=[*asked, *found.spans]))
        waiting = []
    if waiting:
        text = talk.through(len(talk.messages))
        spans = [_asked_span(one, text, talk.tokenizer) for one in waiting]
        made.append(Rendered(text, spans, differences=talk.differences))
    return made


def _last(talk: Conversation) -> Rendered:
    """The last answer behind its prompt; one text as the template writes it where that begins with
    the prompt."""
    found = answer_of(talk, len(talk.messages) - 1, last_only=True)
    if found.differences != talk.differences or not talk.through(len(talk.messages)).startswith(
        found.text
    ):
        return found
    return found._replace(source="spans", apart=0, turns=None)


def _marked(talk: Conversation, text: str, spans: list[Span]) -> list[Span]:
    """The spans as far as the template's own marks reach; none where it has no marks, or they miss
    an answer or its end."""
    template = talk.tokenizer.get_chat_template()
    if not MARKED.search(template):
        return []
    from transformers.utils.chat_template_utils import render_jinja_template

    handed = cast("Any", [as_handed(talk.messages, talk.tokenizer)])
    texts, marks = render_jinja_template(
        conversations=handed, tools=list(talk.tools) or None, chat_template=template,
        return_assistant_tokens_mask=True, **talk.tokenizer.special_tokens_map,
    )  # fmt: skip
    if texts[0] != text:
        return []
    found = cast("list[Span]", marks[0])
    reach = [[end for begin, end in found if begin < stop <= end] for _, stop in spans]
    if not all(reach):
        return []
    return [(start, max(ends)) for (start, _), ends in zip(spans, reach, strict=True)]
