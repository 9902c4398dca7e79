"""Answers come from what the model itself finds likely, whatever its generation_config bends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.torch.starters import of, of_stage
from workers.evaluate import Generator
from workers.protocol.events import Evaluated, Failed, Metrics
from workers.protocol.recipe import RL, Model
from workers.protocol.rewards import MathAnswer

PROMPT = [[{"role": "user", "content": "What is 12 + 34?"}]]


def bent(tiny: Path, folder: Path) -> Path:
    """The tiny model, whose settings forbid to say anything twice."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    model.generation_config.repetition_penalty = 9.0
    model.generation_config.no_repeat_ngram_size = 1
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


def test_measuring_repeats_what_the_model_repeats(tiny: Path, tmp_path: Path) -> None:
    said = []
    for folder in (tiny, bent(tiny, tmp_path / "bent")):
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        generator = Generator(model, tokenizer, "cpu", torch.float32)
        said.append(generator.complete(PROMPT, 16)[0].text)
    assert said[0] == said[1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["grpo", "rlhf"])
def test_sampling_repeats_what_the_model_repeats(
    train_here: Callable[..., list[Any]], tiny: Path, tmp_path: Path, stage: Any
) -> None:
    """The same seed gives the same steps."""
    found = []
    for folder in (tiny, bent(tiny, tmp_path / "bent")):
        recipe = of_stage(
            stage, f"{stage}-{folder.name}", data="builtin:arithmetic",
            training={"max_steps": 1}, rewards=[MathAnswer()],
            rl=RL(algorithm="ppo" if stage == "rlhf" else "grpo", max_completion_tokens=16,
                  group_size=2),
        )  # fmt: skip
        events = train_here(structs.replace(recipe, model=Model(base=str(folder))))
        assert of(Failed, events) == []
        steps = [event.values for event in of(Metrics, events) if "loss" in event.values]
        found.append([(one["entropy"], one["completion_length"]) for one in steps])
        assert of(Evaluated, events)
    assert found[0] == found[1]
