"""The arithmetic of memory beside the record of simulated steps, which tests/torch/simulations.py
writes (every storage of a real trainer's step on a model of that shape), and beside what others
have measured."""

from __future__ import annotations

from statistics import fmean

import pytest

from tests.torch import simulations
from tests.workers import memory_page
from workers.estimate import GIB
from workers.protocol.stages import STAGES

MEAN, WORST = 0.05, 0.10


def test_the_arithmetic_agrees_with_what_was_simulated() -> None:
    assert len(memory_page.RECORD) >= 40
    errors = memory_page.errors()
    assert {name: far for name, far in errors.items() if abs(far) > WORST} == {}
    assert fmean(map(abs, errors.values())) <= MEAN


def test_the_defaults_fit_by_the_simulation_too() -> None:
    known = simulations.read_defaults()
    most = {one.key: simulations.most_of(one) / GIB / one.card for one in known}
    assert {key: share for key, share in most.items() if share > 1} == {}
    sizes = {stage: {one.model for one in known if one.stage == stage} for stage in STAGES}
    assert all(set(simulations.PLANNED) == sizes[stage] for stage in ("sft", "dpo", "grpo", "kto"))
    assert set(simulations.PLANNED[:4]) == sizes["reward"]  # the largest fits nowhere


def test_the_page_holds_the_tables_as_they_are_now() -> None:
    page = memory_page.PAGE.read_text(encoding="utf-8")
    assert page == memory_page.written(page), "python -m tests.workers.memory_page"


@pytest.mark.parametrize(
    ("published", "least", "most"),
    [
        (memory_page.FACTORY, 0.70, 1.05),  # their logits are whole
        (memory_page.TORCHTUNE, 0.95, 1.30),  # theirs are compiled, and no row is padded
        (memory_page.UNSLOTH, 0.80, 1.45),  # of its own kernels, and of unknown length
    ],
)
def test_published_figures_are_near(
    published: list[memory_page.Published], least: float, most: float
) -> None:
    ratios = {one: one.estimate().high / GIB / one.gigabytes for one in published}
    assert {one: far for one, far in ratios.items() if not least <= far <= most} == {}
