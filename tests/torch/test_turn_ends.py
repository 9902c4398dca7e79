"""Every token that ends an answer ends a rollout, whichever of them the tokenizer names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.torch.test_loss_check import learner, opened
from workers.engines.transformers import stop_at_end
from workers.evaluate import Generator
from workers.protocol import wire
from workers.protocol.events import Failed, Metrics, Note
from workers.protocol.recipe import RL
from workers.protocol.rewards import MathAnswer
from workers.protocol.rollouts import Rollouts
from workers.train.context import tell_end_of_turn
from workers.train.grpo import EndToken, ended

Run = Callable[..., list[Any]]
NAMED, OTHER = 2, 1
"""The tokenizer's end token, and one at which the model's generation stops too."""


def test_an_end_token_passes_for_the_one_that_the_tokenizer_names() -> None:
    """As TRL asks: `ids[-1] not in [eos, pad]`; it is learnt as what it is."""
    ids = ended([7, OTHER, 0, 0], {NAMED, OTHER}, NAMED)
    assert ids[-1] in [NAMED, 0]
    assert ids[0] not in [NAMED, 0]
    assert torch.tensor(ids).tolist() == [7, 1]
    assert isinstance(ids[-1], EndToken)
    assert ended([7, 8], {NAMED, OTHER}, NAMED) == [7, 8]


@pytest.fixture
def ending(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model with another end token beside its tokenizer's, of which it says no other."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 50.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight[OTHER, 0] = 10.0
    model.generation_config.eos_token_id = [NAMED, OTHER]
    folder = tmp_path / "ending"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_rollouts_stop_at_every_end_and_are_not_taken_for_truncated(
    tmp_path: Path, tiny: Path, ending: Path, train_here: Run, algorithm: str
) -> None:
    stage = "rlhf" if algorithm == "ppo" else "grpo"
    rl = RL(algorithm=algorithm, max_completion_tokens=24, mask_truncated_completions=True)  # type: ignore[arg-type]
    recipe = msgspec.structs.replace(
        learner(stage, str(ending), "builtin:arithmetic"), rl=rl, rewards=[MathAnswer()]
    )
    events = train_here(recipe)
    assert [event for event in events if isinstance(event, Failed)] == []
    path = next(tmp_path.glob("jobs/*/samples/step-*.json"))
    groups = msgspec.json.decode(path.read_bytes(), type=Rollouts).groups
    samples = [sample for group in groups for sample in group.samples]
    assert {sample.tokens for sample in samples} == {1}
    assert not any(sample.truncated for sample in samples)
    rates = [e.values["truncation_rate"] for e in events
             if isinstance(e, Metrics) and "truncation_rate" in e.values]  # fmt: skip
    assert set(rates) == {0.0}


def test_what_is_saved_names_every_end(ending: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model: Any = AutoModelForCausalLM.from_pretrained(ending)
    tokenizer: Any = AutoTokenizer.from_pretrained(ending)
    tokenizer.eos_token = "<pad>"
    stop_at_end(model, tokenizer)
    model.save_pretrained(tmp_path / "saved")
    ends = [tokenizer.eos_token_id, NAMED, OTHER]
    assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == ends
    assert AutoConfig.from_pretrained(tmp_path / "saved").eos_token_id == ends


def test_it_is_told_which_token_ends_answers_in_the_place_of_the_templates(
    tiny: Path, tmp_path: Path
) -> None:
    recipe = learner("sft", str(tiny), str(tiny / "sums.jsonl"))
    model = msgspec.structs.replace(recipe.model, template="gemma")
    with opened(msgspec.structs.replace(recipe, model=model), tmp_path) as context:
        tell_end_of_turn(context)
        events = [line.event for line in wire.read_events(context.host.folder)]
    (note,) = (event.text for event in events if isinstance(event, Note))
    assert "<end_of_turn>" in note
    assert "<|im_end|> ends answers instead" in note


def test_a_repetition_penalty_of_the_models_own_is_not_measured(tiny: Path) -> None:
    """Qwen2.5's generation settings hold one of 1.05."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    speaking = Generator(model, AutoTokenizer.from_pretrained(tiny), "cpu", torch.float32)
    asked = [[{"role": "user", "content": "What is 12 + 34?"}]]
    plain = speaking.complete(asked, 12)
    model.generation_config.repetition_penalty = 50.0
    assert speaking.complete(asked, 12) == plain
