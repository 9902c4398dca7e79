"""The trainer's loss is held to the model's own forward pass before the first step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.engines.transformers import load_for_training, load_reward_model_for_training
from workers.fetch import locate_model
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Failed, Metrics, Note, Sampled
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import RL, Distill, Evaluation, Lora, Model, Recipe, Source, Training
from workers.protocol.rewards import MathAnswer
from workers.train import _stage
from workers.train.context import TrainingContext
from workers.train.dataset import build_dataset
from workers.train.loss_check import _compare, own_model

Run = Callable[..., list[Any]]
STAGES = {
    "sft": "builtin:arithmetic",
    "cpt": "builtin:stories",
    "dpo": "builtin:preferences",
    "ipo": "builtin:preferences",
    "simpo": "builtin:preferences",
    "orpo": "builtin:preferences",
    "kto": "builtin:feedback",
    "reward": "builtin:preferences",
    "grpo": "builtin:arithmetic",
    "rlhf": "builtin:arithmetic",
    "distill": "builtin:arithmetic",
}
MORE_STAGES = {"cpo": "builtin:preferences", "rloo": "builtin:arithmetic"}
"""Measured by the same code as simpo and grpo, through other trainers."""


def learner(stage: str, base: str, data: str, **training: Any) -> Recipe:
    options: dict[str, Any] = {
        "max_steps": 1, "batch_size": 8, "max_length": 256, "precision": "fp32",
        "save_every_steps": 0,
    }  # fmt: skip
    return Recipe(
        name=stage,
        stage="grpo" if stage == "rloo" else stage,  # type: ignore[arg-type]
        model=Model(base=base),
        lora=Lora(rank=4, alpha=8),
        data=[Source(source=data)],
        training=Training(**options | training),
        rl=RL(
            algorithm={"rlhf": "ppo", "rloo": "rloo"}.get(stage, "grpo"),  # type: ignore[arg-type]
            max_completion_tokens=16,
            temperature=0.7,
        ),
        rewards=[MathAnswer()] if stage in ("grpo", "rloo", "rlhf") else [],
        distill=Distill(teacher=base if stage == "distill" else "", lmbda=1.0),
        evaluation=Evaluation(max_rows=4),
    )


@contextmanager
def opened(recipe: Recipe, home: Path) -> Iterator[TrainingContext]:
    """A run up to the point where its trainer is built."""
    folder = home / "job"
    folder.mkdir()
    job = Job(id="job", name="job", created="2026-01-01T00:00:00+00:00", home=str(home),
              task=Train(recipe=recipe))  # fmt: skip
    wire.write_job(folder, job)
    located = locate_model(recipe.model.base, home, lambda text: None)
    load = load_reward_model_for_training if recipe.stage == "reward" else load_for_training
    loaded = load(recipe, located)
    rows = build_dataset(recipe)
    with Host(folder) as host, ExitStack() as closing:
        yield TrainingContext(recipe, host, loaded, located, rows.training, rows.held_out, closing)


@pytest.mark.parametrize(
    "stage", [*STAGES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_STAGES)]
)
def test_every_stage_measures_what_the_models_own_forward_pass_gives(
    tmp_path: Path, stage: str
) -> None:
    data = (STAGES | MORE_STAGES)[stage]
    with opened(learner(stage, "starter", data), tmp_path) as context:
        for weight in context.loaded.model.parameters():  # an adapter that does something
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.1)
        trainer = _stage(context.recipe).build_trainer(context)
        state = torch.random.get_rng_state()
        found = _compare(context, _stage(context.recipe), trainer)
        assert found is not None
        assert found.trainers == pytest.approx(found.own, rel=2e-5, abs=2e-5)
        assert abs(found.own) > 1e-3
        assert not found.differs(torch.float32)
        assert trainer.state.log_history == []
        assert torch.equal(state, torch.random.get_rng_state())


def family(folder: Path, tiny: Path, config: Any) -> Path:
    """A random model of a family, with the tiny model's tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


SHAPE: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip


def test_a_family_that_scales_its_logits_learns_from_its_own_loss(
    tmp_path: Path, tiny: Path, train_here: Run
) -> None:
    """TRL's chunked loss leaves Granite's logits_scaling out: 8 times too large logits."""
    from transformers import AutoModelForCausalLM, GraniteConfig

    base = family(tmp_path / "granite", tiny, GraniteConfig(**SHAPE, logits_scaling=8.0))
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.mul_(40)  # so that a random model's logits are worth scaling
    model.save_pretrained(base)
    recipe = learner("sft", str(base), str(tiny / "sums.jsonl"), learning_rate=1e-9)
    with opened(recipe, tmp_path) as context:
        trainer = _stage(recipe).build_trainer(context)
        assert "forward" in vars(own_model(context.loaded.model))
        found = _compare(context, _stage(recipe), trainer)
        assert found is not None
        assert found.differs(torch.float32)
    events = train_here(recipe)
    assert [event for event in events if isinstance(event, Failed)] == []
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("plain loss is taken" in text for text in notes)
    losses = [e.values["loss"] for e in events if isinstance(e, Metrics) and "loss" in e.values]
    assert losses[0] == pytest.approx(_plain_loss(base, tiny), rel=0.15)  # of one batch of 8


def _plain_loss(base: Path, tiny: Path) -> float:
    """Transformers' own loss over the rows, by hand."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.conversations import example_of

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    losses = []
    for line in (tiny / "sums.jsonl").read_text().splitlines():
        row = json.loads(line)
        messages = [{"role": "user", "content": row["prompt"]},
                    {"role": "assistant", "content": row["completion"]}]  # fmt: skip
        example = example_of(messages, tokenizer, 256)
        with torch.no_grad():
            losses.append(float(model(input_ids=torch.tensor([example.input_ids]),
                                      labels=torch.tensor([example.labels])).loss))  # fmt: skip
    return sum(losses) / len(losses)


@pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys"
)  # PEFT's own, for experts
def test_mixtures_of_experts_are_trained_and_speak(
    tmp_path: Path, tiny: Path, train_here: Run
) -> None:
    """TRL switches the router's logits on in the config, and sampling then ended the run."""
    from transformers import Qwen3MoeConfig

    experts: dict[str, Any] = SHAPE | {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 16,
        "decoder_sparse_step": 1,
    }  # fmt: skip
    config = Qwen3MoeConfig(**experts)
    base = family(tmp_path / "moe", tiny, config)
    events = train_here(learner("sft", str(base), str(tiny / "sums.jsonl")))
    assert [event for event in events if isinstance(event, Failed)] == []
    assert any(isinstance(event, Sampled) for event in events)
