"""How long a dataset's rows are in tokens, and how much of them is in the loss."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from workers.data.audit.findings import Findings
from workers.data.audit.row_text import completion_of, prompt_of, text_of
from workers.data.schema.row import Row
from workers.data.tokenize.token_counts import Length
from workers.protocol.audit import Bar, TokenStatistics
from workers.protocol.recipe import TooLong
from workers.protocol.stages import StageSpec

BARS = 24


class Lengths:
    """Takes up the lengths of all rows; about 4 bytes of each are held."""

    def __init__(
        self, spec: StageSpec, max_length: int, findings: Findings, too_long: TooLong = "cut"
    ) -> None:
        self._spec = spec
        self._drops = too_long == "drop"
        self._max_length = max_length
        self._findings = findings
        self._tokens = array("i")
        self._kept = self._trained = 0

    def look(self, at: int, row: Row, length: Length | str) -> None:
        """Takes up one row's length, or why the template refuses it."""
        if isinstance(length, str):
            self._findings.add("template_refuses", at, length)
            return
        self._tokens.append(length.tokens)
        if length.difference:
            self._findings.add("unlike_inference", at, length.difference)
        if self._left_out(length):
            self._findings.add("too_long", at, f"{length.tokens} tokens: {text_of(row)}")
            self._trained += length.trained  # of the answers that stay, where there are several
            self._kept += length.kept
            return
        self._kept += length.kept
        self._trained += length.trained
        if length.truncated:
            self._findings.add("truncated", at, f"{length.tokens} tokens: {text_of(row)}")
        if self._spec.policy:
            return
        if not length.trained:
            self._findings.add("no_trained_tokens", at, prompt_of(row))
        elif length.completion_truncated:
            text = f"{length.tokens} tokens: {completion_of(row)}"
            self._findings.add("answer_cut_off", at, text)

    def _left_out(self, length: Length) -> bool:
        """Whether the stage leaves a row, or one of its answers, out for its length."""
        if self._spec.policy or not self._spec.talks:
            return length.truncated
        return self._drops and length.completion_truncated

    @property
    def trained_share(self) -> float | None:
        """Of the tokens left after truncation; None where the model samples its completions."""
        if self._spec.policy or not self._kept:
            return None
        return self._trained / self._kept

    @property
    def statistics(self) -> TokenStatistics | None:
        if not self._tokens:
            return None
        tokens = np.frombuffer(self._tokens, np.int32)
        named = {f"p{at}": int(np.percentile(tokens, at, method="higher"))
                 for at in (5, 25, 50, 75, 95, 99, 100)}  # fmt: skip
        return TokenStatistics(
            total=int(tokens.sum(dtype=np.int64)),
            trained=self._trained,
            max_length=self._max_length,
            mean=round(float(tokens.mean()), 1),
            percentiles=named,
            histogram=_histogram(tokens),
        )


def _histogram(tokens: Any) -> list[Bar]:
    """Equal bars up to the 99th percentile; the last one holds all that is longer."""
    low, top = int(tokens.min()), int(np.percentile(tokens, 99, method="higher"))
    width = -(-(top - low + 1) // BARS)
    found = np.bincount(np.minimum((tokens - low) // width, BARS - 1)).tolist()
    bars = [
        Bar(low + at * width, low + (at + 1) * width - 1, count) for at, count in enumerate(found)
    ]
    last = bars[-1]
    bars[-1] = Bar(last.low, max(last.high, int(tokens.max())), last.count)
    return bars
