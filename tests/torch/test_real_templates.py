"""Templates that nobody here wrote: where answers begin and end, and rows that they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conversations import example_of
from tests.torch.test_loss_check import learner, opened
from workers.data.reader import Row, read
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.encode import IGNORED
from workers.engines.tokenizer import load_tokenizer
from workers.engines.transformers import load_for_speaking, load_for_training
from workers.fetch import Located
from workers.protocol.events import Failed, Finished, Note
from workers.protocol.recipe import RL, Recipe, Source
from workers.protocol.rewards import Format
from workers.protocol.rollouts import Rollouts
from workers.train import _stage

Run = Callable[..., list[Any]]
Speaking = Callable[..., Path]
MARKS: dict[str, tuple[list[str], str]] = {
    "gemma4": (["<|turn>", "<turn|>", "<|channel>", "<channel|>"], "<turn|>"),
    "deepseek_r1_distill": (
        ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"],
        "<｜end▁of▁sentence｜>",
    ),
    "qwen3": (["<think>", "</think>"], "<|im_end|>"),
    "phi3_5": (["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"], "<|end|>"),
    "llama3": (
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"], "<|eot_id|>",
    ),
}  # fmt: skip
"""Marks of a template, and the one that ends an answer."""
THOUGHT = ("gemma4", "deepseek_r1_distill")
"""Templates whose prompt holds more than what stands before an answer that is given."""


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def pairs(tmp_path: Path) -> str:
    row = {"prompt": "Where does the Danube flow?", "chosen": "The Danube flows through Vienna.",
           "rejected": "Nowhere that I know of."}  # fmt: skip
    return write(
        tmp_path / "pairs.jsonl", [row | {"prompt": f"{row['prompt']} {n}"} for n in range(9)]
    )


def shown(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode([one for one in ids if one != IGNORED]).strip()


@pytest.mark.parametrize("stage", ["dpo", "kto", "simpo", "orpo"])
@pytest.mark.parametrize("name", THOUGHT)
def test_pairs_are_learnt_from_their_first_word_to_their_end_of_turn(
    tmp_path: Path, speaking: Speaking, name: str, stage: str
) -> None:
    marks, end = MARKS[name]
    recipe = learner(stage, str(speaking(name, marks, end)), pairs(tmp_path), batch_size=4)
    with opened(recipe, tmp_path) as context:
        row = _stage(recipe).build_trainer(context).train_dataset[0]  # type: ignore[index]
    learnt = row.get("chosen_labels") or row.get("chosen_ids") or row["completion_ids"]
    assert shown(context.loaded.tokenizer, learnt) == f"The Danube flows through Vienna.{end}"


@pytest.mark.parametrize("name", MARKS)
def test_a_single_answer_is_learnt_whole(speaking: Speaking, name: str) -> None:
    marks, end = MARKS[name]
    tokenizer = load_tokenizer(Located(name, speaking(name, marks, end)))
    talk = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Vienna."}]
    learnt = shown(tokenizer, example_of(talk, tokenizer, 512).labels)
    # Some templates write an empty thought before the answer, which is learnt with it; R1's prompt
    # opens a thought, which the model has to close.
    learnt = learnt.removeprefix("<think>\n\n").removeprefix("</think>\n\n")
    assert learnt == f"Vienna.{end}"


def test_thinking_that_a_template_drops_is_learnt_as_the_model_writes_it(
    speaking: Speaking,
) -> None:
    marks, end = MARKS["deepseek_r1_distill"]
    tokenizer = load_tokenizer(Located("r1", speaking("deepseek_r1_distill", marks, end)))
    talk = [{"role": "user", "content": "Hi?"},
            {"role": "assistant", "content": "<think>Greet them.</think>Hello."}]  # fmt: skip
    example = example_of(talk, tokenizer, 512)
    assert shown(tokenizer, example.labels) == f"Greet them.\n</think>\n\nHello.{end}"
    asked = render(talk[:1], tokenizer, generation=True)
    assert asked.endswith("<think>\n")
    assert tokenizer.decode(example.prompt_ids) == asked


# The end of a turn


@pytest.mark.parametrize("name", ["phi3_5", "llama3", "gemma4"])
def test_all_stop_at_the_token_that_ends_an_answer(speaking: Speaking, name: str) -> None:
    """Though the tokenizer names another as its end token, the end of a document most often."""
    marks, end = MARKS[name]
    other = next(mark for mark in ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>")
                 if mark in [*marks, "<|im_end|>"])  # fmt: skip
    located = Located(name, speaking(name, marks, other))
    recipe = Recipe(data=[Source(source="builtin:sums")])
    for loaded in (load_for_training(recipe, located), load_for_speaking(located)):
        assert loaded.tokenizer.eos_token == end
        stops: Any = loaded.model.generation_config.eos_token_id  # type: ignore[union-attr]
        stops = stops if isinstance(stops, list) else [stops]
        assert loaded.tokenizer.convert_tokens_to_ids(end) in stops


def test_documents_keep_their_own_end_in_continued_pretraining(speaking: Speaking) -> None:
    marks, _ = MARKS["phi3_5"]
    located = Located("phi", speaking("phi3_5", marks, "<|endoftext|>"))
    loaded = load_for_training(Recipe(stage="cpt", data=[]), located)
    assert loaded.tokenizer.eos_token == "<|endoftext|>"


def test_sampled_answers_end_where_answers_were_taught_to_end(
    tmp_path: Path, speaking: Speaking, train_here: Run
) -> None:
    """Where the tokenizer's own end token ends documents, GRPO went on to the limit."""
    marks, _ = MARKS["llama3"]
    base = speaking("llama3", marks, "<|end_of_text|>")
    data = write(tmp_path / "d.jsonl",
                 [{"prompt": f"Say yes, {n}.", "completion": "yes"} for n in range(8)])  # fmt: skip
    taught = learner("sft", str(base), data, max_steps=60, learning_rate=5e-3)
    taught = _full(taught, name="taught")
    assert any(isinstance(event, Finished) for event in train_here(taught))
    run = next(tmp_path.glob("jobs/taught-*"))
    asked = _full(learner("grpo", f"run:{run.name}", data), name="asked")
    asked = _replace(asked, rl=RL(max_completion_tokens=24, temperature=0.1),
                     rewards=[Format(pattern="yes.*")])  # fmt: skip
    events = train_here(asked)
    assert [event for event in events if isinstance(event, Failed)] == []
    import msgspec

    path = next(next(tmp_path.glob("jobs/asked-*")).glob("samples/step-*.json"))
    rollouts = msgspec.json.decode(path.read_bytes(), type=Rollouts)
    samples = [sample for group in rollouts.groups for sample in group.samples]
    assert not any(sample.truncated for sample in samples)


def _full(recipe: Recipe, **changes: Any) -> Recipe:
    return _replace(recipe, model=_replace(recipe.model, method="full"), **changes)


def _replace(struct: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(struct, **changes)


# Rows that a template does not take


CALL = {"type": "function", "function": {"name": "wave", "arguments": {"hand": "left"}}}


def conversations(tmp_path: Path, *, called: int = 1) -> str:
    """Twelve conversations, and some with a tool, of which Phi-3.5's template knows nothing."""
    said = {"role": "assistant", "content": "Hello."}
    rows = [{"messages": [{"role": "user", "content": f"Hi {n}"}, said]} for n in range(12)]
    calls = [{"messages": [
        {"role": "user", "content": f"Bye {n}"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "waved"}, {"role": "assistant", "content": "Bye."},
    ]} for n in range(called)]  # fmt: skip
    return write(tmp_path / "talk.jsonl", [*rows, *calls])


@pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
def test_rows_that_the_template_does_not_take_are_left_out_and_listed(
    tmp_path: Path, speaking: Speaking, train_here: Run, bad_rows: Any
) -> None:
    """They are sound, whatever is to become of bad ones."""
    base, data = speaking("phi3_5", *MARKS["phi3_5"]), conversations(tmp_path)
    recipe = learner("sft", str(base), data, batch_size=4)
    events = train_here(_replace(recipe, data=[Source(source=data, bad_rows=bad_rows)]))
    assert any(isinstance(event, Finished) for event in events)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("1 of 1" in text and "“Bye 0”, line 13: The model's chat template leaves out tools"
               in text for text in notes)  # fmt: skip
    (listed,) = next(tmp_path.glob("jobs/*/skipped.jsonl")).read_text().splitlines()
    assert json.loads(listed)["line"] == 13
    assert "Bye" in json.loads(listed)["excerpt"]


def test_a_run_stops_where_the_template_does_not_take_most_rows(
    tmp_path: Path, speaking: Speaking, train_here: Run
) -> None:
    base = speaking("phi3_5", *MARKS["phi3_5"])
    data = conversations(tmp_path, called=30)
    events = train_here(learner("sft", str(base), data, batch_size=4))
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert "“Bye" in failed.what
    assert "leaves out tools" in failed.what


def test_the_audit_blames_the_template_and_not_the_rows(tmp_path: Path, speaking: Speaking) -> None:
    from workers.data.audit.audit import Audit

    tokenizer = load_tokenizer(Located("phi", speaking("phi3_5", *MARKS["phi3_5"])))
    rows: list[Row] = []
    read(conversations(tmp_path), rows=rows)
    found = {one.kind: one for one in Audit(rows, tokenizer, "sft", 512).run().findings}
    assert "roles" not in found
    assert found["template_refuses"].count == 1
    assert "The rows are sound" in found["template_refuses"].meaning
    assert "template_refuses" not in {
        one.kind for one in Audit(rows, tokenizer, "dpo", 512).run().findings
    }


def test_a_template_that_knows_no_system_turn_says_so_in_our_words(speaking: Speaking) -> None:
    from workers.protocol.refusal import Refusal

    tokenizer = load_tokenizer(Located("gemma", speaking("gemma", [])))
    with pytest.raises(Refusal, match=r"does not take this conversation.*[Ss]ystem role"):
        render([{"role": "system", "content": "Be brief."}], tokenizer)


# Chains


@pytest.mark.slow
def test_a_chain_through_a_thinking_template_keeps_its_masks(
    tmp_path: Path, speaking: Speaking, train_here: Run
) -> None:
    base = speaking("qwen3", *MARKS["qwen3"])
    said = [{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello.", "reasoning_content": "Greet."},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": "Bye.", "reasoning_content": "Part."}]  # fmt: skip
    rows = [{"messages": [{"role": "user", "content": f"Hi {n}"}, *said[1:]]} for n in range(9)]
    taught = _full(learner("sft", str(base), write(tmp_path / "s.jsonl", rows)), name="taught")
    events = train_here(taught)
    assert any(isinstance(event, Finished) for event in events)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("Each answer is an example of its own" in text for text in notes)
    run = next(tmp_path.glob("jobs/taught-*")).name
    worse = [{"role": "assistant", "content": "No."}]
    choices = [{"prompt": [{"role": "user", "content": f"Hi {n}"}], "chosen": [said[1]],
                "rejected": worse} for n in range(9)]  # fmt: skip
    asked = learner("dpo", f"run:{run}", write(tmp_path / "d.jsonl", choices), batch_size=4)
    with opened(asked, tmp_path) as context:
        row = _stage(asked).build_trainer(context).train_dataset[0]  # type: ignore[index]
        tokenizer: Any = context.loaded.tokenizer
    learnt = shown(tokenizer, row["chosen_ids"])
    assert learnt == "<think>\nGreet.\n</think>\n\nHello.<|im_end|>"
    prompt = render([{"role": "user", "content": "Hi 0"}], tokenizer, generation=True)
    assert tokenizer.decode(row["prompt_ids"]).partition("Hi")[0] == prompt.partition("Hi")[0]
    assert prompt.endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(row["prompt_ids"]).endswith("<|im_start|>assistant\n")
