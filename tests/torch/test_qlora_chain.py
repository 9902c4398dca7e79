"""A QLoRA stage upon an earlier run starts from what that run learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.torch.starters import of, of_stage
from tests.torch.test_sft import learner
from workers.__main__ import run_folder
from workers.data.reader import Row, read_table
from workers.data.tokenize.encode import IGNORED, encode
from workers.engines import Loaded
from workers.engines.merged import merged_base, spoken_base
from workers.engines.transformers import load_for_speaking, load_for_training
from workers.fetch import Located, locate_model, locate_run
from workers.protocol import wire
from workers.protocol.events import Checked, Evaluated, Failed, Finished
from workers.protocol.jobs import Export, Job
from workers.protocol.recipe import RL, Recipe
from workers.protocol.rewards import MathAnswer

Run = Callable[..., list[Any]]


def test_four_bits_keep_what_the_stage_before_has_learnt(
    tiny: Path, tmp_path: Path, train_here: Run
) -> None:
    """Merged into four-bit weights, an update of this size is rounded away nearly whole."""
    first = learner(tiny, name="first", method="lora",
                    training={"max_steps": 30, "learning_rate": 1e-3})  # fmt: skip
    events = train_here(first)
    before, after = [e.values["loss"] or 0.0 for e in events if isinstance(e, Evaluated)]
    learnt = before - after
    assert learnt > 0.02
    run = next(tmp_path.glob("jobs/first-*"))
    second = learner(tiny, name="second", base=f"run:{run.name}", method="qlora",
                     training={"max_steps": 1, "learning_rate": 1e-9})  # fmt: skip
    events = train_here(second)
    assert [event for event in events if isinstance(event, Failed)] == []
    start = next(e for e in events if isinstance(e, Evaluated)).values["loss"] or 0.0
    raw = train_here(learner(tiny, name="raw", method="qlora",
                             training={"max_steps": 1, "learning_rate": 1e-9}))  # fmt: skip
    unlearnt = next(e for e in raw if isinstance(e, Evaluated)).values["loss"] or 0.0
    assert unlearnt - start > 0.8 * learnt
    assert len(list((tmp_path / "models").glob("merged-*"))) == 1


def stages(method: str, **steps: int) -> list[Recipe]:
    """SFT by a method, then DPO and GRPO over four bits."""
    rewards: dict[str, Any] = {
        "rewards": [MathAnswer()], "rl": RL(group_size=4, max_completion_tokens=24),
    }  # fmt: skip
    return [
        of_stage("sft", "sft", data="builtin:arithmetic", method=method,
                 training={"max_steps": steps["sft"], "learning_rate": 2e-3, "precision": "auto"}),
        of_stage("dpo", "dpo", data="builtin:preferences", method="qlora",
                 training={"max_steps": steps["dpo"], "learning_rate": 5e-4, "precision": "auto"}),
        of_stage("grpo", "grpo", data="builtin:arithmetic", method="qlora", **rewards,
                 training={"max_steps": steps["grpo"], "learning_rate": 5e-4,
                           "precision": "auto"}),
    ]  # fmt: skip


def held_out_loss(loaded: Loaded, rows: Sequence[Row]) -> float:
    """Of the answers, per token, in nats."""
    loss, tokens = 0.0, 0
    for row in rows:
        (found,) = encode(row, "sft", loaded.tokenizer)
        ids, labels = torch.tensor([found.input_ids]), torch.tensor(found.labels[1:])
        trained = labels != IGNORED
        model: Any = loaded.model.eval()
        with torch.no_grad():
            logits = model(input_ids=ids.to(model.device)).logits[0, :-1].float().cpu()
        loss -= float(logits.log_softmax(-1)[trained].gather(1, labels[trained][:, None]).sum())
        tokens += int(trained.sum())
    return loss / tokens


def starting_loss(recipe: Recipe, home: Path, rows: Sequence[Row]) -> float:
    """As the stage begins: with its fresh adapter, which does nothing yet."""
    located = locate_model(recipe.model.base, home, lambda _: None)
    return held_out_loss(load_for_training(recipe, merged_base(located, home, pytest.fail)), rows)


def trained_loss(run: Path, home: Path, rows: Sequence[Row]) -> float:
    """As the run speaks in chats."""
    located = spoken_base(locate_run(run, home, lambda _: None), home, pytest.fail)
    return held_out_loss(load_for_speaking(located), rows)


def run_chain(
    recipes: list[Recipe], home: Path, train_here: Run, rows: Sequence[Row]
) -> tuple[Path, list[float], list[float]]:
    """Each stage upon the one before: the last run; what each ends with, and what the one after it
    begins with."""
    ends, begins, run = [], [], Path()
    for recipe in recipes:
        if run.name:
            model = msgspec.structs.replace(recipe.model, base=f"run:{run.name}")
            recipe = msgspec.structs.replace(recipe, model=model)
        events = train_here(recipe)
        assert of(Failed, events) == []
        if run.name:
            begins.append(starting_loss(recipe, home, rows))
        run = next(home.glob(f"jobs/{recipe.name}-*"))
        ends.append(trained_loss(run, home, rows))
    return run, ends, begins


def exported(run: Path, home: Path, *targets: str) -> list[Any]:
    folder = home / "jobs" / "export"
    folder.mkdir()
    task = Export(run_folder=str(run), targets=list(targets))
    created = "2026-01-01T00:00:00+00:00"
    wire.write_job(folder, Job(id="export", name="x", created=created, home=str(home), task=task))
    run_folder(folder)
    return [line.event for line in wire.read_events(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_each_stage_over_four_bits_begins_where_the_one_before_ended(
    method: str, tmp_path: Path, train_here: Run
) -> None:
    """After SFT in 16 bits all weights are rounded to four, which this small model feels."""
    rows = read_table("builtin:arithmetic").rows[-200:]
    base = held_out_loss(load_for_speaking(locate_model("starter", tmp_path, print)), rows)
    recipes = stages(method, sft=60, dpo=20, grpo=8)
    run, ends, begins = run_chain(recipes, tmp_path, train_here, rows)
    print(f"{base:.4f}; ends {ends}, begins {begins}")
    assert ends[0] < 0.9 * base
    assert begins[0] == pytest.approx(ends[0], rel=0.02)
    assert begins[1] == pytest.approx(ends[1], rel=0.02)
    events = exported(run, tmp_path, "merged", "gguf:f16")
    assert [check for check in of(Checked, events) if not check.passed] == []
    assert of(Finished, events)[0].summary["parity"] == "passed"
    merged = run / "exports" / "merged-16bit"
    talks = held_out_loss(load_for_speaking(Located("merged", merged)), rows)
    assert talks == pytest.approx(ends[2], rel=0.03)
