"""KTO, PPO and distillation: their arithmetic against the papers in numpy, and runs of each.

KTO (Ethayarajh et al. 2024, equation 8), generalized advantage estimation (Schulman et al. 2015,
equation 16), the clipped objective (Schulman et al. 2017, equation 7) with a clipped value loss,
and the generalized Jensen-Shannon divergence (Agarwal et al. 2024, equation 1).
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import KTOConfig, KTOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer

from workers.data.reader import read_table
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Evaluated, Failed, Finished, Metrics, Paused, Resumed, Rollout
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import (
    RL,
    Distill,
    Evaluation,
    Lora,
    Model,
    Preference,
    Recipe,
    Source,
    Training,
)
from workers.protocol.requests import Pause
from workers.protocol.rewards import MathAnswer, RewardModel
from workers.train.distill import Collator
from workers.train.ppo import explained_variance
from workers.train.reward_eval import win_rate
from workers.train.reward_model import calibration_error

Run = Callable[..., list[Any]]
STARTER = assets_folder() / "starter" / "model"
ROWS = read_table("builtin:preferences").rows[:4]
BETA = 0.3


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def moved(model: Any, by: float = 0.01) -> Any:
    """The model, a little away from where it was."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn_like(weight)
    return model


def starter() -> Any:
    return AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)


def reward_model() -> Any:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        STARTER, num_labels=1, dtype=torch.float32
    )
    model.config.pad_token_id = 1
    return model


# KTO


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        chosen = torch.log_softmax(model(input_ids=ids).logits[:, :-1].double(), dim=-1)
    return chosen.gather(2, ids[:, 1:, None])[0, len(prompt) - 1 :, 0].sum().item()


def test_kto_is_that_of_the_paper(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    policy, reference = moved(starter()), starter()
    good_weight, bad_weight = 1.0, 1.3
    labels = [True, False, True, False]
    said = [
        row.completion if label else row.rejected for row, label in zip(ROWS, labels, strict=True)
    ]
    columns = {"prompt": [row.prompt for row in ROWS], "completion": said, "label": labels}
    trainer = KTOTrainer(
        model=policy,
        ref_model=reference,
        args=KTOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=BETA,
            per_device_train_batch_size=4, per_device_eval_batch_size=4, max_length=256,
            gradient_checkpointing=False, desirable_weight=good_weight,
            undesirable_weight=bad_weight,
        ),
        train_dataset=Dataset.from_dict(columns),
        eval_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
    )  # fmt: skip
    prompts, answers = [], []
    for row, answer in zip(ROWS, said, strict=True):
        head = tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*row.prompt, *answer], tokenize=False)
        prompts.append(tokenizer(head, add_special_tokens=False)["input_ids"])
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        answers.append(ids[len(prompts[-1]) :])

    def ratios(pairs: list[tuple[list[int], list[int]]]) -> np.ndarray:
        return np.array(
            [log_probability(policy, *p) - log_probability(reference, *p) for p in pairs]
        )

    ratio = ratios(list(zip(prompts, answers, strict=True)))
    mismatched = list(zip(prompts, [answers[-1], *answers[:-1]], strict=True))
    distance = max(0.0, ratios(mismatched).mean())
    sigmoid = 1 / (1 + np.exp(-BETA * (ratio - distance) * np.where(labels, 1, -1)))
    expected = (np.where(labels, good_weight, bad_weight) * (1 - sigmoid)).mean()
    found = trainer.evaluate()["eval_loss"]
    assert found == pytest.approx(expected, abs=1e-5)


# PPO


class Watching(PPOTrainer):
    """Keeps the loop's batch, which it offers no other way to."""

    batch: dict[str, Any]

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        if "objective/scores" in logs:
            self.batch = dict(frame.f_back.f_locals)


KL, LAMBDA, CLIP, VALUE = 0.2, 0.9, 0.02, 0.5


@pytest.fixture
def ppo(tmp_path: Path) -> tuple[Watching, dict[str, Any]]:
    """Two updates on one batch of four answers; and the weights between the two."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER, padding_side="left")
    texts = [
        tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True, tokenize=False)
        for row in ROWS
    ]
    prompts = Dataset.from_dict(
        {"input_ids": tokenizer(texts, add_special_tokens=False)["input_ids"]}
    )
    trainer = Watching(
        args=PPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", seed=0,
            per_device_train_batch_size=4, total_episodes=4, num_ppo_epochs=2, response_length=24,
            stop_token="eos", kl_coef=KL, lam=LAMBDA, cliprange=CLIP, cliprange_value=CLIP,
            vf_coef=VALUE, learning_rate=1e-4, num_sample_generations=0, temperature=1.0,
            gradient_checkpointing=False,
        ),
        processing_class=tokenizer, model=moved(starter(), 0.005), ref_model=starter(),
        reward_model=reward_model(), value_model=reward_model(), train_dataset=prompts,
        eval_dataset=prompts,
    )  # fmt: skip
    between: dict[str, Any] = {}
    steps: list[int] = []

    def keep(*_: Any) -> None:
        steps.append(len(steps))
        if len(steps) == 2:
            both: Any = trainer.model
            for name, part in (("policy", both.policy), ("value", both.value_model)):
                between[name] = {key: kept.clone() for key, kept in part.state_dict().items()}

    accelerated: Any = trainer.optimizer
    accelerated.optimizer.register_step_pre_hook(keep)
    trainer.train()
    return trainer, between


def test_ppo_earns_and_spreads_as_in_the_papers(
    ppo: tuple[Watching, dict[str, Any]],
) -> None:
    batch = {
        name: value.detach().double().numpy()
        for name, value in ppo[0].batch.items()
        if isinstance(value, torch.Tensor)
    }
    values, scores = batch["values"], batch["scores"]
    rows, width = values.shape
    lengths = batch["sequence_lengths"].astype(int)
    advantages, returns = np.zeros((rows, width)), np.zeros((rows, width))
    for row in range(rows):
        earned = -KL * (batch["logprobs"][row] - batch["ref_logprobs"][row])
        end = lengths[row] + 1 if lengths[row] + 1 < width else lengths[row]
        earned[end] += scores[row]
        following = 0.0
        for at in reversed(range(width)):
            foreseen = values[row, at + 1] if at + 1 < width else 0.0
            following = earned[at] + foreseen - values[row, at] + LAMBDA * following
            advantages[row, at] = following
        returns[row] = advantages[row] + values[row]
    trained = np.arange(width) <= lengths[:, None]
    mean, deviation = advantages[trained].mean(), advantages[trained].std(ddof=1)
    whitened = np.where(trained, (advantages - mean) / deviation, 0.0)
    assert batch["returns"] == pytest.approx(returns, abs=1e-5)
    assert batch["advantages"] == pytest.approx(whitened, abs=1e-4)
    foretold = explained_variance(torch.tensor(values[trained]), torch.tensor(returns[trained]))
    expected = 1 - (returns - values)[trained].var() / returns[trained].var()
    assert foretold == pytest.approx(expected, abs=1e-5)


def test_ppo_clips_as_in_the_paper(ppo: tuple[Watching, dict[str, Any]]) -> None:
    trainer, between = ppo
    batch = trainer.batch
    policy, value = starter(), reward_model()
    policy.load_state_dict(between["policy"])
    value.load_state_dict(between["value"])
    ids = batch["query_responses"]
    width = batch["responses"].shape[1]
    tokenizer: Any = trainer.processing_class
    seen = ids != tokenizer.pad_token_id
    positions = seen.cumsum(1) - seen.long()
    given = {"input_ids": ids.masked_fill(~seen, 0), "attention_mask": seen,
             "position_ids": positions}  # fmt: skip
    with torch.no_grad():
        logits = policy(**given).logits[:, -width - 1 : -1].double()
        hidden = value.model(**given, output_hidden_states=True).hidden_states[-1]
        foreseen = value.score(hidden)[:, -width - 1 : -1, 0].double().numpy()
    chosen = torch.log_softmax(logits, -1).gather(2, batch["responses"][..., None])[..., 0].numpy()
    trained = ~batch["padding_mask"].numpy()
    valued = ~batch["padding_mask_p1"].numpy()
    ratio = np.exp(chosen - batch["logprobs"].double().numpy())[trained]
    advantage = batch["advantages"].double().numpy()[trained]
    clipped = np.clip(ratio, 1 - CLIP, 1 + CLIP)
    objective = -np.minimum(ratio * advantage, clipped * advantage).mean()
    before, returns = (batch[name].double().numpy()[valued] for name in ("values", "returns"))
    near = np.clip(foreseen[valued], before - CLIP, before + CLIP)
    value_loss = 0.5 * np.maximum((foreseen[valued] - returns) ** 2, (near - returns) ** 2).mean()
    assert np.abs(ratio - 1).max() > CLIP  # else nothing is clipped
    assert batch["pg_loss_stats"][1, 0, 0].item() == pytest.approx(objective, abs=1e-5)
    assert batch["vf_loss_stats"][1, 0, 0].item() == pytest.approx(value_loss, abs=1e-5)


def test_what_is_foreseen_of_returns_that_do_not_vary_is_no_number() -> None:
    assert np.isnan(explained_variance(torch.zeros(4), torch.ones(4)))
    assert explained_variance(torch.arange(4.0), torch.arange(4.0)) == 1.0


def test_sureness_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    sure = np.log(3)  # says 75 %
    assert calibration_error([sure, sure, sure, -sure]) == pytest.approx(0.0, abs=1e-9)
    assert calibration_error([sure] * 4) == pytest.approx(0.25)
    assert calibration_error([-10.0] * 4) == pytest.approx(1.0, abs=1e-4)


def test_ties_count_half() -> None:
    assert win_rate([0.0, 1.0, 0.5, None], [1.0, 0.0, 0.5, 1.0]) == 0.5
    assert win_rate([None], [1.0]) is None


# Distillation


def test_the_divergence_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    labels = torch.tensor([[-100, 1, 2], [3, -100, -100]])
    mask = (labels != -100).numpy()
    q, p = (torch.softmax(x.double(), -1).numpy()[mask] for x in (student, teacher))

    def kl(one: np.ndarray, other: np.ndarray) -> float:
        return float((one * np.log(one / other)).sum(-1).mean())

    for beta in (0.0, 0.3, 1.0):
        mixed = beta * p + (1 - beta) * q
        expected = {0.0: kl(p, q), 1.0: kl(q, p)}.get(
            beta, beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)
        )
        found = GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta)
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_prompts_to_answer_end_before_the_first_trained_token() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [5, 9], "labels": [-100, 9]},
    ]
    made = Collator(tokenizer)(rows)
    assert made["prompts"].tolist() == [[5, 6], [1, 5]]
    assert made["prompt_attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert made["input_ids"].tolist() == [[5, 6, 7, 8], [1, 1, 5, 9]]
    assert made["labels"].tolist() == [[-100, -100, 7, 8], [-100, -100, -100, 9]]


# Runs


def of_stage(stage: Any, name: str, **changes: Any) -> Recipe:
    training = {"max_steps": 2, "batch_size": 4, "precision": "fp32", "save_every_steps": 0,
                "max_length": 128, "learning_rate": 3e-4} | changes.pop("training", {})  # fmt: skip
    return Recipe(
        name=name, stage=stage, model=Model(base="starter", method=changes.pop("method", "lora")),
        lora=Lora(rank=8, alpha=16), data=[Source(source=changes.pop("data"))],
        training=Training(**training), evaluation=Evaluation(holdout=0.02, max_rows=4),
        **changes,
    )  # fmt: skip


@pytest.fixture
def reward_run(train_here: Run, tmp_path: Path) -> str:
    """A reward model's run, by its model's name."""
    recipe = of_stage("reward", "reward_model", data="builtin:preferences", method="full")
    assert of(Finished, train_here(recipe))
    (run,) = (tmp_path / "jobs").glob("reward_model-*")
    return f"run:{run.name}"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_ppo_runs_and_tells_all_that_it_knows(
    train_here: Run, reward_run: str, method: str
) -> None:
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic", method=method,
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


def test_ppo_rests_and_goes_on_from_its_checkpoint(
    train_here: Run, reward_run: str, tmp_path: Path
) -> None:
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic",
        training={"max_steps": 3, "save_every_steps": 1},
        rl=RL(algorithm="ppo", num_iterations=2, max_completion_tokens=16),
        rewards=[RewardModel(model=reward_run)],
    )  # fmt: skip
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


def test_a_policy_needs_a_token_for_padding(
    train_here: Run, reward_run: str, tmp_path: Path
) -> None:
    folder = tmp_path / "unpadded"
    shutil.copytree(STARTER, folder)
    config = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes())
    config["pad_token"] = config["eos_token"]
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(config))
    recipe = of_stage(
        "rlhf", "policy", data="builtin:arithmetic", rl=RL(algorithm="ppo"),
        rewards=[RewardModel(model=reward_run)],
    )  # fmt: skip
    recipe = msgspec.structs.replace(recipe, model=Model(base=str(folder)))
    (failed,) = of(Failed, train_here(recipe))
    assert failed.kind == "refused"
    assert "padding" in failed.what


def test_preference_runs_compare_their_answers_with_those_before(train_here: Run) -> None:
    recipe = of_stage(
        "dpo", "pairs", data="builtin:preferences", training={"max_steps": 1},
        preference=Preference(rpo_alpha=1.0), rewards=[MathAnswer()],
    )  # fmt: skip
    events = train_here(recipe)
    assert of(Failed, events) == []
    before, after = of(Evaluated, events)
    assert {"pair_accuracy", "reward", "accuracy"} <= before.values.keys()
    assert after.values["win_rate"] is not None


def test_distillation_comes_nearer_to_its_teacher(train_here: Run, tmp_path: Path) -> None:
    teacher = of_stage("sft", "teacher", data="builtin:arithmetic",
                       training={"max_steps": 10, "learning_rate": 4e-3})  # fmt: skip
    assert of(Finished, train_here(teacher))
    (run,) = (tmp_path / "jobs").glob("teacher-*")
    student = of_stage(
        "distill", "student", data="builtin:arithmetic",
        training={"max_steps": 12, "learning_rate": 2e-3},
        distill=Distill(teacher=f"run:{run.name}", lmbda=0.3), rl=RL(max_completion_tokens=24),
    )  # fmt: skip
    events = train_here(student)
    assert of(Failed, events) == []
    before, after = of(Evaluated, events)
    assert after.values["loss"] < before.values["loss"]


def test_a_teacher_of_other_tokens_is_refused(train_here: Run, tiny: Path) -> None:
    student = of_stage("distill", "student", data="builtin:arithmetic",
                       distill=Distill(teacher=str(tiny)))  # fmt: skip
    (failed,) = of(Failed, train_here(student))
    assert failed.kind == "refused"
    assert "tokens" in failed.what
