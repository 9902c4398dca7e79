"""The audit of a whole dataset before a run: what would be trained on, and what would not.

One pass over the rows in batches; what each look at them counts becomes findings with a meaning and
a remedy. Rows may lie on disk: about 30 bytes of each are held in memory, in arrays.
"""

from __future__ import annotations

import gc
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.data.audit.dedup import TestOverlap, words_of
from workers.data.audit.findings import EXCERPT, Findings
from workers.data.audit.languages import is_wordy, language_guesser
from workers.data.audit.pairs import Labels, Pairs
from workers.data.audit.repeats import Repeats
from workers.data.audit.row_checks import check_answer, check_reference, check_text
from workers.data.audit.row_text import completion_of, prompt_of, said, text_of
from workers.data.audit.token_statistics import Lengths
from workers.data.mix import held_out_below, split_hash
from workers.data.reader import Row, serves
from workers.data.tokenize.encode import encode
from workers.data.tokenize.token_counts import Length, TokenCounter
from workers.protocol.audit import AuditFinding, TokenStatistics
from workers.protocol.recipe import Reasoning, Stage, TooLong
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_LETTERS = 1_000_000
"""Rows are looked at in batches of about so many letters."""
MOST_TEST_ROWS = 10_000
"""Held-out rows that are looked for among the others."""
PROBED_ROWS = 64
"""Rows that are encoded in full, to look at their last tokens in the loss."""
LANGUAGE_ROWS = 400
"""Rows whose language is guessed, spread over the dataset."""


class Audited(NamedTuple):
    findings: list[AuditFinding]
    tokens: TokenStatistics | None
    trained_token_share: float | None


class Audit:
    """Audits usable rows for one stage.

    Args:
        rows: the whole dataset; those that the stage cannot use are left out.
        test: rows that the run will be measured on; None holds a share of `rows` out by hash, as
            the run does.
        stops_at: token ids at which generation stops, beside the tokenizer's own.
        folder: where a file may lie as long as the audit runs.
        too_long: what the run does with rows whose answers do not fit into `max_length`.
        max_rows: held-out rows at most.
        reasoning: what the run does with thinking in answers.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        stage: Stage,
        max_length: int,
        test: Sequence[Row] | None = None,
        holdout: float = 0.1,
        stops_at: Sequence[int] = (),
        folder: Path | None = None,
        too_long: TooLong = "cut",
        max_rows: int = MOST_TEST_ROWS,
        reasoning: Reasoning = "learn",
    ) -> None:
        self._all = rows
        self._tokenizer = tokenizer
        self._stage: Stage = stage
        self._spec = spec_of(stage)
        eos: Any = tokenizer.eos_token_id
        self._stops_at: set[int | None] = {*stops_at, eos}
        self._counter = TokenCounter(tokenizer, stage, max_length, too_long, reasoning)
        self._reasoning: Reasoning = reasoning
        plain = self._spec.supervision == "text"
        self._own = str(tokenizer.chat_template or "") if plain else None
        self._served, places = _placed(rows, stage)
        self._numbers = (np.flatnonzero(self._served) + 1).astype(np.uint32)
        self._findings = Findings(lambda at: int(self._numbers[at]))
        self._lengths = Lengths(self._spec, max_length, self._findings, too_long)
        self._pairs = Pairs(self._findings)
        self._labels = Labels(self._findings)
        self._repeats = Repeats(self._findings, self._row, folder)
        if test is None:
            self._apart = _held_out(places, held_out_below(places, holdout), max_rows)
            apart = np.flatnonzero(self._apart)
            self._test = [prompt_of(self._row(at)) for at in apart[:MOST_TEST_ROWS].tolist()]
            self._findings.soften("test_overlap")  # rows of one kind share forms of words
        else:
            self._apart = np.zeros(len(places), bool)
            self._test = [prompt_of(row) for row in test]
        self._overlap = TestOverlap(self._test)

    def run(self, progress: Callable[[int, int], bool] = lambda done, total: True) -> Audited:
        """Looks at all rows, once.

        Args:
            progress: told how many rows are done, of how many; False ends the audit early.
        """
        with _uncollected(), closing(self._repeats):
            for begin, rows, lengths in self._counted():
                self._look(begin, rows, lengths)
                if not progress(begin + len(rows), len(self._numbers)):
                    return self._audited()
            self._end_of_turn()
            self._languages()
            self._pairs.end()
            self._labels.end()
            self._repeats.end()
            self._test_overlap()
        return self._audited()

    def _row(self, at: int) -> Row:
        """A row by its place among those that the stage can use."""
        return self._all[int(self._numbers[at]) - 1]

    def _audited(self) -> Audited:
        found = self._findings.all(len(self._numbers))
        return Audited(found, self._lengths.statistics, self._lengths.trained_share)

    # The pass

    def _counted(self) -> Iterator[tuple[int, list[Row], list[Length | str]]]:
        """Batches of rows, where they begin, and their lengths."""
        begin = 0
        for rows in _batches(itertools.compress(self._all, self._served)):
            yield begin, rows, self._counter.count(rows)
            begin += len(rows)

    def _look(self, begin: int, rows: list[Row], lengths: list[Length | str]) -> None:
        texts = [text_of(row) for row in rows]
        words = words_of(texts)
        self._repeats.look_at_words(words)
        places = np.arange(begin, begin + len(rows))
        places[self._apart[begin : begin + len(rows)]] = -1
        self._overlap.add(words, [prompt_of(row) for row in rows], places)
        digits = words.digits.tolist()
        for at, (row, text, length, numerals) in enumerate(
            zip(rows, texts, lengths, digits, strict=True), begin
        ):
            self._lengths.look(at, row, length)
            check_text(self._findings, at, text, numerals, self._own)
            self._repeats.look(row, text)
            if self._spec.policy:
                check_reference(self._findings, at, row)
            if self._stage == "kto":
                self._labels.look(at, row)
            if row.completion:
                check_answer(self._findings, at, row)
            if row.rejected:
                self._pairs.look(at, completion_of(row), said(row.rejected[-1]))

    # What only shows in all rows together

    def _end_of_turn(self) -> None:
        """Encodes some rows as training does, and looks at the last tokens in the loss.

        Whether the end of a turn is among them is the template's doing, so what holds for these
        rows holds for all.
        """
        if self._spec.supervision in ("text", "prompts") or not len(self._numbers):
            return
        special = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
        looked = 0
        found: Counter[str] = Counter()
        for at in _spread(len(self._numbers), PROBED_ROWS):
            row = self._row(at)
            try:
                end = encode(row, self._stage, self._tokenizer, reasoning=self._reasoning)[0].end
            except Exception:  # counted as `template_refuses` where lengths were counted
                continue
            looked += 1
            mark = next((token for token in reversed(end) if token in special), None)
            if self._stops_at & set(end):
                continue
            kind = "end_of_turn_masked" if mark is None else "end_of_turn_unknown"
            if row.segments:
                kind = "segments_without_end"
            text = completion_of(row)[-EXCERPT:] if mark is None else self._tokenizer.decode([mark])
            self._findings.add(kind, at, str(text))
            found[kind] += 1
        for kind, count in found.items():
            self._findings.set_total(kind, round(len(self._numbers) * count / looked))

    def _languages(self) -> None:
        """Guesses the language of some rows; all but the commonest one's are found."""
        places = _spread(len(self._numbers), LANGUAGE_ROWS)
        texts = [(at, text_of(self._row(at))) for at in places]
        wordy = [(at, text) for at, text in texts if is_wordy(text)]
        if not wordy:
            return
        guess = language_guesser()
        guesses = [(at, text, guess(text)) for at, text in wordy]
        common = Counter(name for _, _, name in guesses if name).most_common()
        for at, text, name in guesses:
            if name and name != common[0][0]:
                self._findings.add("language_mix", at, f"{name}: {text}")
        self._findings.set_of("language_mix", len(guesses))

    def _test_overlap(self) -> None:
        for test, row in self._overlap.found():
            self._findings.add("test_overlap", row, f"Measured on: {self._test[test]}")
        self._findings.set_of("test_overlap", len(self._test))


def _placed(rows: Iterable[Row], stage: Stage) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows the stage can use, and the positions of those that it can."""
    served, places = array("B"), array("d")
    for row in rows:
        serving = serves(row, stage)
        served.append(serving)
        if serving:
            places.append(split_hash(row))
    return np.array(served, bool), np.array(places)


def _held_out(places: NDArray[np.float64], bound: float, most: int) -> NDArray[np.bool_]:
    """Which rows are held out: of those below the bound the `most` of the least positions, and
    what stands at the last one's."""
    below = np.sort(places[places < bound])
    return places <= below[most - 1] if len(below) > most else places < bound


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spares the walks through all rows that Python's collector of cycles would make."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    letters = 0
    for row in rows:
        batch.append(row)
        letters += len(row.plain) + sum(
            [len(turn["content"]) for turn in (*row.prompt, *row.completion, *row.rejected)]
        )
        if letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


def _spread(total: int, wanted: int) -> list[int]:
    """So many places, evenly spread; all of them where there are fewer."""
    if total <= wanted:
        return list(range(total))
    return [at * total // wanted for at in range(wanted)]


def require(stage: str, stages: Sequence[str], source: str) -> None:
    """Refuses a stage that the data cannot serve."""
    if stage not in stages:
        raise Refusal(
            f"The dataset {source} cannot serve the stage '{stage}'.",
            f"It can serve {', '.join(stages) or 'none'}.",
            "Leave --stage out, or bring other data.",
        )
