"""Unsloth and the plain engine on the same recipe: the same losses. Needs Unsloth's environment,
which `packaging/bootstrap.py unsloth` makes; on the CPU it trains as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from studio.jobs import Jobs
from studio.paths import Home
from studio.records import JobRow
from studio.settings import Settings, overlay
from studio.store import Store
from tests.torch.test_sft import learner, losses
from workers.protocol import wire
from workers.protocol.recipe import Recipe

pytestmark = pytest.mark.skipif(
    overlay("unsloth") is None,
    reason="Unsloth is not set up: python3 packaging/bootstrap.py unsloth",
)


@pytest.fixture
def jobs(home: Home) -> Iterator[Jobs]:
    store = Store(home.store)
    jobs = Jobs(home, store, Settings())
    yield jobs
    jobs.close()
    store.close()


def with_engine(recipe: Recipe, engine: str) -> Recipe:
    model = msgspec.structs.replace(recipe.model, engine=engine)
    return msgspec.structs.replace(recipe, name=f"{engine}-{recipe.model.method}", model=model)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("full", 5e-3),
        ("lora", 2e-2),  # the engines draw the adapter's first weights differently
    ],
)
def test_the_same_recipe_has_the_same_losses(
    jobs: Jobs, tiny: Path, follow: Callable[..., JobRow], method: str, tolerance: float
) -> None:
    recipe = learner(tiny, method=method)
    found = {}
    for engine in ("transformers", "unsloth"):
        run = jobs.train(with_engine(recipe, engine))
        row = follow(jobs, run, 300.0)
        assert row.status == "finished", f"{row.cause} {row.remedy}"
        resolved = wire.read_job(jobs.folder(run)).resolved
        assert resolved is not None
        assert resolved.engine == engine
        found[engine] = losses(jobs, run)
    assert found["unsloth"] == pytest.approx(found["transformers"], rel=tolerance)
    assert not (Path.cwd() / "unsloth_compiled_cache").exists()
