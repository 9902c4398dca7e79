"""Methods that are of use on a GPU alone, or take other kernels there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.jobs import Jobs
from studio.records import JobRow
from tests.gpu.test_sft_gpu import real  # noqa: F401  a fixture
from workers.protocol.recipe import Evaluation, Lora, Model, Recipe, Source, Training

METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "8 bits": ({"optimizer": "adamw_8bit"}, {}),
    "paged 8 bits": ({"optimizer": "paged_adamw_8bit"}, {}),
    "muon": ({"optimizer": "muon"}, {}),
    "offloading": ({"activation_offloading": True}, {}),
    "offloading and checkpointing": (
        {"activation_offloading": True, "gradient_checkpointing": True}, {},
    ),
    "compiled": ({"torch_compile": True, "gradient_checkpointing": False}, {}),
    "flex attention": ({"attention": "flex_attention"}, {}),
    "embeddings": (
        {"optimizer": "adamw_8bit", "embedding_learning_rate": 1e-4},
        {"modules_to_save": "embed_tokens, lm_head", "plus_ratio": 16},
    ),
    "pissa": ({}, {"init": "pissa", "rslora": True}),
    "olora": ({}, {"init": "olora"}),
}  # fmt: skip
"""Settings of the training and of the adapter."""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_on_the_gpu_and_its_result_is_gone_on_from(
    real: Jobs,  # noqa: F811
    tiny: Path,
    follow: Callable[..., JobRow],
    name: str,
) -> None:
    training, lora = METHODS[name]
    recipe = Recipe(
        name="method",
        model=Model(base=str(tiny)),
        lora=Lora(rank=8, alpha=16, **lora),
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(
            **{"max_steps": 8, "batch_size": 4, "learning_rate": 1e-2, "max_length": 128} | training
        ),
        evaluation=Evaluation(max_rows=8),
    )
    run = real.train(recipe)
    row = follow(real, run, 600.0)
    assert row.status == "finished", f"{row.cause} {row.remedy}"
    losses = real.store.series(run, "eval_loss").values
    assert losses[-1] < losses[0]

    upon = msgspec.structs.replace(
        recipe,
        model=Model(base=f"run:{run}"),
        lora=Lora(rank=8, alpha=16),
        training=Training(max_steps=1, batch_size=4, max_length=128),
    )
    second = real.train(upon)
    assert follow(real, second, 300.0).status == "finished"
    begun = real.store.series(second, "eval_loss").values[0]
    assert begun == pytest.approx(losses[-1], rel=0.02)
