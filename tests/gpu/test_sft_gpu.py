"""The same run on the GPU: it trains there, in bf16, and its memory is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.jobs import Jobs
from studio.paths import Home
from studio.records import JobRow
from studio.settings import Settings
from studio.store import Store
from workers.protocol import wire
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training


@pytest.fixture
def real(home: Home) -> Iterator[Jobs]:
    store = Store(home.store)
    jobs = Jobs(home, store, Settings())
    yield jobs
    jobs.close()
    store.close()


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_training_runs_on_the_gpu(
    real: Jobs, tiny: Path, follow: Callable[..., JobRow], method: str
) -> None:
    recipe = Recipe(
        name=method,
        model=Model(base=str(tiny), method=method),  # type: ignore[arg-type]
        data=[Source(source=str(tiny / "sums.jsonl"))],
        training=Training(max_steps=8, batch_size=4, learning_rate=1e-2, max_length=128),
        evaluation=Evaluation(max_rows=8),
    )
    run = real.train(recipe)
    row = follow(real, run, 300.0)
    assert row.status == "finished", f"{row.cause} {row.remedy}"
    resolved = wire.read_job(real.folder(run)).resolved
    assert resolved is not None
    assert (resolved.device, resolved.precision) == ("cuda", "bfloat16")
    series = real.store.series(run, "memory_bytes")
    assert series.values[-1] > 0
