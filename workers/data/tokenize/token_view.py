"""A row as the model will see it in training: its tokens, which are in the loss, where it ends.

Shows what `encode` gives, and says in sentences where template, model and row disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from workers.data.reader import Message, Row, serves
from workers.data.tokenize.chat_template import (
    end_turns,
    render,
    replaced_end,
    rewrite_template,
    set_chat_template,
)
from workers.data.tokenize.encode import IGNORED, Encoding, encode, fit, units
from workers.data.tokenize.template_head import for_answers
from workers.data.tokenize.template_marks import template_marks
from workers.protocol.browse import LONGEST_SHOWN, Piece, TokenView
from workers.protocol.recipe import Stage, Template, TooLong
from workers.protocol.refusal import Refusal
from workers.protocol.stages import StageSpec, spec_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MASKS = {
    "generation": "The chat template itself marks what the assistant says.",
    "spans": "The answers were found in the text of the whole conversation.",
    "per answer": "Each answer is trained by itself, behind the prompt that the model reads at "
    "inference.",
    "segments": "The row's own segments say which of them are learnt.",
}
"""By what `Encoding.mask_source` calls it."""


class TokenViewer:
    """Shows rows with one tokenizer and one template."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template = "auto",
        stops_at: Iterable[int] = (),
        *,
        thought: bool = False,
    ) -> None:
        """Gives the tokenizer the template; it is the viewer's from then on.

        Args:
            tokenizer: as it lies in its folder, without a template from us.
            template: as a recipe names it.
            stops_at: end tokens of generation, besides the tokenizer's own.
            thought: whether answers of the dataset come with thinking.
        """
        self._own: Any = tokenizer.chat_template
        self._template: Template = template
        self._document_end: Any = tokenizer.eos_token_id
        self.name = set_chat_template(tokenizer, template)
        end_turns(tokenizer, stops_at)
        self._tokenizer: Any = tokenizer
        self._set: Any = tokenizer.chat_template
        self._thought = thought
        self._stops_at = {*stops_at, self._tokenizer.eos_token_id}
        added = self._tokenizer.added_tokens_decoder.items()
        self._special = {number for number, token in added if token.special}
        self._special |= set(self._tokenizer.all_special_ids)

    def views(
        self, row: Row, number: int, stage: Stage, max_length: int, too_long: TooLong = "cut"
    ) -> list[TokenView]:
        """One view of a row, two of a pair, or one of each answer.

        Raises:
            Refusal: the stage cannot learn from the row, or training would refuse it.
        """
        if not serves(row, stage):
            raise Refusal(
                f"Stage {stage} cannot learn from this row.",
                "It does not hold what that stage needs.",
                "Choose another stage.",
            )
        spec = spec_of(stage)
        self._tokenizer.chat_template = self._set
        if spec.learns_answers:
            rewrite_template(self._tokenizer, lambda text: for_answers(text, thought=self._thought))
        encodings = encode(row, stage, self._tokenizer, document_end=self._document_end)
        taken = [
            (one, bool(fit(unit, stage, max_length, too_long)))
            for unit in units(encodings, stage)
            for one in unit
        ]
        titles = [
            one.side or (f"answer {at} of {len(taken)}" if len(taken) > 1 else "")
            for at, (one, _) in enumerate(taken, start=1)
        ]
        return [
            self._view(one, row, number, spec, max_length, title=title, taken=kept)
            for title, (one, kept) in zip(titles, taken, strict=True)
        ]

    def _view(
        self, encoding: Encoding, row: Row, number: int, spec: StageSpec, max_length: int, *,
        title: str, taken: bool,
    ) -> TokenView:  # fmt: skip
        if spec.supervision == "text":
            max_length = len(encoding.input_ids)  # split into windows, none of it is truncated
        example = encoding.truncate(max_length)
        trained = example.trained_tokens if taken else 0
        return TokenView(
            row=number,
            title=title,
            pieces=list(self._pieces(encoding)),
            tokens=len(encoding.input_ids),
            trained=trained,
            truncated_at=max_length if example.truncated else None,
            template=self.name if encoding.messages else "",
            mask=MASKS.get(encoding.mask_source, ""),
            warnings=list(self._warnings(encoding, row, spec, max_length, trained)),
        )

    def _pieces(self, encoding: Encoding) -> Iterator[Piece]:
        """Tokens as text that reads as the row does; the further bytes of a letter are empty."""
        shown = 0
        of = zip(encoding.input_ids, encoding.labels, encoding.offsets, strict=True)
        for _, (token, label, (first, last)) in zip(range(LONGEST_SHOWN), of, strict=False):
            text = encoding.text[shown:last]
            shown = max(shown, last)
            special = token in self._special
            if not text and special:  # the end mark of plain text stands in no text
                text = str(self._tokenizer.convert_ids_to_tokens(token))
            thinks = any(begin <= first and last <= end for begin, end in encoding.thoughts)
            yield Piece(text, label != IGNORED, special, thinks)

    # Warnings

    def _warnings(
        self, encoding: Encoding, row: Row, spec: StageSpec, max_length: int, trained: int
    ) -> Iterator[str]:
        yield from encoding.differences
        if encoding.messages:
            yield from self._of_template(encoding.messages)
            yield from _left_out(encoding.messages, encoding.text)
        yield from self._of_marks(encoding, row, spec)
        if spec.supervision == "prompts":
            if len(encoding.input_ids) > max_length:
                yield f"The prompt is longer than {max_length} tokens: the row is left out."
        else:
            yield from self._of_labels(encoding, spec, max_length, trained)

    def _of_template(self, messages: list[Message]) -> Iterator[str]:
        if self._own is None and self._template == "auto":
            yield "The model has no chat template of its own, so ChatML is used."
        if self._own is not None and self._template != "auto" and self._differs(messages):
            yield (
                f"The template {self.name} writes this row otherwise than the model's own, which "
                "the model has learnt."
            )
        if end := replaced_end(self._tokenizer):
            own = self._tokenizer.eos_token
            yield f"The end mark {end} is no token of this model: {own} ends answers instead."

    def _differs(self, messages: list[Message]) -> bool:
        ours = self._tokenizer.chat_template
        here = render(messages, self._tokenizer)
        try:
            self._tokenizer.chat_template = self._own
            return render(messages, self._tokenizer) != here
        except Exception:  # templates raise what they like
            return True
        finally:
            self._tokenizer.chat_template = ours

    def _of_marks(self, encoding: Encoding, row: Row, spec: StageSpec) -> Iterator[str]:
        plain = not row.prompt
        texts = [row.plain] if plain else [message["content"] for message in encoding.messages]
        own = str(self._own or "") if plain else None
        family = next(filter(None, (template_marks(text, own) for text in texts)), None)
        if family:
            wrapped = "" if plain else ", which the template wraps again"
            yield f"The text itself holds marks of a chat template ({family}){wrapped}."

    def _of_labels(
        self, encoding: Encoding, spec: StageSpec, max_length: int, trained: int
    ) -> Iterator[str]:
        labels = [label for label in encoding.labels if label != IGNORED]
        lost = len(labels) - trained
        if not trained and not spec.talks:
            yield f"The pair is longer than {max_length} tokens: the row is left out."
        elif not trained and any(label != IGNORED for label in encoding.labels[:max_length]):
            yield f"An answer does not fit into {max_length} tokens: the row is left out."
        elif not trained:
            yield "No token of this row is in the loss: the completion is truncated away."
        elif lost:
            yield f"The completion is truncated: its last {lost} tokens are left out."
        if spec.supervision != "text" and labels:
            yield from self._of_end(encoding.end)

    def _of_end(self, last: list[int]) -> Iterator[str]:
        if self._stops_at & set(last):
            return
        mark = next((token for token in reversed(last) if token in self._special), None)
        if mark is None:
            yield "The token that ends the answer is masked: the model would never stop."
        else:
            name = self._tokenizer.convert_ids_to_tokens(mark)
            yield f"The answer ends with {name}, at which generation does not stop."


def _left_out(messages: list[Message], text: str) -> Iterator[str]:
    """What the template does not write; tools that it leaves out are refused by `encode`."""
    for role, what in (("system", "the system message"), ("user", "a question")):
        said = [message["content"].strip() for message in messages if message["role"] == role]
        if any(one not in text for one in said):
            yield f"The template leaves out or changes {what}."
