"""Rows longer than training.max_length: split without loss, or cut and left out with a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.torch.test_loss_check import learner, opened
from tests.torch.test_real_templates import shown, write
from workers.data.audit.audit import Audit
from workers.data.reader import read_table
from workers.data.schema.row import Row
from workers.data.tokenize.encode import IGNORED, Example, encode, fit
from workers.protocol import wire
from workers.protocol.events import Failed, Metrics, Note
from workers.protocol.recipe import Distill, Evaluation, Stage
from workers.train import _stage, preference
from workers.train.context import TrainingContext
from workers.train.rollouts import fitting_prompts
from workers.train.sft import examples_of

Run = Callable[..., list[Any]]


# Plain text


def test_continued_pretraining_learns_every_token_of_every_text(tmp_path: Path, tiny: Path) -> None:
    texts = [" ".join(f"{n} + {m} is {n + m}." for n in range(10, 60)) for m in range(4)]
    data = write(tmp_path / "texts.jsonl", [{"text": text} for text in [*texts, "Short."]])
    recipe = learner("cpt", str(tiny), data, max_length=64, batch_size=2)
    with opened(_unmeasured(recipe), tmp_path) as context:
        dataset: Any = _stage(recipe).build_trainer(context).train_dataset
        tokenizer: Any = context.loaded.tokenizer
        told = [line.event for line in wire.read_events(context.host.folder)]
    lengths = [len(tokenizer(text)["input_ids"]) + 1 for text in [*texts, "Short."]]
    assert max(lengths) > 5 * 64
    learnt = sum(label != IGNORED for row in dataset for label in row["labels"])
    assert learnt == sum(lengths)
    assert all(len(row["input_ids"]) <= 64 for row in dataset)
    (note,) = (event.text for event in told if isinstance(event, Note))
    assert "4 of 5 texts" in note
    assert "without loss" in note


@pytest.mark.parametrize("rule", ["blank_lines", pytest.param("file", marks=pytest.mark.slow)])
def test_packed_windows_hold_every_token_of_a_text_file_of_a_megabyte(
    tmp_path: Path, tiny: Path, rule: str
) -> None:
    paragraphs = [f"What is {n} + 34? It is 46. " * (1 + n * 7 % 40) for n in range(1, 1900)]
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(paragraphs))
    assert 1e6 < book.stat().st_size < 1.2e6
    recipe = _unmeasured(learner("cpt", str(tiny), str(book), packing=True))
    (source,) = recipe.data
    recipe = replace(recipe, data=[replace(source, documents=rule)])
    with opened(recipe, tmp_path) as context:
        texts = [row.text for row in context.training]
        trainer: Any = _stage(recipe).build_trainer(context)
        tokenizer: Any = context.loaded.tokenizer
    assert len(texts) == (1 if rule == "file" else len(paragraphs))
    whole = sum(len(ids) + 1 for ids in tokenizer(texts)["input_ids"])
    packed = trainer.train_dataset.with_format("numpy")
    assert sum((row["labels"] != IGNORED).sum() for row in packed) == whole
    assert all(len(row["input_ids"]) <= 256 for row in packed)
    assert len(packed) <= 1.01 * whole / 255 + 1
    if rule == "blank_lines":
        _held_apart(
            trainer, next(row for row in trainer.train_dataset if len(row["seq_lengths"]) > 2)
        )


def _held_apart(trainer: Any, row: Any) -> None:
    """A packed row has the loss of its documents, each read by itself."""
    import torch

    model = trainer.model.eval()
    batch = trainer.data_collator([row])
    losses, at = [], 0
    with torch.no_grad():
        together = model(**batch).loss * (batch["labels"] != IGNORED).sum()
        for length in row["seq_lengths"]:
            ids = torch.tensor([row["input_ids"][at : at + length]])
            labels = torch.tensor(row["labels"][at : at + length])
            at += length
            logits = model(input_ids=ids).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum"))
    assert float(together) == pytest.approx(float(sum(losses)), rel=1e-3)


def _windows(text: str, tokenizer: Any, max_length: int) -> list[Example]:
    return fit(encode(Row(text=text), "cpt", tokenizer), "cpt", max_length)


def test_windows_hold_a_text_in_order_and_foretell_each_token_once(tiny: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    text = "What is 12 + 34? It is 46. " * 9
    first, *others = _windows(text, tokenizer, 16)
    ids = [*first.input_ids, *(token for one in others for token in one.input_ids[1:])]
    assert tokenizer.decode(ids) == f"{text}{tokenizer.eos_token}"
    assert all(one.labels[0] == IGNORED for one in others)
    for before, after in zip([first, *others], others, strict=False):
        assert before.input_ids[-1] == after.input_ids[0]
    assert [len(one.input_ids) for one in others[:-1]] == [16] * (len(others) - 1)


def test_a_text_begins_with_the_token_with_which_the_family_begins_texts(tiny: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    tokenizer.bos_token = "<|im_start|>"
    assert _windows("12", tokenizer, 64)[0].input_ids[0] != tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    (one,) = _windows("12", tokenizer, 64)
    assert one.input_ids[0] == tokenizer.bos_token_id
    assert one.input_ids.count(tokenizer.bos_token_id) == 1


# Answers and pairs


def pairs(tmp_path: Path) -> str:
    """Eight short pairs, four whose better answer is too long, one whose prompt is."""
    short = [{"prompt": f"What is {n}?", "chosen": "12", "rejected": "It is 46."} for n in range(8)]
    long = [row | {"chosen": "12 " * 90} for row in short[:4]]
    asked = {"prompt": "34 " * 90, "chosen": "46", "rejected": "12"}
    return write(tmp_path / "pairs.jsonl", [*short, *long, asked])


def _unmeasured(recipe: Any) -> Any:
    return replace(recipe, evaluation=Evaluation(holdout=0.0))


@pytest.mark.parametrize("stage", ["dpo", "kto", "simpo", "orpo", "reward"])
def test_pairs_that_are_too_long_are_told(tmp_path: Path, tiny: Path, stage: str) -> None:
    recipe = _unmeasured(learner(stage, str(tiny), pairs(tmp_path), max_length=64, batch_size=2,
                                 too_long="cut"))  # fmt: skip
    with opened(recipe, tmp_path) as context:
        dataset: Any = _stage(recipe).build_trainer(context).train_dataset
        told = [line.event for line in wire.read_events(context.host.folder)]
    (note,) = (event for event in told if isinstance(event, Note))
    assert note.level == "warning"
    if stage == "reward":
        assert "Of 13 pairs, 5 are left out (longer than 64 tokens)" in note.text
        assert len(dataset) == 8
    elif stage == "kto":
        assert "Of 26 answers, 4 are truncated at 64 tokens and 2 are left out" in note.text
        assert len(dataset) == 24
    else:
        assert "Of 13 pairs, 4 are truncated at 64 tokens and 1 is left out" in note.text
        assert len(dataset) == 12


@pytest.mark.parametrize(
    ("stage", "what", "left_out", "kept"),
    [("sft", "rows", 5, 8), ("dpo", "pairs", 5, 8), ("kto", "answers", 6, 20),
     ("grpo", "prompts", 1, 12)],
)  # fmt: skip
def test_rows_that_are_too_long_are_left_out_as_the_audit_says(
    tmp_path: Path, tiny: Path, stage: Stage, what: str, left_out: int, kept: int
) -> None:
    """A KTO row of two answers counts once in the audit."""
    source = pairs(tmp_path)
    if stage == "sft":
        source = write(tmp_path / "sft.jsonl", [
            {"prompt": row["prompt"], "completion": row["chosen"]}
            for row in map(json.loads, Path(source).read_text().splitlines())
        ])  # fmt: skip
    recipe = _unmeasured(learner(stage, str(tiny), source, max_length=64, batch_size=2))
    rows = read_table(source).rows
    with opened(recipe, tmp_path) as context:
        found = Audit(rows, context.loaded.tokenizer, stage, 64, too_long="drop").run().findings
        made = _made(context)
        told = [line.event for line in wire.read_events(context.host.folder)]
    (note,) = (event for event in told if isinstance(event, Note))
    are = "is" if left_out == 1 else "are"
    assert f"{left_out} {are} left out (longer than 64 tokens)" in note.text
    assert f"Of {left_out + kept} {what}, " in note.text
    assert note.level == "warning"
    assert made == kept
    (counted,) = (one.count for one in found if one.kind == "too_long")
    assert counted == (5 if stage == "kto" else left_out)
    assert not {"truncated", "answer_cut_off", "no_trained_tokens"} & {one.kind for one in found}


def test_held_out_rows_that_are_all_too_long_are_told(tmp_path: Path, tiny: Path) -> None:
    recipe = _unmeasured(learner("dpo", str(tiny), pairs(tmp_path), max_length=64, batch_size=2))
    rows = list(read_table(pairs(tmp_path)).rows)
    with opened(recipe, tmp_path) as context:
        assert len(preference.pairs(context, rows[7:], held_out=True)) == 1
        few = len(list(wire.read_events(context.host.folder)))
        assert len(preference.pairs(context, rows[8:], held_out=True)) == 0
        told: Any = [line.event for line in wire.read_events(context.host.folder)]
    assert [event.level for event in told[few:]] == ["warning"]
    assert told[-1].text.startswith("None of the 5 held-out pairs fits into 64 tokens")


def _made(context: TrainingContext) -> int:
    """Examples that training takes."""
    if context.recipe.stage == "grpo":
        return len(fitting_prompts(context))
    make = {"sft": examples_of, "dpo": preference.pairs, "kto": preference._labelled_dataset}
    return len(make[context.recipe.stage](context, context.training))


@pytest.mark.parametrize("stage", ["simpo", "orpo"])
def test_a_long_answer_keeps_all_that_fits(tmp_path: Path, tiny: Path, stage: str) -> None:
    """TRL keeps max_length less the longer answer: 14 tokens of 113 where 81 fit."""
    data = write(tmp_path / "p.jsonl", [
        {"prompt": "34 " * 9, "chosen": "12 " * 70, "rejected": f"{n}"} for n in range(4)
    ])  # fmt: skip
    recipe = _unmeasured(learner(stage, str(tiny), data, max_length=64, batch_size=2,
                                 too_long="cut"))  # fmt: skip
    with opened(recipe, tmp_path) as context:
        row: Any = _stage(recipe).build_trainer(context).train_dataset[0]  # type: ignore[index]
        end = context.loaded.tokenizer.eos_token
    assert len(row["chosen_input_ids"]) == 64
    prompt = row["chosen_labels"].count(IGNORED)
    assert 18 <= prompt < 44
    assert shown(context.loaded.tokenizer, row["rejected_labels"]).endswith(str(end))
    assert row["rejected_labels"].count(context.loaded.tokenizer.eos_token_id) == 1


# Distillation on the student's own answers


def test_own_answers_are_a_mean_over_their_own_tokens(
    tmp_path: Path, tiny: Path, train_here: Run
) -> None:
    """TRL divides them by the number of tokens in the data's answers, which are not learnt."""
    import msgspec

    losses = []
    for name, answer in (("short", "12"), ("long", "It is 46. " * 12)):
        data = write(tmp_path / f"{name}.jsonl", [
            {"prompt": f"What is {n}?", "completion": answer} for n in range(8)
        ])  # fmt: skip
        recipe = learner("distill", str(tiny), data, max_length=256, gradient_accumulation=2,
                         batch_size=4)  # fmt: skip
        recipe = msgspec.structs.replace(
            _unmeasured(recipe), name=name, distill=Distill(teacher=teacher(tiny, tmp_path),
                                                             lmbda=1.0),
        )  # fmt: skip
        events = train_here(recipe)
        assert [event for event in events if isinstance(event, Failed)] == []
        losses.append(next(e.values["loss"] for e in events
                           if isinstance(e, Metrics) and "loss" in e.values))  # fmt: skip
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def teacher(tiny: Path, tmp_path: Path) -> str:
    """The tiny model with other weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "teacher"
    if not folder.is_dir():
        model: Any = AutoModelForCausalLM.from_pretrained(tiny)
        torch.manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return str(folder)


# How far a run goes through its rows


def test_the_share_of_rows_that_a_run_sees_is_told_and_kept(
    tmp_path: Path, tiny: Path, train_here: Run
) -> None:
    events = train_here(learner("sft", str(tiny), str(tiny / "sums.jsonl"), batch_size=4))
    notes = [event.text for event in events if isinstance(event, Note)]
    (told,) = (text for text in notes if text.startswith("It sees 4 of "))
    job = json.loads(next(tmp_path.glob("jobs/*/job.json")).read_text())
    kept = job["resolved"]["coverage"]
    assert (kept["seen"], kept["steps"]) == (4, 1)
    assert f"4 of {kept['rows']}" in told
