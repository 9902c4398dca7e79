"""Text as `generate` writes it: a streamer that decodes in its thread, and can be broken off."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers.generation.stopping_criteria import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from workers.data.tokenize.completion import completion_text

HALF = "\N{REPLACEMENT CHARACTER}"
"""What half a character decodes to: its other bytes are still to come."""


class Stream(BaseStreamer, StoppingCriteria):
    """Hands each piece of one answer to `show`; half characters wait for their other bytes.

    For `generate` it is the streamer and one of the stopping criteria.
    """

    def __init__(
        self, tokenizer: Any, prompt: str, ends: Collection[int], show: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.written: list[int] = []
        """The answer's tokens, without the one that ends it."""
        self.finish = "length"
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._ends = ends
        self._show = show
        self._interrupted = interrupted
        self._shown = ""
        self._prompted = False

    def put(self, value: torch.Tensor) -> None:
        """First the prompt, (1, prompt), then each new token, (1,)."""
        if not self._prompted:
            self._prompted = True
            return
        token = int(value.item())
        if token in self._ends:
            self.finish = "stop"
            return
        self.written.append(token)
        text = completion_text(self.written, self._prompt, self._tokenizer)
        if not text.endswith(HALF) and text.startswith(self._shown) and text != self._shown:
            self._show(text[len(self._shown) :])
            self._shown = text

    def end(self) -> None:
        """Nothing is held back but half characters, which are left out."""

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Called after each token with all of them so far, (1, length); returns (1,)."""
        stopped = self._interrupted()
        if stopped and self.finish == "length":
            self.finish = "asked"
        return torch.full((len(input_ids),), stopped, device=input_ids.device, dtype=torch.bool)
