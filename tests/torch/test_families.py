"""Each family comes as far as is written down, and docs/families.md says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.families import FAMILIES
from tests.torch.matrix import MANY_STAGES, OK, TABLE, Journey, read_record, table

CHEAP = ("granite",)
"""Of a small vocabulary; it learns by the plain loss."""


def test_every_family_is_written_down_and_in_the_table() -> None:
    record = read_record()
    assert list(record) == list(FAMILIES)
    assert TABLE.read_text() == table(record)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in CHEAP else pytest.mark.slow) for name in read_record()],
)
def test_a_family_comes_as_far_as_is_written_down(
    name: str, tmp_path: Path, llama_models: Path
) -> None:
    written = read_record()[name]
    further = name in MANY_STAGES and name not in CHEAP
    outcome = Journey(name, tmp_path, llama_models).go(further=further)
    assert outcome.model_type == written.model_type
    assert outcome.masks == (written.masks or outcome.masks)
    assert outcome.loss == (written.loss or outcome.loss)
    for step in ("inspect", "train", "merge", "gguf", "parity", "chat"):
        now, then = getattr(outcome, step), getattr(written, step)
        assert (now == OK) == (then == OK), f"{step}: {now}; written down: {then}"
    for what, then in written.stages.items() if further else ():
        assert (outcome.stages[what] == OK) == (then == OK), f"{what}: {outcome.stages[what]}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in CHEAP if name in MANY_STAGES])
def test_a_cheap_family_learns_by_further_stages(
    name: str, tmp_path: Path, llama_models: Path
) -> None:
    journey = Journey(name, tmp_path, llama_models)
    for what, said in read_record()[name].stages.items():
        stage, method = what.split()
        now = journey.train(stage, method, "talks" if stage == "sft" else "pairs")
        assert (now == OK) == (said == OK), f"{what}: {now}"
