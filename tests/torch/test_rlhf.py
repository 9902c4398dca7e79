"""PPO: its arithmetic against the papers in numpy, a step against TRL's, and runs.

Generalized advantage estimation (Schulman et al. 2015, equation 16), the clipped objective
(Schulman et al. 2017, equation 7) with a clipped value loss.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl.experimental.ppo import PPOConfig, ppo_trainer
from trl.experimental.ppo import PPOTrainer as TRLPPOTrainer
from trl.experimental.ppo.ppo_trainer import forward, get_reward

from tests.torch.starters import STARTER, moved, of, of_stage, reward_model, starter
from workers.data.reader import read_table
from workers.engines import Loaded
from workers.fetch import locate_model
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Evaluated, Failed, Finished, Metrics, Paused, Resumed, Rollout
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import (
    RL,
    Model,
)
from workers.protocol.requests import Pause
from workers.protocol.rewards import MathAnswer, RewardModel
from workers.rewards import Sample, Scored
from workers.rewards.sandbox import Outcome
from workers.train import chunked
from workers.train.context import TrainingContext
from workers.train.ppo import Batch, PPOTrainer
from workers.train.ppo_formulas import explained_variance, filled, policy_loss, token_rewards
from workers.train.value_model import PolicyAndValue

Run = Callable[..., list[Any]]
ROWS = read_table("builtin:preferences").rows[:4]
PROMPTS = [row.prompt for row in ROWS]


KL, LAMBDA, CLIP, VALUE, TEMPERATURE = 0.2, 0.9, 0.02, 0.5, 0.9
SCORES = [1.0, -0.5, None, 0.25]
"""One reward could not be found; what the others give is 0.25 at the mean."""


class FixedRewards:
    """Scores by the prompt alone, whatever is said."""

    names: ClassVar = ["fixed"]
    weights: ClassVar = [1.0]

    def score(self, samples: Sequence[Sample]) -> Scored:
        totals = [SCORES[PROMPTS.index(sample.prompt)] for sample in samples]
        return Scored([[Outcome(total) for total in totals]], totals, [0.0])


class Recorded(PPOTrainer):
    """Keeps each step's batch, and the weights before the second update."""

    batch: Batch
    between: dict[str, torch.Tensor] | None = None

    def sample(self, *args: Any, **named: Any) -> Any:
        found = super().sample(*args, **named)
        self.batch = found[0]
        return found

    def losses(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        found = super().losses(model, batch)
        self.found = {name: value.item() for name, value in found.items()}
        self.between = {name: kept.clone() for name, kept in model.state_dict().items()}
        return found


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One step: two updates on one batch of four completions."""
    home = tmp_path_factory.mktemp("ppo")
    recipe = of_stage(
        "rlhf", "step", data="builtin:preferences", method="full",
        training={"max_steps": 1, "learning_rate": 1e-4, "max_grad_norm": 0.0, "warmup_ratio": 0.0},
        rl=RL(algorithm="ppo", num_iterations=2, max_completion_tokens=24, kl_coefficient=KL,
              gae_lambda=LAMBDA, clip_epsilon=CLIP, value_coefficient=VALUE,
              temperature=TEMPERATURE),
        rewards=[MathAnswer()],
    )  # fmt: skip
    job = Job(id="step", name="step", created="2026-01-01T00:00:00+00:00", home=str(home),
              task=Train(recipe=recipe))  # fmt: skip
    wire.write_job(home, job)
    located = locate_model("starter", home, lambda text: None)
    tokenizer: Any = AutoTokenizer.from_pretrained(STARTER)
    loaded = Loaded(moved(starter(), 0.005), tokenizer, "cpu", torch.float32)
    prompts = [
        tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True)["input_ids"]
        for row in ROWS
    ]
    with Host(home) as host, ExitStack() as closing:
        context = TrainingContext(recipe, host, loaded, located, list(ROWS), [], closing)
        rewards: Any = FixedRewards()
        models = PolicyAndValue(loaded.model, reward_model(), TEMPERATURE)
        trainer = Recorded(
            context, models, starter(), list(zip(ROWS, prompts, strict=True)), rewards
        )
        torch.manual_seed(0)
        trainer.train()
    return trainer


def completion_pass(model: Any, batch: Batch, row: int) -> Any:
    """The model's output for one prompt and completion without padding, before each token of the
    completion and behind the last: (tokens + 1, words)."""
    ids = batch.ids[row][batch.seen[row]][None]
    length = int(batch.mask[row].sum())
    with torch.no_grad():
        if hasattr(model, "score"):
            found = model.score(model.model(input_ids=ids).last_hidden_state)
        else:
            found = torch.log_softmax(model(input_ids=ids).logits.double() / TEMPERATURE, -1)
    return found[0, -length - 1 :].double(), ids[0, -length:]


def chosen(model: Any, batch: Batch, row: int) -> np.ndarray:
    """Log-probabilities of a completion's tokens, (tokens,)."""
    found, ids = completion_pass(model, batch, row)
    return found[:-1].gather(1, ids[:, None])[:, 0].numpy()


def expected_values(model: Any, batch: Batch, row: int) -> np.ndarray:
    """Before each token of a completion and behind the last, 0 from there on: (T + 1,)."""
    found, _ = completion_pass(model, batch, row)
    values = np.zeros(batch.mask.shape[1] + 1)
    values[: len(found)] = found[:, 0].numpy()
    return values


@pytest.mark.xdist_group("ppo")
def test_ppo_earns_and_spreads_as_in_the_papers(ppo: Recorded) -> None:
    batch, policy, reference, value = ppo.batch, moved(starter(), 0.005), starter(), reward_model()
    rows, width = batch.mask.shape
    values, advantages = np.zeros((rows, width)), np.zeros((rows, width))
    lengths = batch.mask.sum(1).tolist()
    assert min(lengths) < width  # else nothing is padded
    kl = []
    for row, length in enumerate(lengths):
        now, before = chosen(policy, batch, row), chosen(reference, batch, row)
        assert batch.log_probs[row, :length].numpy() == pytest.approx(now, abs=1e-4)
        kl += list(now - before)
        values[row] = expected_values(value, batch, row)[:width]
        earned = np.zeros(width)
        earned[:length] = -KL * (now - before)
        earned[min(length, width - 1)] += batch.scores[row].item()
        following = 0.0
        for at in reversed(range(width)):
            ahead = values[row, at + 1] if at + 1 < width else 0.0
            following = earned[at] + ahead - values[row, at] + LAMBDA * following
            advantages[row, at] = following
    returns = advantages + values
    trained = np.arange(width) < np.array(lengths)[:, None]
    mean, deviation = advantages[trained].mean(), advantages[trained].std(ddof=1)
    whitened = np.where(trained, (advantages - mean) / deviation, 0.0)
    assert batch.values.numpy() == pytest.approx(values, abs=1e-4)
    assert batch.returns.numpy() == pytest.approx(returns, abs=1e-4)
    assert batch.advantages.numpy() == pytest.approx(whitened, abs=1e-3)
    assert sorted(batch.scores.tolist()) == [-0.5, 0.25, 0.25, 1.0]
    logged = ppo.state.log_history[0]
    expected = 1 - (returns - values)[trained].var() / returns[trained].var()
    assert logged["explained_variance"] == pytest.approx(expected, abs=1e-3)
    assert logged["kl"] == pytest.approx(np.mean(kl), abs=1e-4)
    assert logged["reward"] == 0.25
    assert logged["unscored_share"] == 0.25


@pytest.mark.xdist_group("ppo")
def test_ppo_clips_as_in_the_paper(ppo: Recorded) -> None:
    batch = ppo.batch
    assert ppo.between is not None
    policy, value = starter(), reward_model()
    for model, name in ((policy, "policy."), (value, "value_model.")):
        model.load_state_dict(
            {key.removeprefix(name): kept for key, kept in ppo.between.items() if name in key}
        )
    width = batch.mask.shape[1]
    objectives, errors, ratios = [], [], []
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        ratio = np.exp(chosen(policy, batch, row) - batch.log_probs[row, :length].double().numpy())
        advantage = batch.advantages[row, :length].double().numpy()
        clipped = np.clip(ratio, 1 - CLIP, 1 + CLIP)
        objectives += list(np.minimum(ratio * advantage, clipped * advantage))
        ratios += list(ratio)
        valued = min(length + 1, width)
        now = expected_values(value, batch, row)[:valued]
        before, returns = (
            one[row, :valued].double().numpy() for one in (batch.values, batch.returns)
        )
        near = np.clip(now, before - CLIP, before + CLIP)
        errors += list(np.maximum((now - returns) ** 2, (near - returns) ** 2))
    assert np.abs(np.array(ratios) - 1).max() > CLIP  # else nothing is clipped
    assert ppo.found["policy_loss"] == pytest.approx(-np.mean(objectives), abs=1e-5)
    assert ppo.found["value_loss"] == pytest.approx(0.5 * np.mean(errors), abs=1e-5)
    total = -np.mean(objectives) + VALUE * 0.5 * np.mean(errors)
    assert ppo.found["loss"] == pytest.approx(total, abs=1e-5)


@pytest.mark.xdist_group("ppo")
def test_a_step_of_ppo_is_that_of_trl(
    ppo: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's trainer is given our completions and scores; it arrives at the same weights."""
    batch, tokenizer = ppo.batch, AutoTokenizer.from_pretrained(STARTER, padding_side="left")
    width, rewarding = batch.mask.shape[1], reward_model()
    prompts = batch.ids[:, :-width].tolist()

    def places(queries: torch.Tensor) -> list[int]:
        return [prompts.index(query) for query in queries.tolist()]

    def completed(model: Any, queries: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        ids = batch.ids[places(queries)]
        output: Any = forward(model, ids, tokenizer.pad_token_id)
        return ids, output.logits[:, -width - 1 : -1] / (TEMPERATURE + 1e-7)

    def scored(model: Any, ids: torch.Tensor, padding: int, begin: int) -> Any:
        if model is rewarding:
            return None, batch.scores[places(ids[:, :begin])], None
        return get_reward(model, ids, padding, begin)

    monkeypatch.setattr(ppo_trainer, "batch_generation", completed)
    monkeypatch.setattr(ppo_trainer, "get_reward", scored)
    dataset = Dataset.from_dict({"input_ids": [ids for _, ids in ppo.prompts]})
    policy, value = moved(starter(), 0.005), reward_model()
    trainer = TRLPPOTrainer(
        args=PPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", seed=0,
            per_device_train_batch_size=4, total_episodes=4, num_ppo_epochs=2,
            response_length=24, stop_token="eos", kl_coef=KL, lam=LAMBDA, cliprange=CLIP,
            cliprange_value=CLIP, vf_coef=VALUE, learning_rate=1e-4, num_sample_generations=0,
            temperature=TEMPERATURE, gradient_checkpointing=False,
        ),
        processing_class=tokenizer, model=policy, ref_model=starter(), reward_model=rewarding,
        value_model=value, train_dataset=dataset, eval_dataset=dataset,
    )  # fmt: skip
    trainer.train()
    theirs, ours = trainer.state.log_history[0], ppo.state.log_history[0]
    assert ours["policy_loss"] == pytest.approx(theirs["loss/policy_avg"], abs=1e-5)
    assert ours["value_loss"] == pytest.approx(theirs["loss/value_avg"], abs=1e-5)
    assert ours["clip_fraction"] == pytest.approx(theirs["policy/clipfrac_avg"], abs=1e-3)
    assert ours["value_clip_fraction"] == pytest.approx(theirs["val/clipfrac_avg"], abs=1e-3)
    assert ours["learning_rate"] == pytest.approx(theirs["lr"])
    pairs = (
        (ppo.models.policy, policy, moved(starter(), 0.005)),
        (ppo.models.value_model, value, reward_model()),
    )
    for mine, other, start in pairs:
        one, two, begin = (
            torch.cat([p.detach().flatten() for p in model.parameters()])
            for model in (mine, other, start)
        )
        # Adam's first steps follow the gradient's sign, which rounding decides where it is 0.
        assert torch.linalg.vector_norm(one - two) < 0.02 * torch.linalg.vector_norm(two - begin)


def test_scores_and_rewards_of_a_token() -> None:
    assert filled([1.0, None, 0.0]).tolist() == [1.0, 0.5, 0.0]
    assert filled([None]).tolist() == [0.0]
    kl = torch.tensor([[0.5, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = token_rewards(kl, torch.tensor([2.0, 3.0]), torch.tensor([2, 4]), 0.1)
    expected = np.array([[-0.05, -0.1, 2.0, 0.0], [-0.1, -0.1, -0.1, 2.9]])
    assert found.numpy() == pytest.approx(expected)


def test_padding_never_reaches_a_loss() -> None:
    """Whatever a model says of padding, even what would overflow."""
    mask = torch.tensor([[True, True, False]])
    log_probs = torch.tensor([[-1.0, -2.0, 500.0]], requires_grad=True)
    before = torch.tensor([[-1.0, -2.0, -500.0]])
    loss, cut = policy_loss(log_probs, before, torch.tensor([[1.0, -3.0, 0.0]]), mask, 0.2)
    loss.backward()
    assert (loss.item(), cut.item()) == (pytest.approx(1.0), 0.0)
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [[-0.5, 1.5, 0.0]]


def test_explained_variance_of_returns_that_do_not_vary_is_no_number() -> None:
    assert np.isnan(explained_variance(torch.zeros(4), torch.ones(4)))
    assert explained_variance(torch.arange(4.0), torch.arange(4.0)) == 1.0


# Runs


@pytest.fixture
def reward_run(train_here: Run, tmp_path: Path) -> str:
    """A reward model's run, by its model's name."""
    recipe = of_stage("reward", "reward_model", data="builtin:preferences", method="full")
    assert of(Finished, train_here(recipe))
    (run,) = (tmp_path / "jobs").glob("reward_model-*")
    return f"run:{run.name}"


def test_a_reward_model_with_an_adapter_is_trained_and_measured_in_bf16(train_here: Run) -> None:
    """Its output is trained whole, in 32 bits, on a body of 16."""
    recipe = of_stage(
        "reward", "reward_model", data="builtin:preferences", training={"precision": "bf16"}
    )
    events = train_here(recipe)
    assert of(Failed, events) == []
    assert "calibration_error" in of(Evaluated, events)[-1].values


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("full", {}),
        ("lora", {"batch_size": 2, "gradient_accumulation": 2, "gradient_checkpointing": True}),
        ("lora", {"precision": "bf16"}),
    ],
)
def test_ppo_runs_and_tells_all_that_it_knows(
    train_here: Run, reward_run: str, method: str, training: dict[str, Any]
) -> None:
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic", method=method, training=training,
        rl=RL(algorithm="ppo", num_iterations=2, max_completion_tokens=24),
        rewards=[RewardModel(model=reward_run)],
    )  # fmt: skip
    events = train_here(recipe)
    assert of(Failed, events) == []
    steps = [event.values for event in of(Metrics, events) if "loss" in event.values]
    assert len(steps) == 2
    for name in ("policy_loss", "value_loss", "kl", "entropy", "reward", "clip_fraction",
                 "value_clip_fraction", "explained_variance", "gradient_norm", "completion_length",
                 "unscored_share", "tokens_per_second"):  # fmt: skip
        assert steps[-1][name] is not None, name
    assert steps[0]["kl"] == pytest.approx(0.0, abs=1e-3)  # it is where it began
    assert [event.step for event in of(Rollout, events)] == [1, 2]
    before, after = of(Evaluated, events)
    assert "win_rate" not in before.values
    assert 0 <= after.values["win_rate"] <= 1


def test_ppo_rests_and_goes_on_as_if_it_had_never_rested(
    train_here: Run, reward_run: str, tmp_path: Path
) -> None:
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic",
        training={"max_steps": 3, "save_every_steps": 1},
        rl=RL(algorithm="ppo", num_iterations=2, max_completion_tokens=16),
        rewards=[RewardModel(model=reward_run)],
    )  # fmt: skip
    expected = of(Metrics, train_here(recipe))
    folder = tmp_path / "jobs" / "resting"
    folder.mkdir()
    wire.write_job(
        folder,
        Job(id="resting", name="policy", created="2026-01-01T00:00:00+00:00", home=str(tmp_path),
            task=Train(recipe=recipe)),
    )  # fmt: skip
    wire.append_request(folder, Pause())
    events = train_here(recipe, folder)
    assert of(Failed, events) == []
    (paused,) = of(Paused, events)
    assert paused.step == 1
    events = train_here(recipe, folder)
    assert of(Failed, events) == []
    assert [event.step for event in of(Resumed, events)] == [1]
    assert [event.step for event in of(Metrics, events) if "loss" in event.values] == [1, 2, 3]
    assert of(Finished, events)[0].summary["steps"] == 3
    steps = ({event.step: event.values for event in made if "loss" in event.values}
             for made in (expected, of(Metrics, events)))  # fmt: skip
    for whole, parts in zip(*(made.values() for made in steps), strict=True):
        assert parts["tokens"] == whole["tokens"]
        for name in ("reward", "loss", "policy_loss", "value_loss", "kl", "gradient_norm"):
            assert parts[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-4), name


def test_ppo_computes_in_16_bits_where_it_is_asked_to(
    train_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of method full stay in 32."""
    seen: list[chunked.Moment] = []
    make = chunked.Source.logits

    def logits(source: chunked.Source, hidden: torch.Tensor) -> torch.Tensor:
        seen.append(source.moment)
        return make(source, hidden)

    monkeypatch.setattr(chunked.Source, "logits", logits)
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic", method="full",
        training={"precision": "bf16", "max_steps": 1},
        rl=RL(algorithm="ppo", max_completion_tokens=8), rewards=[MathAnswer()],
    )  # fmt: skip
    assert of(Failed, train_here(recipe)) == []
    learning = [moment for moment in seen if moment.gradient]
    assert learning
    assert all(one.autocast and one.dtype == torch.bfloat16 for one in learning)


def test_the_end_token_may_serve_as_padding(
    train_here: Run, reward_run: str, tmp_path: Path
) -> None:
    """As in Llama 3, Mistral and SmolLM: what stands behind a completion's end is never read."""
    folder = tmp_path / "unpadded"
    shutil.copytree(STARTER, folder)
    config = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes())
    config["pad_token"] = config["eos_token"]
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(config))
    found = []
    for base in ("starter", str(folder)):
        recipe = of_stage(
            "rlhf", "policy", data="builtin:arithmetic", rl=RL(algorithm="ppo"),
            rewards=[RewardModel(model=reward_run)],
        )  # fmt: skip
        events = train_here(msgspec.structs.replace(recipe, model=Model(base=base)))
        assert of(Failed, events) == []
        found.append([event.values for event in of(Metrics, events) if "loss" in event.values])
    for own, end in zip(*found, strict=True):
        for name in ("reward", "loss", "policy_loss", "value_loss", "kl", "completion_length"):
            assert end[name] == pytest.approx(own[name], rel=1e-4, abs=1e-5), name
