"""Rows of segments: text without a template, each piece learnt or not (Axolotl's input_output)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workers.chats import write
from workers.data.audit.audit import Audit
from workers.data.mix import limit, split, split_hash
from workers.data.reader import Row, read_table, serves
from workers.data.row_store import RowStore
from workers.data.schema.row import Segment
from workers.data.tokenize.encode import IGNORED, encode, fit
from workers.data.tokenize.token_counts import TokenCounter
from workers.data.tokenize.token_view import TokenViewer
from workers.engines.tokenizer import read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder

PIECES = ["What is ", "1 + 2?", " It is ", "3.", "<|im_end|>"]
TRAINED = [False, False, True, False, True]


def segmented(*texts: str, trained: list[bool]) -> Row:
    pairs = zip(texts, trained, strict=True)
    return Row(segments=[Segment(text=text, trained=label) for text, label in pairs])


ROW = segmented(*PIECES, trained=TRAINED)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return read_tokenizer(Located("starter", assets_folder() / "starter" / "model"))


def _numbered(count: int) -> list[Row]:
    return [
        segmented(f"{n} + {n} = ", f"{2 * n}<|im_end|>", trained=[False, True])
        for n in range(count)
    ]


def test_each_segment_is_tokenized_by_itself_and_masked_by_its_label(tokenizer: Any) -> None:
    (made,) = encode(ROW, "sft", tokenizer)
    ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in PIECES]
    assert made.input_ids == [token for piece in ids for token in piece]
    labels = [piece if kept else [IGNORED] * len(piece)
              for piece, kept in zip(ids, TRAINED, strict=True)]  # fmt: skip
    assert made.labels == [label for piece in labels for label in piece]
    assert made.text == "".join(PIECES)
    assert [made.text[begin:end] for begin, end in made.offsets][-1] == "<|im_end|>"
    assert (made.mask_source, made.messages) == ("segments", [])
    assert encode(ROW, "sft", tokenizer, assistant_only=False)[0].labels == made.input_ids


def test_segments_are_for_supervised_fine_tuning_alone(tmp_path: Path) -> None:
    pieces = [{"text": text, "label": label} for text, label in zip(PIECES, TRAINED, strict=True)]
    table = read_table(write(tmp_path / "d.jsonl", {"segments": pieces}))
    assert list(table.rows) == [ROW]
    assert table.detected.stages == ["sft"]
    assert not serves(ROW, "distill")


def test_segments_that_do_not_fit_are_left_out_or_cut(tokenizer: Any) -> None:
    encodings = encode(ROW, "sft", tokenizer)
    length = len(encodings[0].input_ids)
    assert fit(encodings, "sft", length - 1, "drop") == []
    assert len(fit(encodings, "sft", length - 1, "cut")[0].input_ids) == length - 1
    for too_long in ("drop", "cut"):
        for most in (length - 1, length):
            counted = TokenCounter(tokenizer, "sft", most, too_long).count([ROW, ROW])
            taken = fit(encodings, "sft", most, too_long)
            trained = sum(one.trained_tokens for one in taken)
            assert [(one.tokens, one.trained) for one in counted if not isinstance(one, str)] == [
                (length, trained)
            ] * 2


def test_the_token_view_shows_segments_without_a_template(tokenizer: Any) -> None:
    (view,) = TokenViewer(tokenizer, "auto", []).views(ROW, 0, "sft", 64)
    said = "".join(piece.text for piece in view.pieces if piece.trained)
    assert said == " It is <|im_end|>"
    assert (view.template, view.warnings) == ("", [])
    assert "segments" in view.mask


def test_an_audit_finds_the_same_in_segments_as_in_turns(tokenizer: Any) -> None:
    endless = [segmented("a + b", f" is c, and d is {n}.", trained=[False, True])
               for n in range(4)]  # fmt: skip
    rows = [*_numbered(40), *_numbered(3), *endless]
    found = Audit(rows, tokenizer, "sft", 64, test=[]).run()
    kinds = {one.kind: one.count for one in found.findings}
    assert kinds["exact_duplicates"] == 3
    assert kinds["segments_without_end"] == 4
    assert found.tokens is not None
    assert 0 < found.tokens.trained < found.tokens.total


def test_segments_are_split_by_what_they_ask_and_stored_whole(tmp_path: Path) -> None:
    rows = _numbered(200)
    training, held_out = split(rows, 0.1)
    assert 5 < len(held_out) < 40
    assert len(training) + len(held_out) == 200
    again = segmented("7 + 7 = ", "another", trained=[False, True])
    assert split_hash(again) == split_hash(rows[7]) != split_hash(rows[8])
    assert len({row.plain for row in limit(rows, 9)}) == 9
    with RowStore(tmp_path) as stored:
        stored.append(ROW)
        assert list(stored) == [ROW]
