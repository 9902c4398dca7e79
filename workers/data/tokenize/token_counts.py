"""How many tokens rows have and how many of them are in the loss, many rows at a time.

A fast path behind `encode` and `fit`, held equal to them by tests: the same counts without lists of
ids and labels for every row. The tokenizer's own index says where an answer's first and last tokens
are. A chat template is rendered once for each order of roles and its gaps are filled in; where that
would not give the template's own texts, the template is rendered row by row. With it the audit of a
dataset runs at 0.94 of the bare tokenizer's speed (tests/benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.schema.row import Row
from workers.data.tokenize.answers import is_separable
from workers.data.tokenize.chat_template import Tools, begins_documents, render
from workers.data.tokenize.encode import IGNORED, TAIL, encode, stands_alone
from workers.data.tokenize.rendered import Rendered, Span, shared_length
from workers.data.tokenize.spans import conversation, renderings
from workers.data.tokenize.thought import any_thinks
from workers.protocol.recipe import Reasoning, Stage, TooLong
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKED_FIRST, CHECKED_EVERY = 4, 64
"""Rows of an order of roles that are also rendered in full, to be compared."""


class Length(NamedTuple):
    """One row in tokens. A pair counts both of its sequences."""

    tokens: int
    """Before truncation."""
    kept: int
    """At most the maximum length of each sequence that is not left out."""
    trained: int
    """In the loss, of what the trainer takes."""
    truncated: bool
    completion_truncated: bool
    """Some token of an answer is lost, its end-of-turn at least."""
    difference: str = ""
    """Where training differs from inference, in a sentence; empty where it does not."""


class Sized(NamedTuple):
    """One sequence by its numbers."""

    tokens: int
    runs: list[Span]
    """Tokens in the loss, from the first to the one behind the last, in order."""

    def trained(self, limit: int) -> int:
        """Tokens in the loss among the first `limit`."""
        return sum([max(0, min(end, limit) - begin) for begin, end in self.runs])

    def loses_answer(self, limit: int) -> bool:
        """Whether a token in the loss stands behind the first `limit`."""
        return bool(self.runs) and self.runs[-1][1] > limit


class Skeleton(NamedTuple):
    """What a template writes around the contents of one order of roles, in one text."""

    pieces: list[str]
    """One more than there are messages."""
    spans: list[tuple[int, int, int]]
    """Of each answer: its message, and how far its span goes beyond the content on either side."""
    model: Rendered
    """That of placeholders."""


class TokenCounter:
    """Counts with one tokenizer, for one stage."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stage: Stage,
        max_length: int,
        too_long: TooLong = "cut",
        reasoning: Reasoning = "learn",
    ) -> None:
        self._tokenizer = tokenizer
        self._spec = spec_of(stage)
        self._max_length = max_length
        self._skeletons: dict[tuple[str, ...], list[Skeleton] | None] = {}
        self._too_long = too_long
        self._seen: dict[tuple[str, ...], int] = {}
        self._separable = is_separable(tokenizer)
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._reasoning: Reasoning = reasoning
        self._thinks = reasoning != "learn" or "think" in str(tokenizer.chat_template)
        self._around = begins_documents(tokenizer) + (tokenizer.eos_token_id is not None)
        """Tokens that begin and end a document."""
        if self._backend is None:
            raise Refusal(
                "The model has no fast tokenizer.",
                "Only fast tokenizers tell which token stands for which letter.",
                "Take a model with a tokenizer.json.",
            )

    def count(self, rows: Sequence[Row]) -> list[Length | str]:
        """Each row's length, or why the template refuses it; the tokenizer spreads the rows over
        all cores."""
        rendered = [self._rendered(row) for row in rows]
        parts = [
            part for row in rendered if not isinstance(row, str) for one in row
            for part in _parts(one)
        ]  # fmt: skip
        encoded = iter(self._backend.encode_batch(parts, add_special_tokens=False))
        return [
            made if isinstance(made, str) else self._length(row, made, encoded)
            for row, made in zip(rows, rendered, strict=True)
        ]

    # Text

    def _rendered(self, row: Row) -> list[Rendered] | str:
        """The texts of a row's sequences, or why the template refuses it."""
        try:
            match self._spec.supervision:
                case "text":
                    return [Rendered(row.text, [])]
                case "prompts":
                    asked = render(row.prompt, self._tokenizer, generation=True, tools=row.tools)
                    return [Rendered(asked, [])]
                case "completions" if row.segments:
                    return []
                case "completions":
                    answers = [row.completion]
                case _:
                    answers = [row.completion, *([row.rejected] if row.rejected else [])]
            talks = [[*row.prompt, *answer] for answer in answers]
            thinks = self._spec.supervision == "pairs" and any_thinks(answers, self._reasoning)
            if row.uses_tools or thinks:
                made = [self._render(talk, row.tools, thinks=thinks) for talk in talks]
            else:
                made = [self._conversation(talk) for talk in talks]
            return [one for texts in made for one in texts]
        except Refusal as refusal:
            return refusal.what
        except Exception as fault:  # templates raise what they like, TemplateError mostly
            return f"{type(fault).__name__}: {fault}"[:300]

    def _conversation(self, messages: list[Message]) -> list[Rendered]:
        order = tuple([message["role"] for message in messages])
        if order not in self._skeletons:
            self._skeletons[order] = self._learn(order)
        skeletons = self._skeletons[order]
        if skeletons is None or not self._plain(messages):
            return self._render(messages)
        filled = [_fill(skeleton, messages) for skeleton in skeletons]
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

    def _render(
        self, messages: list[Message], tools: Tools = (), *, thinks: bool = False
    ) -> list[Rendered]:
        talk = conversation(messages, self._tokenizer, tools, reasoning=self._reasoning)
        talk.thinks = thinks
        return renderings(talk, last_only=self._spec.preference)

    def _learn(self, order: tuple[str, ...]) -> list[Skeleton] | None:
        """What the template writes, by rendering placeholders for contents; None where they do not
        all come back once and in order, or the template refuses them: it may yet take real ones."""
        marks = [f"\ue000{number}\ue001" for number in range(len(order))]
        probe = [
            {"role": role, "content": mark} for role, mark in zip(order, marks, strict=True)
        ]  # fmt: skip
        try:
            found = [_skeleton(one, marks, order) for one in self._render(probe)]
        except Refusal:
            return None
        return None if None in found else [one for one in found if one]

    # Tokens

    def _length(self, row: Row, rendered: list[Rendered], encoded: Iterator[Any]) -> Length:
        """Takes the encodings of the row's sequences off `encoded`."""
        limit = self._max_length
        if self._spec.supervision == "text":  # split into windows, none of it is lost
            count = len(next(encoded)) + self._around
            return Length(count, count, count, False, False)
        sized = self._sized(row, rendered, encoded)
        gone = self._left_out(sized)
        return Length(
            tokens=sum([one.tokens for one in sized]),
            kept=sum([min(one.tokens, limit) for one in sized if one not in gone]),
            trained=self._trained([one for one in sized if one not in gone]),
            truncated=any(one.tokens > limit for one in sized),
            completion_truncated=any(one.loses_answer(limit) for one in sized),
            difference=next((one.differences[0] for one in rendered if one.differences), ""),
        )

    def _left_out(self, sized: list[Sized]) -> list[Sized]:
        """The sequences that `fit` leaves out for their length; pairs go together."""
        limit, pairs = self._max_length, self._spec.supervision == "pairs"
        if pairs and not self._spec.talks:
            gone = [one for one in sized if one.tokens > limit]
        elif self._too_long == "drop":
            gone = [one for one in sized if one.loses_answer(limit)]
        else:
            return []
        return sized if pairs and gone else gone

    def _trained(self, sized: list[Sized]) -> int:
        """Tokens in the loss of what `fit` leaves."""
        trained = [one.trained(self._max_length) for one in sized]
        if self._spec.supervision == "pairs" and not all(trained):
            return 0
        return sum(trained)

    def _sized(self, row: Row, rendered: list[Rendered], encoded: Iterator[Any]) -> list[Sized]:
        mark = str(self._tokenizer.eos_token)
        sequences = [Tokens.of(one, encoded, mark) for one in rendered]
        masked = self._reasoning == "read" and any(one.thoughts for one in rendered)
        if row.segments or masked or not all(map(self._alike, rendered, sequences)):
            return self._exactly(row)
        if not self._spec.preference:
            return [Sized(one.length, one.runs) for one in sequences]
        begins = [one.runs[0][0] if one.runs[0] != (0, 0) else one.length for one in sequences]
        if self._spec.supervision == "pairs":
            one, other = sequences
            shared = shared_length(one.ids(begins[0]), other.ids(begins[1]))
            begins = [shared, shared]
        return [
            Sized(one.length, [(begin, one.length)])
            for one, begin in zip(sequences, begins, strict=True)
        ]

    def _alike(self, rendered: Rendered, tokens: Tokens) -> bool:
        """Whether `encode` makes the same tokens of a text: whether its prompts stand alone, most
        of which end alike."""
        if not self._separable or rendered.apart:
            return not tokens.asked
        return not tokens.shares_a_token and all(
            stands_alone(rendered.text[max(0, at - TAIL) : at], self._tokenizer)
            for at, _ in rendered.spans
        )

    def _exactly(self, row: Row) -> list[Sized]:
        """By the labels themselves."""
        made = encode(row, self._spec.id, self._tokenizer, reasoning=self._reasoning)
        return [Sized(len(one.labels), _runs(one.labels)) for one in made]


class Tokens(NamedTuple):
    """One sequence in tokens, its prompt apart where it is tokenized so."""

    parts: list[Any]
    runs: list[Span]
    shares_a_token: bool = False
    """Whether an answer's first letters share a token with the prompt."""
    asked: bool = False
    """Whether a part of a prompt that is tokenized apart is in the loss; it is not counted here."""

    @classmethod
    def of(cls, rendered: Rendered, encoded: Iterator[Any], mark: str) -> Tokens:
        """One sequence; `mark` is the end token, which may take the white space behind it with
        it."""
        parts = [next(encoded) for _ in _parts(rendered)]
        before, letters = sum([len(part) for part in parts[:-1]]), rendered.apart
        spans = [(start - letters, end - letters) for start, end in rendered.spans]
        if spans and spans[0][0] < 0:  # a question in the loss too
            return cls(parts, [], asked=True)
        text = rendered.text[letters:]
        runs = [
            _tokens_of(
                parts[-1], start, _past(parts[-1], end) if text.endswith(mark, 0, end) else end
            )
            for start, end in spans
        ]
        shares = not letters and any(_begins_before(parts[-1], start) for start, _ in spans)
        return cls(parts, [(first + before, last + before) for first, last in runs], shares)

    @property
    def length(self) -> int:
        return sum([len(part) for part in self.parts])

    def ids(self, count: int) -> list[int]:
        return [token for part in self.parts for token in part.ids][:count]


def _parts(rendered: Rendered) -> list[str]:
    cut = rendered.apart
    return [rendered.text[:cut], rendered.text[cut:]] if cut else [rendered.text]


def _begins_before(encoding: Any, letter: int) -> bool:
    token = encoding.char_to_token(letter)
    return token is None or encoding.token_to_chars(token)[0] < letter


def _runs(labels: list[int]) -> list[Span]:
    """Tokens in the loss, from the first to the one behind the last."""
    trained = [at for at, label in enumerate(labels) if label != IGNORED]
    begins = [at for at in trained if at == 0 or labels[at - 1] == IGNORED]
    ends = [at + 1 for at in trained if at + 1 == len(labels) or labels[at + 1] == IGNORED]
    return list(zip(begins, ends, strict=True))


def _skeleton(found: Rendered, marks: list[str], order: tuple[str, ...]) -> Skeleton | None:
    text, held = found.text, marks[: found.turns]
    pieces: list[str] = []
    at = 0
    for mark in held:
        place = text.find(mark, at)
        if place < 0 or text.count(mark) != 1:
            return None
        pieces.append(text[at:place])
        at = place + len(mark)
    answers = [number for number, role in enumerate(order[: found.turns]) if role == "assistant"]
    answers = answers[-len(found.spans) :]
    around = [
        (number, start - text.index(marks[number]),
         end - text.index(marks[number]) - len(marks[number]))
        for number, (start, end) in zip(answers, found.spans, strict=True)
    ]  # fmt: skip
    return Skeleton([*pieces, text[at:]], around, found)


def _fill(skeleton: Skeleton, messages: list[Message]) -> Rendered:
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
    model = skeleton.model
    apart = spans[0][0] - (model.spans[0][0] - model.apart) if model.apart else 0
    return model._replace(text="".join(parts), spans=spans, apart=apart)


def _past(encoding: Any, end: int) -> int:
    """Where the token ends that the last letter before `end` belongs to."""
    token = encoding.char_to_token(end - 1)
    return end if token is None else max(end, encoding.token_to_chars(token)[1])


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
