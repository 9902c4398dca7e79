"""Lets a model complete prompts and checks what it says against the reference answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.data.tokenize.chat_template import Tools, render
from workers.data.tokenize.completion import completion_text, cut_while_thinking
from workers.memory import at_once, give_back, in_parts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from workers.data.reader import Message, Row

BATCH = 64
LARGE_MODEL = 1_000_000_000
LARGE_BATCH = 16
"""Completions at once at most, of a large model fewer: more would be no faster."""


OWN_DISTRIBUTION: dict[str, Any] = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
"""Completes from what the model itself finds likely, whatever its generation_config bends."""


class Completion(NamedTuple):
    """What a model said to one prompt, as text and by its length."""

    text: str
    tokens: int
    truncated: bool
    """It did not end by itself within the max completion tokens."""
    cut_thinking: bool = False
    """It was truncated before its thinking came to an end."""


class Generator:
    """A loaded model that completes many prompts at once."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, device: str, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._dtype = dtype
        self._ends = turn_ends(model, tokenizer)

    def complete(
        self,
        prompts: Sequence[list[Message]],
        longest: int,
        temperature: float = 0.0,
        *,
        tools: Sequence[Tools] = (),
    ) -> list[Completion]:
        """A completion of each conversation, in order; greedy at temperature 0.

        Prompts of like length are completed together, padded on the left.

        Args:
            tools: of each conversation those that it may call; none where left out.
        """
        texts = [
            render(prompt, self._tokenizer, generation=True, tools=offered)
            for prompt, offered in zip(prompts, tools or [()] * len(prompts), strict=True)
        ]
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        was_training = self._model.training
        self._model.eval()
        try:
            found = self._in_batches([texts[at] for at in order], longest, temperature)
        finally:
            self._model.train(was_training)
        completions = dict(zip(order, found, strict=True))
        return [completions[at] for at in range(len(texts))]

    def _in_batches(self, texts: list[str], longest: int, temperature: float) -> list[Completion]:
        """Completions of prompts, the longest of which is the last, as many at once as fit."""
        if not texts:
            return []
        found, _ = in_parts(
            lambda begin, end: self._generate(texts[begin:end], longest, temperature),
            len(texts),
            self._at_once(texts[-1], longest),
        )
        if self._device == "cuda":
            give_back()  # training is to find the memory free that the cache took
        return found

    def _at_once(self, longest_prompt: str, longest: int) -> int:
        most = BATCH if self._model.num_parameters() < LARGE_MODEL else LARGE_BATCH
        tokenizer: Any = self._tokenizer
        prompt = len(tokenizer(longest_prompt, add_special_tokens=False)["input_ids"])
        return at_once(self._model, self._device, prompt, longest, most)

    def _generate(self, texts: list[str], longest: int, temperature: float) -> list[Completion]:
        import torch

        tokenizer: Any = self._tokenizer
        encoded = tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(self._model.device)
        encoded.pop("token_type_ids", None)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature > 0
            else {"do_sample": False}
        )
        casting = (
            torch.autocast(self._device, self._dtype)
            if self._dtype != torch.float32
            else nullcontext()
        )
        with torch.no_grad(), casting:
            output = self._model.generate(
                **encoded, **sampling, **OWN_DISTRIBUTION, max_new_tokens=longest,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=sorted(self._ends),
            )  # fmt: skip
        width = encoded["input_ids"].shape[1]
        return list(map(self._completion, output[:, width:].tolist(), texts))

    def _completion(self, ids: list[int], prompt: str) -> Completion:
        end = next((at for at, token in enumerate(ids) if token in self._ends), None)
        length = len(ids) if end is None else end + 1
        text = completion_text(ids[:length], prompt, self._tokenizer)
        cut = cut_while_thinking(text, truncated=end is None)
        return Completion(text, length, end is None, cut)


def turn_ends(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model was made with."""
    known = model.generation_config.eos_token_id
    listed = known if isinstance(known, list) else [known]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


@dataclass(frozen=True)
class Measured:
    """What was measured on held-out rows, by name."""

    values: dict[str, float] = field(default_factory=dict)
    each: dict[str, list[float | None]] = field(default_factory=dict)
    """Of some values what they are the mean of, one number a row; None where it has no score."""

    def __or__(self, other: Measured) -> Measured:
        return Measured(self.values | other.values, self.each | other.each)


def accuracy_of(rows: Sequence[Row], completions: Sequence[Completion]) -> Measured:
    """The share of rows answered right: a completion's final answer must equal the reference.

    Also the mean length in tokens and the share that was truncated, which explains a low share;
    of those the share that was still thinking, where there are any.
    """
    from workers.answers import is_right

    right = [is_right(one.text, row.answer) for one, row in zip(completions, rows, strict=True)]
    values = {
        "accuracy": sum(right) / len(rows),
        "completion_length": sum(one.tokens for one in completions) / len(rows),
        "truncation_rate": sum(one.truncated for one in completions) / len(rows),
    }
    cut = sum(one.cut_thinking for one in completions)
    if cut:
        values["cut_thinking_rate"] = cut / len(rows)
    return Measured(values, {"accuracy": [float(one) for one in right]})
