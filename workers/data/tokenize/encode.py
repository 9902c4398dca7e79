"""One row as the token ids and labels that a stage trains on: the only truth about both.

Trainers, audit, token view and token counts all come here. A label is the token's id where it is in
the loss and -100 where it is masked (PyTorch's `ignore_index`). What a row becomes goes by the
stage's supervision:

    text          the document between its begin and end tokens, all of it in the loss
    completions   the conversation, every answer in the loss, its end-of-turn token included; or one
                  sequence for each answer, see `spans`; or its segments one behind the other
    pairs         prompt + chosen, prompt + rejected; all behind the prompt that they share
    labels        prompt + completion, once or for both answers of a pair; all behind the prompt
    prompts       the prompt as rendered for generation; nothing in the loss

`encode` gives whole sequences; `fit` gives what a trainer takes of them at a maximum length.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from workers.data.schema.messages import Message
from workers.data.schema.row import Row
from workers.data.tokenize.answers import is_separable
from workers.data.tokenize.chat_template import begins_documents, render
from workers.data.tokenize.completeness import check_tools
from workers.data.tokenize.rendered import Conversation, Rendered, Span, shared_length
from workers.data.tokenize.spans import by_answer, conversation, renderings
from workers.data.tokenize.thought import any_thinks
from workers.protocol.recipe import Reasoning, Stage, TooLong
from workers.protocol.stages import spec_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
TAIL = 8
"""Letters at a prompt's end, among which are those that its last tokens depend on."""
END_TOKENS = 3
"""An answer's end token is looked for among so many: some templates put a line break behind it."""


class Example(msgspec.Struct, frozen=True):
    """What a trainer takes of an encoding; `input_ids` and `labels` are equally long."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool = False
    desirable: bool | None = None

    @property
    def trained_tokens(self) -> int:
        return len(self.labels) - self.labels.count(IGNORED)

    @property
    def prompt_length(self) -> int:
        """Tokens before the first one in the loss; all of them where none is."""
        return _begin(self.labels)

    @property
    def prompt_ids(self) -> list[int]:
        return self.input_ids[: self.prompt_length]

    @property
    def completion_ids(self) -> list[int]:
        return self.input_ids[self.prompt_length :]


class Encoding(msgspec.Struct, frozen=True):
    """A sequence as text and as tokens; ids, labels and offsets are equally long."""

    text: str
    input_ids: list[int]
    labels: list[int]
    offsets: list[Span]
    """Where each token stands in the text."""
    messages: list[Message] = []
    """What was rendered; none for plain text."""
    side: str = ""
    """Which answer of a pair: chosen or rejected; empty otherwise."""
    desirable: bool | None = None
    """The completion's label (KTO)."""
    mask_source: str = ""
    """Which way the mask was made: "generation" by the template's own marks, "spans" in the text of
    the whole conversation, "per answer" in a text for each, "segments" by the row's own pieces;
    empty where nothing is masked."""
    differences: tuple[str, ...] = ()
    """Where it differs from what the model reads and writes at inference, in sentences."""
    thoughts: tuple[Span, ...] = ()
    """Where in the text answers think."""

    def truncate(self, max_length: int, start: int = 0) -> Example:
        """At most `max_length` tokens, from the token at `start` on."""
        end = start + max_length
        ids, labels = self.input_ids[start:end], self.labels[start:end]
        return Example(ids, labels, len(self.input_ids) > end, self.desirable)

    def loses_answer(self, max_length: int) -> bool:
        """Whether a token in the loss stands behind the first `max_length`."""
        return any(label != IGNORED for label in self.labels[max_length:])

    @property
    def end(self) -> list[int]:
        """The last tokens in the loss, among which is the one that ends the answer."""
        return [label for label in self.labels if label != IGNORED][-END_TOKENS:]


def encode(
    row: Row,
    stage: Stage,
    tokenizer: PreTrainedTokenizerBase,
    *,
    assistant_only: bool = True,
    document_end: int | None = None,
    reasoning: Reasoning = "learn",
) -> list[Encoding]:
    """The sequences that a stage makes of a row, none of them truncated.

    Args:
        assistant_only: of `completions`, whether the answers alone are in the loss or all turns.
        document_end: of `text`, the token that ends a document; the tokenizer's end token where it
            is left out.
        reasoning: whether the thinking of answers is in the loss, masked, or taken out.

    Raises:
        Refusal: the template refuses the conversation, or leaves out a part of an answer or tools
            that were called.
    """
    match spec_of(stage).supervision:
        case "text":
            return [_document(row.text, tokenizer, document_end)]
        case "prompts":
            return [_prompt(row, tokenizer)]
        case "completions" if row.segments:
            return [_segments(row, tokenizer, assistant_only=assistant_only)]
        case "completions":
            talk = conversation(row.messages, tokenizer, row.tools, reasoning=reasoning)
            return _answers(talk, reasoning) if assistant_only else [_whole(talk)]
        case "pairs":
            return _pair(row, tokenizer, reasoning)
        case "labels":
            return _labelled(row, tokenizer, reasoning)


def units(encodings: list[Encoding], stage: Stage) -> list[list[Encoding]]:
    """A row's sequences by what stays or goes together: pairs do; answers stand alone."""
    alone = spec_of(stage).supervision in ("labels", "completions")
    return [[one] for one in encodings] if alone else [encodings]


def fit(
    encodings: list[Encoding], stage: Stage, max_length: int, too_long: TooLong = "cut"
) -> list[Example]:
    """What a trainer takes of sequences that stay or go together; nothing where they are left out.

    Documents are split into windows without loss. Completions that would lose a token in the loss
    are left out, or lose their ends with `too_long` "cut"; they are left out in any case where no
    token in the loss remains, as are prompts that are too long to be answered. Of pairs both
    sequences stay or go; where they are scored whole (reward models) none may be truncated.
    """
    spec = spec_of(stage)
    if spec.supervision == "text":
        return [window for one in encodings for window in _windows(one, max_length)]
    examples = [one.truncate(max_length) for one in encodings]
    whole = [too_long == "cut" or not one.loses_answer(max_length) for one in encodings]
    match spec.supervision:
        case "prompts":
            return [one for one in examples if not one.truncated]
        case "pairs" if not spec.talks:
            return [] if any(one.truncated for one in examples) else examples
        case "pairs":
            return examples if all(whole) and all(one.trained_tokens for one in examples) else []
        case _:
            pairs = zip(examples, whole, strict=True)
            return [one for one, kept in pairs if kept and one.trained_tokens]


# Plain text


def _document(text: str, tokenizer: Any, end: int | None) -> Encoding:
    """What begins a document is written where the tokenizer does so by itself."""
    ids, offsets = tokenize(text, tokenizer)
    if begins_documents(tokenizer):
        ids, offsets = [tokenizer.bos_token_id, *ids], [(0, 0), *offsets]
    end = tokenizer.eos_token_id if end is None else end
    if end is not None:
        ids, offsets = [*ids, end], [*offsets, (len(text), len(text))]
    return Encoding(text, ids, ids, offsets)


def _windows(document: Encoding, max_length: int) -> list[Example]:
    """Each window begins with the last token of the one before, so that every token is predicted
    exactly once: a sequence's first one never is."""
    starts = range(0, max(1, len(document.input_ids) - 1), max_length - 1)
    first, *others = [document.truncate(max_length, start) for start in starts]
    return [first, *(Example(one.input_ids, [IGNORED, *one.labels[1:]]) for one in others)]


def _segments(row: Row, tokenizer: PreTrainedTokenizerBase, *, assistant_only: bool) -> Encoding:
    """Each segment in tokens by itself and nothing around any, as Axolotl's input_output has it."""
    ids: list[int] = []
    labels: list[int] = []
    offsets: list[Span] = []
    letters = 0
    for segment in row.segments:
        tokens, places = tokenize(segment.text, tokenizer)
        ids += tokens
        labels += tokens if segment.trained or not assistant_only else [IGNORED] * len(tokens)
        offsets += [(begin + letters, end + letters) for begin, end in places]
        letters += len(segment.text)
    return Encoding(row.plain, ids, labels, offsets, mask_source="segments")


# Conversations


def _prompt(row: Row, tokenizer: PreTrainedTokenizerBase) -> Encoding:
    text = render(row.prompt, tokenizer, generation=True, tools=row.tools)
    ids, offsets = tokenize(text, tokenizer)
    return Encoding(text, ids, [IGNORED] * len(ids), offsets, row.prompt)


def _answers(talk: Conversation, reasoning: Reasoning) -> list[Encoding]:
    """All answers in one sequence where it can be, else one sequence for each."""
    texts = renderings(talk)
    made = [_encoded(talk, one, reasoning) for one in texts]
    if len(made) == 1 and texts[0].turns is None and parts_better(talk, texts[0], made[0].offsets):
        return [_encoded(talk, one, reasoning) for one in by_answer(talk)]
    return made


def _whole(talk: Conversation) -> Encoding:
    """The conversation with all of its turns in the loss."""
    text = talk.through(len(talk.messages))
    check_tools(talk.messages, talk.tools, text)
    ids, offsets = tokenize(text, talk.tokenizer)
    return Encoding(text, ids, list(ids), offsets, talk.messages)


def _encoded(talk: Conversation, rendered: Rendered, reasoning: Reasoning, **more: Any) -> Encoding:
    ids, offsets = tokenize_apart(rendered, talk.tokenizer)
    mark = str(talk.tokenizer.eos_token)
    labels = _mask(ids, offsets, rendered.spans, rendered.text, mark)
    if reasoning == "read":
        thought = _mask(ids, offsets, list(rendered.thoughts), rendered.text, mark)
        labels = [IGNORED if masked != IGNORED else label
                  for label, masked in zip(labels, thought, strict=True)]  # fmt: skip
    return Encoding(
        rendered.text, ids, labels, offsets, talk.messages[: rendered.turns],
        mask_source=rendered.source, differences=rendered.differences, thoughts=rendered.thoughts,
        **more,
    )  # fmt: skip


def _pair(row: Row, tokenizer: PreTrainedTokenizerBase, reasoning: Reasoning) -> list[Encoding]:
    """Both answers behind the one prompt that they share: templates may write more before one of
    them, an empty thought for example, which is then a part of it."""
    sides = {"chosen": row.completion, "rejected": row.rejected}
    thinks = any_thinks(sides.values(), reasoning)
    chosen, rejected = (
        _completion(row, answer, tokenizer, reasoning, thinks=thinks, side=side)
        for side, answer in sides.items()
    )
    shared = shared_length(
        chosen.input_ids[: _begin(chosen.labels)], rejected.input_ids[: _begin(rejected.labels)]
    )
    return [
        msgspec.structs.replace(side, labels=_behind(shared, side.input_ids))
        for side in (chosen, rejected)
    ]


def _labelled(row: Row, tokenizer: PreTrainedTokenizerBase, reasoning: Reasoning) -> list[Encoding]:
    """One completion with its label, or both of a pair: the chosen one is desirable."""
    if not row.rejected:
        return [_completion(row, row.completion, tokenizer, reasoning, desirable=row.label)]
    return [
        _completion(row, row.completion, tokenizer, reasoning, side="chosen", desirable=True),
        _completion(row, row.rejected, tokenizer, reasoning, side="rejected", desirable=False),
    ]


def _completion(
    row: Row,
    answer: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    reasoning: Reasoning,
    *,
    thinks: bool = False,
    **more: Any,
) -> Encoding:
    """A prompt with one answer, everything from the answer's first token on in the loss, a line
    break behind its end-of-turn token included, as TRL lays it out."""
    talk = conversation([*row.prompt, *answer], tokenizer, row.tools, reasoning=reasoning)
    talk.thinks = thinks
    (rendered,) = renderings(talk, last_only=True)
    made = _encoded(talk, rendered, reasoning, **more)
    if parts_better(talk, rendered, made.offsets):
        apart = rendered._replace(apart=rendered.spans[0][0])
        made = _encoded(talk, apart, reasoning, **more)
    return msgspec.structs.replace(made, labels=_behind(_begin(made.labels), made.input_ids))


# Tokens


def tokenize(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[Span]]:
    """Token ids of a text without special tokens around it, and where in it each stands."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]  # type: ignore[return-value]


def tokenize_apart(
    rendered: Rendered, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[Span]]:
    """As `tokenize`, a prompt that is to be apart by itself."""
    cut = rendered.apart
    if not cut:
        return tokenize(rendered.text, tokenizer)
    ids, offsets = tokenize(rendered.text[:cut], tokenizer)
    more, behind = tokenize(rendered.text[cut:], tokenizer)
    return ids + more, offsets + [(begin + cut, end + cut) for begin, end in behind]


def parts_better(talk: Conversation, rendered: Rendered, offsets: list[Span]) -> bool:
    """Whether the tokens of a prompt are others than at inference because an answer follows, and
    tokenizing it apart would help."""
    if rendered.apart or not is_separable(talk.tokenizer):
        return False
    starts = {begin for begin, _ in offsets}
    return any(
        begin not in starts or not stands_alone(rendered.text[:begin], talk.tokenizer)
        for begin, _ in rendered.spans
    )


def stands_alone(prompt: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a prompt's last tokens stay the same where a letter follows: GPT-2's tokenizer parts
    two line breaks then."""
    return _tail_stands_alone(prompt[-TAIL:], tokenizer, len(tokenizer))


@lru_cache(maxsize=256)
def _tail_stands_alone(tail: str, tokenizer: PreTrainedTokenizerBase, _size: int) -> bool:
    """Kept for the few tails that prompts have; `_size` makes it anew where tokens were added."""
    alone, _ = tokenize(tail, tokenizer)
    followed, offsets = tokenize(tail + "A", tokenizer)
    before = [token for token, (_, end) in zip(followed, offsets, strict=True) if end <= len(tail)]
    return alone[-2:] == before[-2:]


def _mask(
    ids: list[int], offsets: list[Span], spans: list[Span], text: str, mark: str
) -> list[int]:
    """Labels: the id of every token that lies wholly inside a span, else `IGNORED`.

    An end token may take the white space behind it with it, as Phi-3's does.
    """
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        for index, (first, last) in enumerate(offsets):
            inside = last <= end or text[first:end] == mark
            if start <= first < last and inside:
                labels[index] = ids[index]
    return labels


def _begin(labels: list[int]) -> int:
    """The first token in the loss, or how many there are."""
    return next((at for at, label in enumerate(labels) if label != IGNORED), len(labels))


def _behind(begin: int, ids: list[int]) -> list[int]:
    """Labels with everything from a token on in the loss."""
    return [IGNORED] * begin + ids[begin:]
