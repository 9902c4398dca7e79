"""The arithmetic of memory beside the record of simulated steps, which tests/torch/simulations.py
writes: every storage of a real trainer's step on a model of that shape."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from workers.estimate import estimate, known_geometry
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of

RECORD: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("simulated.json").read_text(encoding="utf-8")
)
MEAN, WORST = 0.05, 0.10


def error(step: dict[str, Any]) -> float:
    """How far the estimate is off, as a share of what was simulated."""
    recipe = msgspec.convert(step["recipe"], Recipe)
    sizes = known_geometry(step["model"])
    assert sizes is not None
    judged = known_geometry(step["reward"] or step["model"])
    found = estimate(
        recipe,
        sizes,
        micro=step["micro"],
        longest=step["longest"],
        checkpointing=step["checkpointing"],
        teacher=known_geometry(step["teacher"]) if step["teacher"] else None,
        reward=judged if spec_of(recipe.stage).scored_by == "reward_model" else None,
    )
    return found.counted / step["peak"] - 1


def test_the_arithmetic_agrees_with_what_was_simulated() -> None:
    errors = {
        f"{step['model']} {step['recipe']['stage']} {step['recipe']['model']['method']} "
        f"{step['micro']} x {step['longest']}": error(step)
        for step in RECORD
    }
    assert {name: far for name, far in errors.items() if abs(far) > WORST} == {}
    assert fmean(map(abs, errors.values())) <= MEAN
