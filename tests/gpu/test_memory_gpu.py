"""What can be seen of memory and precision on a GPU alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gpu import measure
from workers.__main__ import run_folder
from workers.protocol import wire
from workers.protocol.events import Checked, Failed, Finished, Resolved, Retried
from workers.protocol.jobs import Export, Job, Train
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training
from workers.retry import AGAIN


def recipe(tiny: Path, base: str, method: str = "qlora", **training: Any) -> Recipe:
    options = {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "max_length": 128}
    return Recipe(
        name="step",
        model=Model(base=base, method=method),  # type: ignore[arg-type]
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(**options | training),
        evaluation=Evaluation(max_rows=4, max_completion_tokens=16),
    )


def run(home: Path, name: str, task: Any, **options: Any) -> tuple[int, list[Any]]:
    """A whole job within this process: its exit code, and what it said."""
    folder = home / "jobs" / name
    folder.mkdir(parents=True)
    job = Job(id=name, name=name, created="", home=str(home), task=task)
    wire.write_job(folder, job)
    code = run_folder(folder, **options)
    return code, [line.event for line in wire.read_events(folder)]


def fault_of(said: list[Any]) -> str:
    return " ".join(f"{one.what} {one.cause}" for one in said if isinstance(one, Failed))


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_adapters_over_four_bits_are_saved_in_32(
    tiny: Path, tmp_path: Path, precision: str
) -> None:
    import torch
    from safetensors.torch import load_file

    code, said = run(tmp_path, "q", Train(recipe=recipe(tiny, str(tiny), precision=precision)))
    assert code == 0, fault_of(said)
    kept = load_file(tmp_path / "jobs" / "q" / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.float32}


def test_no_card_emulates_bf16(tiny: Path, tmp_path: Path) -> None:
    import torch

    code, said = run(tmp_path, "auto", Train(recipe=recipe(tiny, str(tiny), "lora")))
    assert code == 0, fault_of(said)
    resolved = next(event for event in said if isinstance(event, Resolved))
    real = torch.cuda.is_bf16_supported(including_emulation=False)
    assert resolved.details["precision"] == ("bfloat16" if real else "float16")


def test_a_run_out_of_memory_asks_for_a_smaller_batch(tmp_path: Path) -> None:
    """On a share of the card into which the model goes, and a batch of 64 long rows does not."""
    import torch

    home = tmp_path
    measure.make_model(home / "model", tiny=False)
    measure.write_rows(home / "rows.jsonl", 1024)
    case = measure.Case("sft", "lora")
    made = measure.recipe_of(case, home / "model", home / "rows.jsonl", 1024, "")
    task = Train(recipe=made)
    fixed = {"batch_size": 64, "gradient_accumulation": 1, "effective_batch_size": 64}
    task = with_training(task, fixed)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 4 * 2**30 / total))
    try:
        code, said = run(home, "oom", task, may_retry=True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    retried = [event for event in said if isinstance(event, Retried)]
    assert (code, len(retried)) == (AGAIN, 1), fault_of(said)
    assert retried[0].settings["training.batch_size"][1] == 32


def with_training(task: Train, training: dict[str, Any]) -> Train:
    replace = msgspec.structs.replace
    changed = replace(task.recipe, training=replace(task.recipe.training, **training))
    return Train(recipe=changed)


def test_a_chain_over_four_bits_starts_where_it_stood_and_merges(
    tiny: Path, tmp_path: Path
) -> None:
    code, said = run(tmp_path, "first", Train(recipe=recipe(tiny, str(tiny), max_steps=16)))
    assert code == 0, fault_of(said)
    code, said = run(tmp_path, "second", Train(recipe=recipe(tiny, "run:first")))
    assert code == 0, fault_of(said)
    export = Export(str(tmp_path / "jobs" / "second"), ["merged"])
    code, said = run(tmp_path, "export", export)
    assert code == 0, fault_of(said)
    checks = [event for event in said if isinstance(event, Checked)]
    assert checks
    assert all(check.passed for check in checks)
    assert isinstance(said[-1], Finished)


def test_the_card_is_held_while_a_job_computes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers import card_lock

    seen: list[int] = []

    def look(_task: object) -> Callable[[Any], None]:
        def handler(_host: Any) -> None:
            cards = [folder.name for folder in card_lock.cards_folder().iterdir()]
            seen.append(sum(len(card_lock.holders(card)) for card in cards))

        return handler

    run(tmp_path, "held", Train(recipe=recipe(tiny, str(tiny))), handler_of=look)
    assert seen == [1]


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_the_plan_holds_the_true_peak(stage: str) -> None:
    """What PyTorch's allocator took lies below the plan's most, and above half of its least."""
    for one in measure.main([stage]):
        assert not one.fault, one
        assert one.low / 2 < one.reserved <= one.high, one
