"""Sampling by vLLM: the room that it needs, when it is left out, what becomes of its failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.torch.test_grpo import learner, of
from workers.protocol.events import Failed, Finished, Note
from workers.protocol.recipe import check_recipe
from workers.protocol.refusal import Refusal
from workers.train import fast_generation
from workers.train.fast_generation import Room

Run = Callable[..., list[Any]]
GB = 10**9


@pytest.mark.parametrize(("needed", "free", "fits"), [(9, 10, True), (9.1, 10, False)])
def test_what_is_promised_away_leaves_a_tenth(needed: float, free: float, fits: bool) -> None:
    room = Room(int(needed * GB), int(free * GB), 24 * GB)
    assert room.fits == fits
    assert room.utilization == 0.38


def test_a_start_that_fails_is_told_and_transformers_samples(
    train_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM is asked for where it is not: TRL's own complaint is what fails here."""
    asked = {"use_vllm": True, "vllm_mode": "colocate", "generation_kwargs": {}}
    monkeypatch.setattr(fast_generation, "_wanted", lambda _context: True)
    monkeypatch.setattr("workers.train.grpo.vllm_arguments", lambda *_: asked)
    events = train_here(learner(training={"max_steps": 1}))
    assert of(Finished, events)
    told = [note.text for note in of(Note, events) if "vLLM did not start" in note.text]
    assert len(told) == 1
    assert "sampled by Transformers" in told[0]


def test_too_little_room_is_told_and_transformers_samples(
    train_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_generation, "_wanted", lambda _context: True)
    monkeypatch.setattr(fast_generation, "free_memory", lambda _device: 1 * GB)
    events = train_here(learner(training={"max_steps": 1}))
    assert of(Finished, events)
    assert any("vLLM would need" in note.text for note in of(Note, events))


def test_asked_for_where_it_is_not_it_is_refused(train_here: Run) -> None:
    (failed,) = of(Failed, train_here(learner(rl={"fast_generation": "vllm"})))
    assert failed.kind == "refused"
    assert "bootstrap.py vllm" in failed.remedy


def test_four_bits_are_refused_but_for_unsloths_own() -> None:
    recipe = learner(method="qlora", training={"precision": "bf16"}, rl={"fast_generation": "vllm"})
    with pytest.raises(Refusal, match="qlora"):
        check_recipe(recipe)
    model = msgspec.structs.replace(recipe.model, engine="unsloth")
    check_recipe(msgspec.structs.replace(recipe, model=model))
