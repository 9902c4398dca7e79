"""The audit of a whole dataset before a run: what would be learnt from it, and what would not.

One pass over the rows in batches; what each look at them counts becomes findings with a meaning and
a remedy. Rows may lie on disk: about 30 bytes of each are held in memory, in arrays.
"""

from __future__ import annotations

import gc
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.data.audit.dedup import (
    GRAM,
    NearDuplicates,
    TestOverlap,
    alike,
    halves,
    plain,
    similarity,
    words_of,
)  # fmt: skip
from workers.data.audit.dedup import SIMILAR as NEAR
from workers.data.audit.text_checks import personal_data, placeholder, template_marks
from workers.data.mix import held_out_below, position
from workers.data.reader import BadRow, Row, serves
from workers.data.tokenize.encode import IGNORED, tokenize
from workers.data.tokenize.token_counts import PROMPTED, Length, TokenCounter
from workers.protocol.audit import AuditExample, AuditFinding, BadLine, Bar, TokenStatistics
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_LETTERS = 1_000_000
"""Rows are looked at in batches of about so many letters."""
EXAMPLES = 3
MOST_BAD = 1000
"""Bad lines that are told one by one; the others are counted."""
MOST_TEST_ROWS = 10_000
"""Held-out rows that are looked for among the others: those that a run would measure first."""
EXCERPT = 160
PROBED_ROWS = 64
"""Rows that are tokenized and masked in full, to look at their last trained token."""
LANGUAGE_ROWS, LANGUAGE_LETTERS, SURE = 400, 40, 0.95
"""Rows whose language is guessed, spread over the dataset; the letters that a guess needs, and the
probability from which it counts."""
ONE_ANSWER = 0.5
LONGER, LONGER_BY, LEAST_ROWS = 0.9, 1.1, 20
"""Chosen answers longer in 9 of 10 pairs, and by a tenth in all: length alone then tells the better
one (Singhal et al. 2023, "A long way to go: investigating length correlations in RLHF")."""


class Kind(NamedTuple):
    """A finding's sentence, what to do, and from which share of rows it is how grave."""

    meaning: str
    remedy: str
    warning: float
    alarm: float = 2.0
    """2 stands for never."""


KINDS: dict[str, Kind] = {
    "no_trained_tokens": Kind(
        "These rows have no token to learn: their answer begins after the longest example.",
        "Raise training.max_length, or shorten their prompts.", 0.0, 0.1,
    ),
    "truncated": Kind(
        "These rows are longer than the longest example and are cut.",
        "Raise training.max_length or split long rows.", 0.05, 0.5,
    ),
    "answer_cut_off": Kind(
        "The end of these answers is cut off, so that the model learns to break off.",
        "Raise training.max_length or leave these rows out.", 0.0, 0.1,
    ),
    "end_of_turn_masked": Kind(
        "The token that ends the answer is not learnt: the model would never stop talking.",
        "Give the tokenizer a chat template that ends each turn with its end token, or take the "
        "instruct version of the model.", 0.0, 0.1,
    ),
    "end_of_turn_unknown": Kind(
        "The token that ends the answer is none that generation stops at.",
        "Name it as eos_token in the tokenizer or in generation_config.json.", 0.0,
    ),
    "wrong_template": Kind(
        "The text holds marks of a chat template, which the model's own template would wrap again.",
        "Bring plain turns, in messages or prompt and completion, without any template.", 0.0, 0.1,
    ),
    "template_literal": Kind(
        "The text holds a blank of a template that nobody filled in.",
        "Fill the template in before saving the rows, or remove these.", 0.0, 0.1,
    ),
    "empty_answer": Kind(
        "These answers say nothing.", "Remove these rows or bring their answers.", 0.0, 0.1,
    ),
    "identical_answers": Kind(
        "Most rows have one and the same answer; the model would learn it and nothing else.",
        "Check that the right column is the answer; if it is, bring more kinds of answers.",
        0.0, 0.9,
    ),
    "chosen_equals_rejected": Kind(
        "The better and the worse answer are the same.",
        "Remove these pairs: nothing can be learnt from them.", 0.0, 0.1,
    ),
    "missing_prompt": Kind(
        "These rows ask nothing.", "Bring their prompts, or use the rows as plain text.", 0.0, 0.1,
    ),
    "length_leak": Kind(
        "The better answer is nearly always the longer one: length alone tells them apart, and the "
        "model may learn to ramble.",
        "Bring pairs whose better answer is the shorter one, or take SimPO, which divides by "
        "length.", 0.0,
    ),
    "unclosed_thinking": Kind(
        "The thinking in these answers is opened and not closed, or closed and not opened.",
        "Mend the <think> and </think> marks of these rows.", 0.0, 0.1,
    ),
    "answer_not_in_completion": Kind(
        "The final box of these answers differs from the row's answer column.",
        "Correct whichever is wrong; training would teach the completion, rewards the answer.",
        0.0, 0.1,
    ),
    "exact_duplicates": Kind(
        "These rows stand in the dataset before, word for word.",
        "Remove them, unless they are meant to weigh more.", 0.05, 0.5,
    ),
    "near_duplicates": Kind(
        f"These rows say nearly what an earlier one says (similarity of {NEAR:.0%} or more).",
        "Keep one of each group.", 0.1, 0.5,
    ),
    "test_overlap": Kind(
        f"Rows that the run is measured on stand in its training rows, whole or in runs of {GRAM} "
        "words: the measure would flatter.",
        "Remove those training rows, or bring another test set.", 0.0, 0.1,
    ),
    "language_mix": Kind(
        "The rows are in more than one language.",
        "Keep them apart if the model should answer in one language.", 2.0,
    ),
    "personal_data": Kind(
        "These rows hold data of a person, which the model may learn by heart.",
        "Remove it or put a stand-in such as [EMAIL] in its place.", 0.0,
    ),
    "template_refuses": Kind(
        "The rows are sound, but the model's chat template does not take them, or writes them so "
        "that their answers cannot be told apart. The examples say why.",
        'Choose another template, model.template = "chatml" for example, or leave these rows out '
        'with bad_rows = "skip".', 0.0, 0.1,
    ),
    "roles": Kind(
        "The turns of these rows are no conversation.",
        "Let an optional system turn come first, then user and assistant in turn, the assistant "
        "last.", 0.0, 0.1,
    ),
}  # fmt: skip
"""Every kind of finding. Below `warning` it is advice; a single row is above 0."""


class Count:
    """The rows that one kind was found in."""

    def __init__(self) -> None:
        self.rows = 0
        self.examples: list[AuditExample] = []

    def add(self, row: int, text: str = "") -> None:
        """Takes up a row, numbered from 1."""
        self.rows += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(AuditExample(row, excerpt(text)))


def excerpt(text: str) -> str:
    line = " ".join(text[: 4 * EXCERPT].split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


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
    ) -> None:
        self._all = rows
        self._tokenizer = tokenizer
        self._stage: Stage = stage
        self._max_length = max_length
        eos: Any = tokenizer.eos_token_id
        self._stops_at: set[int | None] = {*stops_at, eos}
        self._measurer = TokenCounter(tokenizer, stage, max_length)
        self._own = str(tokenizer.chat_template or "") if stage == "cpt" else None
        self._counts: dict[str, Count] = {}
        self._of: dict[str, int] = {}
        self._gentle: set[str] = set()
        self._tokens = array("i")
        self._kept = self._trained = 0
        self._answers, self._keys = array("q"), array("q")
        """Of each row looked at, the hash of its answer (0 for none) and of all of it."""
        self._near = NearDuplicates(folder)
        self._pairs = self._longer = self._chosen_letters = self._rejected_letters = 0
        self._served, places = _placed(rows, stage)
        self._numbers = (np.flatnonzero(self._served) + 1).astype(np.uint32)
        self._duplicate = np.zeros(len(self._numbers), bool)
        if test is None:
            self._apart = places < held_out_below(places, holdout)
            self._test = [asked(self._row(at)) for at in _foremost(self._apart, places)]
            self._gentle.add("test_overlap")  # rows of one kind share forms of words
        else:
            self._apart = np.zeros(len(places), bool)
            self._test = [asked(row) for row in test]
        self._overlap = TestOverlap(self._test)

    def run(self, progress: Callable[[int, int], bool] = lambda done, total: True) -> Audited:
        """Looks at all rows, once.

        Args:
            progress: told how many rows are done, of how many; False ends the audit early.
        """
        with _uncollected(), closing(self._near):
            for begin, rows, lengths in self._measured():
                self._look(begin, rows, lengths)
                if not progress(begin + len(rows), len(self._numbers)):
                    return self._told()
            self._end_of_turn()
            self._languages()
            self._answers_alike()
            self._length_leak()
            self._doubles()
            self._near_duplicates()
            self._test_overlap()
        return self._told()

    def _row(self, at: int) -> Row:
        """A row by its place among those that the stage can use."""
        return self._all[int(self._numbers[at]) - 1]

    # The pass

    def _measured(self) -> Iterator[tuple[int, list[Row], list[Length | str]]]:
        """Batches of rows, where they begin, and their lengths; the tokenizer spreads each over all
        cores."""
        begin = 0
        for rows in _batches(itertools.compress(self._all, self._served)):
            prepared = self._measurer.prepare(rows)
            yield begin, rows, self._measurer.measure(prepared, self._measurer.encode(prepared))
            begin += len(rows)

    def _look(self, begin: int, rows: list[Row], lengths: list[Length | str]) -> None:
        texts = [said(row) for row in rows]
        words = words_of(texts)
        self._near.add(words)
        places = np.arange(begin, begin + len(rows))
        places[self._apart[begin : begin + len(rows)]] = -1
        self._overlap.add(words, [asked(row) for row in rows], places)
        digits = words.digits.tolist()
        for at, (row, text, length, numerals) in enumerate(
            zip(rows, texts, lengths, digits, strict=True), begin
        ):
            self._look_at_length(at, row, length)
            self._look_at_text(at, text, numerals)
            self._answers.append(_hashed(answer(row)) if row.completion else 0)
            if row.completion:
                self._look_at_answer(at, row)
            self._keys.append(_hashed((text, _system(row), row.answer, row.label)))

    def _found(self, kind: str, at: int, text: str) -> None:
        self._count(kind).add(self._number(at), text)

    def _number(self, at: int) -> int:
        """A row's number in the dataset, from 1."""
        return int(self._numbers[at])

    def _count(self, kind: str) -> Count:
        return self._counts.setdefault(kind, Count())

    def _look_at_length(self, at: int, row: Row, length: Length | str) -> None:
        if isinstance(length, str):
            self._found("template_refuses", at, length)
            return
        self._tokens.append(length.tokens)
        self._kept += length.kept
        self._trained += length.trained
        if not length.cut:
            if not length.trained and self._stage not in PROMPTED:
                self._found("no_trained_tokens", at, asked(row))
            return
        self._found("truncated", at, f"{length.tokens} tokens: {said(row)}")
        if self._stage in PROMPTED:
            return
        if not length.trained:
            self._found("no_trained_tokens", at, asked(row))
        elif length.answer_cut:
            self._found("answer_cut_off", at, f"{length.tokens} tokens: {answer(row)}")

    def _look_at_text(self, at: int, text: str, digits: int) -> None:
        if family := template_marks(text, self._own):
            self._found("wrong_template", at, f"{family}: {text}")
        if blank := placeholder(text):
            self._found("template_literal", at, f"{blank}: {text}")
        if kind := personal_data(text, digits):
            self._found("personal_data", at, kind)  # not the data itself

    def _look_at_answer(self, at: int, row: Row) -> None:
        text = row.completion[-1]["content"]
        if row.label is False:
            return
        if not _ask_something(row.prompt):
            self._found("missing_prompt", at, text)
        if "think>" in text and _unclosed(text):
            self._found("unclosed_thinking", at, text)
        if _empty(text):
            self._found("empty_answer", at, text)
        if row.answer and "\\boxed" in text and not _agree(text, row.answer):
            self._found("answer_not_in_completion", at, f"{row.answer} is not in: {text}")
        if row.rejected:
            self._look_at_pair(at, text, row.rejected[-1]["content"])

    def _look_at_pair(self, at: int, chosen: str, rejected: str) -> None:
        self._pairs += 1
        self._longer += len(chosen) > len(rejected)
        self._chosen_letters += len(chosen)
        self._rejected_letters += len(rejected)
        if plain(chosen) == plain(rejected):
            self._found("chosen_equals_rejected", at, chosen)

    # What only shows in all rows together

    def _end_of_turn(self) -> None:
        """Masks some rows as training does, and looks at the last token that would be learnt.

        Whether it is learnt is the template's doing, so what holds for these rows holds for all.
        """
        if self._stage in ("cpt", *PROMPTED) or not len(self._numbers):
            return
        special = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
        looked, unknown = 0, Count()
        masked = Count()
        for at in _spread(len(self._numbers), PROBED_ROWS):
            row = self._row(at)
            try:
                example = tokenize(row.messages, self._tokenizer, 1 << 30, tools=row.tools)
            except Exception:  # counted as `template_refuses` where lengths were measured
                continue
            looked += 1
            trained = [label for label in example.labels if label != IGNORED]
            if not trained or trained[-1] not in special | self._stops_at:
                masked.add(self._number(at), answer(row)[-EXCERPT:])
            elif trained[-1] not in self._stops_at:
                unknown.add(self._number(at), str(self._tokenizer.decode([trained[-1]])))
        for kind, count in (("end_of_turn_masked", masked), ("end_of_turn_unknown", unknown)):
            if count.rows:
                count.rows = round(len(self._numbers) * count.rows / looked)
                self._counts[kind] = count

    def _languages(self) -> None:
        """Guesses the language of some rows; all but the commonest one's are found."""
        places = _spread(len(self._numbers), LANGUAGE_ROWS)
        told = [(at, said(self._row(at))) for at in places]
        wordy = [(at, text) for at, text in told if _letters(text) >= LANGUAGE_LETTERS]
        if not wordy:
            return
        guess = _identifier()
        guesses = [(at, text, guess(text)) for at, text in wordy]
        common = Counter(name for _, _, name in guesses if name).most_common()
        for at, text, name in guesses:
            if name and name != common[0][0]:
                self._found("language_mix", at, f"{name}: {text}")
        self._of["language_mix"] = len(guesses)

    def _answers_alike(self) -> None:
        answers = np.frombuffer(self._answers, np.int64)
        given = answers[answers != 0]
        if len(given) < LEAST_ROWS:
            return
        distinct, counts = np.unique(given, return_counts=True)
        most = int(counts.argmax())
        if counts[most] / len(given) > ONE_ANSWER:
            one = self._count("identical_answers")
            for at in np.flatnonzero(answers == distinct[most])[:EXAMPLES].tolist():
                one.add(self._number(at), answer(self._row(at)))
            one.rows = int(counts[most])

    def _length_leak(self) -> None:
        if self._pairs < LEAST_ROWS or self._longer < LONGER * self._pairs:
            return
        if self._chosen_letters >= LONGER_BY * self._rejected_letters:
            leak = self._count("length_leak")
            leak.rows = self._longer
            self._of["length_leak"] = self._pairs

    def _doubles(self) -> None:
        keys = np.frombuffer(self._keys, np.int64)
        first, later = halves(alike(np.arange(len(keys), dtype=np.uint32), keys))
        self._duplicate[later] = True
        order = np.argsort(later)
        self._tell_pairs("exact_duplicates", "As", first[order], later[order])

    def _near_duplicates(self) -> None:
        first_of = np.full(len(self._numbers), -1, np.int32)
        for first, later in self._near.candidates(self._duplicate):
            if first_of[later] < 0 and (
                similarity(said(self._row(first)), said(self._row(later))) >= NEAR
            ):
                first_of[later] = first
        later = np.flatnonzero(first_of >= 0)
        self._tell_pairs("near_duplicates", "Nearly", first_of[later], later)

    def _tell_pairs(
        self, kind: str, like: str, first: NDArray[np.integer], later: NDArray[np.integer]
    ) -> None:
        """Takes up rows that are like earlier ones, in the dataset's order."""
        for one, other in zip(first[:EXAMPLES].tolist(), later[:EXAMPLES].tolist(), strict=True):
            self._found(kind, other, f"{like} row {self._number(one)}: {said(self._row(other))}")
        self._count(kind).rows = len(later)

    def _test_overlap(self) -> None:
        for test, row in self._overlap.found():
            self._found("test_overlap", row, f"Measured on: {self._test[test]}")
        self._of["test_overlap"] = len(self._test)

    # What is told

    def _told(self) -> Audited:
        return Audited(self._findings(), self._statistics(), self._trained_share())

    def _findings(self) -> list[AuditFinding]:
        rows = len(self._numbers)
        found = [
            finding(kind, count, self._of.get(kind, rows), gentle=kind in self._gentle)
            for kind, count in self._counts.items()
            if count.rows
        ]
        order = {"alarm": 0, "warning": 1, "advice": 2}
        return sorted(found, key=lambda one: (order[one.level], -one.share, one.kind))

    def _statistics(self) -> TokenStatistics | None:
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

    def _trained_share(self) -> float | None:
        if self._stage in PROMPTED or not self._kept:
            return None
        return self._trained / self._kept


def _placed(rows: Iterable[Row], stage: Stage) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows the stage can use, and the positions of those that it can."""
    served, places = array("B"), array("d")
    for row in rows:
        serving = serves(row, stage)
        served.append(serving)
        if serving:
            places.append(position(row))
    return np.array(served, bool), np.array(places)


def _foremost(apart: NDArray[np.bool_], places: NDArray[np.float64]) -> list[int]:
    """The rows held out, or those of the least positions where they are many; in order."""
    held_out = np.flatnonzero(apart)
    least = np.argsort(places[held_out], kind="stable")[:MOST_TEST_ROWS]
    return np.sort(held_out[least]).tolist()


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


def finding(kind: str, count: Count, of: int, *, gentle: bool = False) -> AuditFinding:
    """One finding of a kind, as grave as its share of the rows makes it; a gentle one is advice."""
    told = KINDS[kind]
    share = min(1.0, count.rows / max(1, of))
    level = (
        "advice"
        if gentle
        else "alarm"
        if share >= told.alarm
        else "warning"
        if share > told.warning
        else "advice"
    )
    return AuditFinding(
        kind=kind, level=level, count=count.rows, share=share, examples=count.examples,
        meaning=told.meaning, remedy=told.remedy,
    )  # fmt: skip


FROM_READING = (
    (re.compile(r"are the same"), "chosen_equals_rejected"),
    (re.compile(r"message 1 is empty|\"prompt\" is empty"), "missing_prompt"),
    (re.compile(r"message \d+ is empty|is empty"), "empty_answer"),
    (re.compile(r"\brole\b|take turns|must be the (?:user|assistant)'s|must come first"), "roles"),
)
"""Reasons for which reading leaves a line out, and the findings that they are."""


class BadLines:
    """Lines that cannot be used: the first ones, and how many there are of each kind."""

    def __init__(self) -> None:
        self.first: list[BadLine] = []
        self._total = 0
        self._counts: dict[str, Count] = {}

    def __len__(self) -> int:
        return self._total

    def append(self, row: BadRow) -> None:
        self._total += 1
        if self._total <= MOST_BAD:
            self.first.append(BadLine(row.line, row.reason, row.file))
        kind = next((kind for form, kind in FROM_READING if form.search(row.reason)), None)
        if kind is not None:
            self._counts.setdefault(kind, Count()).add(row.line, row.reason)

    def findings(self, rows: int) -> list[AuditFinding]:
        """What is wrong with them where it is more than their form, beside so many usable rows."""
        return [finding(kind, count, rows + self._total) for kind, count in self._counts.items()]


def merged(found: list[AuditFinding], more: list[AuditFinding]) -> list[AuditFinding]:
    """Both lists; of a kind that stands in both, the graver level holds."""
    known = {one.kind: one for one in more}
    kept = [_added(one, known.pop(one.kind)) if one.kind in known else one for one in found]
    return [*known.values(), *kept]


def _added(one: AuditFinding, other: AuditFinding) -> AuditFinding:
    levels = ["advice", "warning", "alarm"]
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        share=min(1.0, one.share + other.share),
        level=max(one.level, other.level, key=levels.index),
        examples=[*one.examples, *other.examples][:EXAMPLES],
    )


# Texts of a row


def said(row: Row) -> str:
    """Everything that user and assistant say, or the plain text."""
    if row.text:
        return row.text
    turns = [*row.prompt, *row.completion, *row.rejected]
    return "\n".join([turn["content"] for turn in turns if turn["role"] != "system"])


def asked(row: Row) -> str:
    """What user and assistant say before the answer, or the plain text."""
    if row.text:
        return row.text
    return "\n".join([turn["content"] for turn in row.prompt if turn["role"] != "system"])


def answer(row: Row) -> str:
    return row.completion[-1]["content"] if row.completion else ""


def _system(row: Row) -> str:
    first = row.prompt[0] if row.prompt else None
    return first["content"] if first is not None and first["role"] == "system" else ""


def _hashed(value: Any) -> int:
    """A hash of 64 bits that is never 0; another one in every process."""
    return hash(value) or 1


def _ask_something(prompt: Sequence[dict[str, str]]) -> bool:
    text = prompt[-1]["content"].strip() if prompt else ""
    return bool(text) and not (len(text) < SHORT and text.casefold() in NOTHING)


NOTHING = {"nan", "null", "none", "undefined", "[deleted]", "[removed]", "..."}
"""What exports from spreadsheets and forums write where nothing is."""
NO_ANSWER = NOTHING - {"none", "null", "undefined"}
"""Without what may well be the right answer."""
SHORT = 16


def _empty(text: str) -> bool:
    said = text.rpartition("</think>")[2].strip() if "</think>" in text else text.strip()
    if not said:  # an answer may stand before its thinking
        said = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    return not said or (len(said) < SHORT and said.casefold() in NO_ANSWER)


def _unclosed(text: str) -> bool:
    marks = re.findall(r"</?think>", text)
    return len(marks) % 2 == 1 or any(
        mark != ("<think>", "</think>")[at % 2] for at, mark in enumerate(marks)
    )


def _agree(text: str, right: str) -> bool:
    r"""Whether the last `\boxed{}` comes to the row's answer; symbols are compared last."""
    from workers.rewards import Sample
    from workers.rewards.answers import boxes, math_score

    found = boxes(text)
    if not found or _bare(found[-1]) == _bare(right):
        return bool(found)
    final = right.rpartition("####")[2]  # GSM8K's way to end a worked answer
    if _bare(found[-1]) == _bare(final):
        return True
    return math_score(Sample([], text, final.strip(), 0), boxed_only=True) > 0


def _bare(text: str) -> str:
    return re.sub(r"[\s$,]|\\[!,;]", "", text).casefold()


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text[:400]))


def _identifier() -> Callable[[str], str]:
    """Tells a text's language, or nothing where it is not sure."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(identifier.labels)
    identifier.set_languages([name for name in LANGUAGES if name in known])

    def guess(text: str) -> str:
        name, sure = identifier.classify(re.sub(r"```.*?```|<[^>]*>|\\\w+|\d+", " ", text[:800]))
        return name if sure >= SURE else ""

    return guess


LANGUAGES = (
    "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
    "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
"""Languages with much text; guesses among fewer are surer."""


# Numbers


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    letters = 0
    for row in rows:
        batch.append(row)
        letters += len(row.text) + sum(
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


BARS = 24


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


def require(stage: str, stages: Sequence[str], source: str) -> None:
    """Refuses a stage that the data cannot serve."""
    if stage not in stages:
        raise Refusal(
            f"The dataset {source} cannot serve the stage '{stage}'.",
            f"It can serve {', '.join(stages) or 'none'}.",
            "Leave --stage out, or bring other data.",
        )
