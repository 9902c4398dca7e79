"""How many tokens rows have and how many of them are trained, many rows at a time.

The same answers as `mapping.tokenize` gives, without a list of ids and labels for every row: the
tokenizer's own index tells where an answer's first and last tokens are. A chat template is rendered
once for each order of roles and its gaps are filled in; where that would not give the template's
own text, the template is rendered row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.reader import Message, Row
from workers.data.tokenize.encode import (
    Span,
    Tools,
    answer_span,
    assistant_spans,
    begins_documents,
    check_tools,
    render,
)
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTED: tuple[Stage, ...] = ("grpo", "rlhf")
"""Stages that learn from the model's own answers: the rows are prompts."""
PAIRED: tuple[Stage, ...] = ("dpo", "ipo", "simpo", "orpo", "kto", "reward")
"""Stages that learn from the last answer alone, or from two of them."""
CHECKED_FIRST, CHECKED_EVERY = 4, 64
"""Rows of an order of roles that are also rendered in full, to be compared."""


class Length(NamedTuple):
    """One row in tokens. A pair counts both of its conversations."""

    tokens: int
    """Before cutting."""
    kept: int
    trained: int
    """After cutting."""
    cut: bool
    answer_cut: bool
    """Some token of an answer is lost, its end-of-turn at least."""


class Text(NamedTuple):
    """A rendered conversation; a plain text has one span, and `extra` marks around it."""

    text: str
    spans: list[Span]
    extra: int = 0


class Skeleton(NamedTuple):
    """What a template writes around the contents of one order of roles."""

    pieces: list[str]
    """One more than there are messages."""
    spans: list[tuple[int, int, int]]
    """Of each answer: its message, and how far its span goes beyond the content on either side."""


class TokenCounter:
    """Measures rows with one tokenizer, for one stage: `prepare`, then `encode`, then `measure`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stage: Stage, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._stage = stage
        self._max_length = max_length
        self._skeletons: dict[tuple[str, ...], Skeleton | None] = {}
        self._seen: dict[tuple[str, ...], int] = {}
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._thinks = "think" in str(tokenizer.chat_template)
        self._marks = begins_documents(tokenizer) + (tokenizer.eos_token_id is not None)
        if self._backend is None:
            raise Refusal(
                "The model has no fast tokenizer.",
                "Only fast tokenizers tell which token stands for which letter.",
                "Take a model with a tokenizer.json.",
            )

    def prepare(self, rows: Sequence[Row]) -> list[list[Text] | str]:
        """The texts of each row, or why the template refuses it."""
        return [self._texts(row) for row in rows]

    def encode(self, prepared: Sequence[list[Text] | str]) -> list[Any]:
        texts = [text.text for one in prepared if not isinstance(one, str) for text in one]
        return self._backend.encode_batch(texts, add_special_tokens=False)

    def measure(
        self, prepared: Sequence[list[Text] | str], encoded: Sequence[Any]
    ) -> list[Length | str]:
        """Each row's length, or why the template refuses it."""
        left = iter(encoded)
        return [
            one if isinstance(one, str) else _sum([self._length(text, next(left)) for text in one])
            for one in prepared
        ]

    def _texts(self, row: Row) -> list[Text] | str:
        try:
            if self._stage == "cpt":
                return [Text(row.text, [(0, len(row.text))], extra=self._marks)]
            if self._stage in PROMPTED:
                asked = render(row.prompt, self._tokenizer, generation=True, tools=row.tools)
                return [Text(asked, [])]
            paired = row.rejected and self._stage in PAIRED
            answers = [row.completion, row.rejected] if paired else [row.completion]
            if row.uses_tools:
                return [self._render([*row.prompt, *answer], row.tools) for answer in answers]
            return [self._conversation([*row.prompt, *answer]) for answer in answers]
        except Refusal as refusal:
            return refusal.what
        except Exception as fault:  # templates raise what they like, TemplateError mostly
            return f"{type(fault).__name__}: {fault}"[:300]

    def _conversation(self, messages: list[Message]) -> Text:
        order = tuple([message["role"] for message in messages])
        if order not in self._skeletons:
            self._skeletons[order] = self._learn(order)
        skeleton = self._skeletons[order]
        if skeleton is None or not self._plain(messages):
            return self._render(messages)
        filled = _fill(skeleton, messages)
        seen = self._seen[order] = self._seen.get(order, 0) + 1
        if seen <= CHECKED_FIRST or seen % CHECKED_EVERY == 0:
            truly = self._render(messages)
            if truly != filled:
                self._skeletons[order] = None
            return truly
        return filled

    def _plain(self, messages: list[Message]) -> bool:
        """Whether a template has no reason to change these contents: many strip them, and some
        treat thinking apart."""
        for message in messages:
            content = message["content"]
            if len(message) > 2 or not content or content != content.strip():
                return False
            if self._thinks and "think>" in content:
                return False
        return True

    def _render(self, messages: list[Message], tools: Tools = ()) -> Text:
        text = render(messages, self._tokenizer, tools=tools)
        check_tools(messages, tools, text)
        if self._stage in PAIRED:
            return Text(text, [answer_span(messages, text, self._tokenizer, tools)])
        return Text(text, assistant_spans(messages, text, self._tokenizer, tools))

    def _learn(self, order: tuple[str, ...]) -> Skeleton | None:
        """The skeleton, by rendering marks in place of contents; None where they do not all come
        back once and in order, or the template refuses them: it may yet take real contents."""
        marks = [f"\ue000{number}\ue001" for number in range(len(order))]
        probe = [
            {"role": role, "content": mark} for role, mark in zip(order, marks, strict=True)
        ]  # fmt: skip
        try:
            text, spans, _ = self._render(probe)
        except Refusal:
            return None
        pieces: list[str] = []
        at = 0
        for mark in marks:
            found = text.find(mark, at)
            if found < 0 or text.count(mark) != 1:
                return None
            pieces.append(text[at:found])
            at = found + len(mark)
        answers = [number for number, role in enumerate(order) if role == "assistant"]
        answers = answers[-len(spans) :]
        around = [
            (number, start - text.index(marks[number]),
             end - text.index(marks[number]) - len(marks[number]))
            for number, (start, end) in zip(answers, spans, strict=True)
        ]  # fmt: skip
        return Skeleton([*pieces, text[at:]], around)

    def _length(self, text: Text, encoding: Any) -> Length:
        count, limit = len(encoding) + text.extra, self._max_length
        if self._stage == "cpt":  # split into windows, none of it is lost
            return Length(count, count, count, False, False)
        trained, answer_cut = 0, False
        for start, end in text.spans:
            first, last = _tokens_of(encoding, start, end)
            trained += max(0, min(last, limit) - first)
            answer_cut = answer_cut or last > limit
        return Length(count, min(count, limit), trained, count > limit, answer_cut)


def _fill(skeleton: Skeleton, messages: list[Message]) -> Text:
    parts: list[str] = []
    begins: list[int] = []
    at = 0
    for piece, message in zip(skeleton.pieces, messages, strict=False):
        content = message["content"]
        parts += (piece, content)
        begins.append(at + len(piece))
        at += len(piece) + len(content)
    parts.append(skeleton.pieces[-1])
    spans = [
        (begins[number] + before, begins[number] + len(messages[number]["content"]) + after)
        for number, before, after in skeleton.spans
    ]
    return Text("".join(parts), spans)


def _tokens_of(encoding: Any, start: int, end: int) -> tuple[int, int]:
    """The tokens that lie wholly in a span: the first one, and the one after the last."""
    first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
    if first is None or last is None or end <= start:
        inside = [
            number
            for number, (begin, stop) in enumerate(encoding.offsets)
            if start <= begin and stop <= end and begin < stop
        ]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)
    if encoding.token_to_chars(first)[0] < start:
        first += 1
    while last + 1 < len(encoding) and _starts_before(encoding, last + 1, end):
        last += 1  # a letter of several tokens
    if encoding.token_to_chars(last)[1] > end:
        last -= 1
    return first, max(first, last + 1)


def _starts_before(encoding: Any, token: int, end: int) -> bool:
    chars = encoding.token_to_chars(token)
    return chars is not None and chars[0] < end


def _sum(lengths: list[Length]) -> Length:
    if len(lengths) == 1:
        return lengths[0]
    return Length(
        sum(one.tokens for one in lengths),
        sum(one.kept for one in lengths),
        sum(one.trained for one in lengths),
        any(one.cut for one in lengths),
        any(one.answer_cut for one in lengths),
    )
