"""A row as the model will see it in training: its tokens, which are learnt, where it is cut.

Takes the very layout that training takes, and says in sentences where template, model and row
disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.audit.text_checks import template_marks
from workers.data.reader import Message, Row, serves
from workers.data.tokenize.chat_template import (
    TEMPLATES,
    end_turns,
    is_one_token,
    set_chat_template,
)
from workers.data.tokenize.encode import (
    IGNORED,
    Encoding,
    encode,
    encode_answer,
    encode_conversation,
    encode_text,
    render,
)
from workers.data.tokenize.token_counts import PAIRED, PROMPTED
from workers.protocol.browse import LONGEST_SHOWN, Piece, TokenView
from workers.protocol.recipe import Stage, Template
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_TOKENS = 3
"""The end token is looked for among so many: some templates put a line break behind it."""


class Side(NamedTuple):
    """One conversation of a row."""

    title: str
    messages: list[Message]
    layout: Encoding


class TokenViewer:
    """Shows rows with one tokenizer and one template."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template = "auto",
        stops_at: Iterable[int] = (),
    ) -> None:
        """Dresses the tokenizer, which is the viewer's from then on.

        Args:
            tokenizer: as it lies in its folder, without a template from us.
            template: as a recipe names it.
            stops_at: end tokens of generation, besides the tokenizer's own.
        """
        self._own: Any = tokenizer.chat_template
        self._template: Template = template
        self._document_end: Any = tokenizer.eos_token_id
        self.name = set_chat_template(tokenizer, template)
        end_turns(tokenizer, stops_at)
        self._tokenizer: Any = tokenizer
        self._stops_at = {*stops_at, self._tokenizer.eos_token_id}
        added = self._tokenizer.added_tokens_decoder.items()
        self._special = {number for number, token in added if token.special}
        self._special |= set(self._tokenizer.all_special_ids)

    def views(self, row: Row, number: int, stage: Stage, max_length: int) -> list[TokenView]:
        """One view of a row, or two of a pair.

        Raises:
            Refusal: the stage cannot learn from the row, or training would refuse it.
        """
        if not serves(row, stage):
            raise Refusal(
                f"Stage {stage} cannot learn from this row.",
                "It does not hold what that stage needs.",
                "Choose another stage.",
            )
        return [
            self._view(side, row, number, stage, max_length) for side in self._sides(row, stage)
        ]

    def _sides(self, row: Row, stage: Stage) -> Iterator[Side]:
        tokenizer = self._tokenizer
        if stage == "cpt":
            yield Side("", [], encode_text(row.text, tokenizer, self._document_end))
        elif stage in PROMPTED:
            text = render(row.prompt, tokenizer, generation=True, tools=row.tools)
            ids, offsets = encode(text, tokenizer)
            yield Side("", row.prompt, Encoding(text, ids, [IGNORED] * len(ids), offsets))
        elif stage in PAIRED:
            both = [("chosen", row.completion), ("rejected", row.rejected)]
            for title, answer in both if row.rejected else [("", row.completion)]:
                layout = encode_answer(row.prompt, answer, tokenizer, row.tools)
                yield Side(title, [*row.prompt, *answer], layout)
        else:
            yield Side(
                "", row.messages, encode_conversation(row.messages, tokenizer, tools=row.tools)
            )

    def _view(self, side: Side, row: Row, number: int, stage: Stage, max_length: int) -> TokenView:
        layout = side.layout
        if stage == "cpt":
            max_length = len(layout.input_ids)  # split into windows, none of it is cut off
        example = layout.cut(max_length)
        return TokenView(
            row=number,
            title=side.title,
            pieces=list(self._pieces(layout)),
            tokens=len(layout.input_ids),
            trained=example.trained_tokens,
            truncated_at=max_length if example.truncated else None,
            template="" if stage == "cpt" else self.name,
            warnings=list(self._warnings(side, row, stage, max_length)),
        )

    def _pieces(self, layout: Encoding) -> Iterator[Piece]:
        """Tokens as text that reads as the row does; the further bytes of a letter are empty."""
        shown = 0
        of = zip(layout.input_ids, layout.labels, layout.offsets, strict=True)
        for _, (token, label, (_, last)) in zip(range(LONGEST_SHOWN), of, strict=False):
            text = layout.text[shown:last]
            shown = max(shown, last)
            special = token in self._special
            if not text and special:  # the end mark of plain text stands in no text
                text = str(self._tokenizer.convert_ids_to_tokens(token))
            yield Piece(text, label != IGNORED, special)

    # Warnings

    def _warnings(self, side: Side, row: Row, stage: Stage, max_length: int) -> Iterator[str]:
        if stage != "cpt":
            yield from self._of_template(side.messages)
            yield from _left_out(side.messages, side.layout.text)
        yield from self._of_marks(side, row, stage)
        if stage in PROMPTED:
            if len(side.layout.input_ids) > max_length:
                yield f"The prompt is longer than {max_length} tokens: the row is left out."
        else:
            yield from self._of_labels(side, stage, max_length)

    def _of_template(self, messages: list[Message]) -> Iterator[str]:
        if self._own is None and self._template == "auto":
            yield "The model has no chat template of its own, so ChatML is used."
        if self._own is not None and self._template != "auto" and self._differs(messages):
            yield (
                f"The template {self.name} writes this row otherwise than the model's own, which "
                "the model has learnt."
            )
        end = TEMPLATES[self.name].end if self.name in TEMPLATES else ""
        if end and not is_one_token(self._tokenizer, end):
            yield f"The end mark {end} is no token of this model: it is spelt in pieces."

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

    def _of_marks(self, side: Side, row: Row, stage: Stage) -> Iterator[str]:
        said = [message["content"] for message in side.messages] or [row.text]
        own = str(self._own or "") if stage == "cpt" else None
        family = next(filter(None, (template_marks(text, own) for text in said)), None)
        if family:
            wrapped = "" if stage == "cpt" else ", which the template wraps again"
            yield f"The text itself holds marks of a chat template ({family}){wrapped}."

    def _of_labels(self, side: Side, stage: Stage, max_length: int) -> Iterator[str]:
        kept = side.layout.cut(max_length)
        labels = [label for label in side.layout.labels if label != IGNORED]
        lost = len(labels) - kept.trained_tokens
        if not kept.trained_tokens:
            yield "No token of this row is learnt: the answer begins behind the cut."
        elif lost:
            yield f"The answer is cut off: its last {lost} tokens are not learnt."
        if stage != "cpt" and labels:
            yield from self._of_end(labels[-END_TOKENS:])

    def _of_end(self, last: list[int]) -> Iterator[str]:
        if self._stops_at & set(last):
            return
        mark = next((token for token in reversed(last) if token in self._special), None)
        if mark is None:
            yield "The token that ends the answer is not learnt: the model would never stop."
        else:
            name = self._tokenizer.convert_ids_to_tokens(mark)
            yield f"The answer ends with {name}, at which generation does not stop."


def _left_out(messages: list[Message], text: str) -> Iterator[str]:
    """What the template does not write; of tools, training itself is the judge."""
    for role, what in (("system", "the system message"), ("user", "a question")):
        said = [message["content"].strip() for message in messages if message["role"] == role]
        if any(one not in text for one in said):
            yield f"The template leaves out or changes {what}."
