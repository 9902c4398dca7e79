"""The arithmetic of reinforcement learning, against references written from the papers in numpy.

DeepSeekMath (Shao et al. 2024): advantages, the clipped objective, the KL estimate. DAPO (Yu et al.
2025): clip-higher and the token mean. Dr. GRPO (Liu et al. 2025): no deviation, a constant length.
RLOO (Ahmadian et al. 2024): leave-one-out means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from workers.protocol.assets import assets_folder
from workers.protocol.recipe import RL
from workers.protocol.stages import defaults_for
from workers.rewards import equal_share
from workers.train.grpo import objective

GROUP = 4
EPSILON = 1e-4
"""TRL's, beside the deviation."""
BETA, LOW, HIGH = 0.1, 0.2, 0.28
LENGTH = 16
REWARDS = [1.0, 0.0, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5]


def trainer_of(tmp_path: Path, kind: Any, config: Any, **options: Any) -> Any:
    folder = assets_folder() / "starter" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rewards = iter(options.pop("rewards", REWARDS))

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [next(rewards) for _ in completions]

    return kind(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=[reward],
        args=config(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
            per_device_train_batch_size=8, num_generations=GROUP, max_completion_length=LENGTH,
            gradient_checkpointing=False,
            **{"beta": BETA, "epsilon": LOW, "epsilon_high": HIGH} | options,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": f"What is {n} + 1?"}]} for n in range(8)]
        ),
        processing_class=tokenizer,
    )  # fmt: skip


def sampled(trainer: Any) -> dict[str, Any]:
    """One batch of two groups, generated and scored."""
    rows = [trainer.train_dataset[at] for at in (0, 1) for _ in range(GROUP)]
    trainer.model.train()
    torch.manual_seed(0)
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions(rows)


def group_advantages(rewards: list[float], scale: bool = True) -> np.ndarray:
    """A = (R - mean) / (std + eps), the deviation with Bessel's correction as torch has it."""
    groups = np.array(rewards).reshape(-1, GROUP)
    centred = groups - groups.mean(axis=1, keepdims=True)
    deviation = groups.std(axis=1, ddof=1, keepdims=True)
    return (centred / (deviation + EPSILON) if scale else centred).ravel()


@pytest.mark.parametrize("scale", ["group", "none"])
def test_advantages_compare_within_the_group(tmp_path: Path, scale: str) -> None:
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, scale_rewards=scale)
    found = sampled(trainer)["advantages"].numpy()
    assert found == pytest.approx(group_advantages(REWARDS, scale == "group"), abs=1e-5)
    assert found.reshape(-1, GROUP).sum(axis=1) == pytest.approx([0, 0], abs=1e-5)
    assert (found[GROUP:] == 0).all()  # an all-equal group teaches nothing


def test_advantages_do_not_change_under_affine_rescaling(tmp_path: Path) -> None:
    rescaled = [3.0 * reward + 2.0 for reward in REWARDS]
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, rewards=rescaled)
    found = sampled(trainer)["advantages"].numpy()
    assert found == pytest.approx(group_advantages(REWARDS), abs=1e-3)


def test_rloo_compares_with_the_mean_of_the_others(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, RLOOTrainer, RLOOConfig, normalize_advantages=False
    )  # fmt: skip
    found = sampled(trainer)["advantages"].numpy()
    groups = np.array(REWARDS).reshape(-1, GROUP)
    others = (groups.sum(axis=1, keepdims=True) - groups) / (GROUP - 1)
    assert found == pytest.approx((groups - others).ravel(), abs=1e-4)  # no KL before a step


def test_the_share_of_equal_groups_is_not_fooled_by_rounding() -> None:
    # 0.2 + 1 is not exact, so a deviation computed in 32 bits is not quite zero.
    totals = [0.2 + 1.0] * 4 + [1.2, 0.2, 1.2, 1.2]
    assert equal_share(totals, 4) == 0.5
    assert equal_share([None, 1.0, None, 1.0], 4) == 1.0


def log_probabilities(trainer: Any, batch: dict[str, Any]) -> np.ndarray:
    """Of each completion token, by a plain forward pass; shape (answers, tokens)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        logits = trainer.model(input_ids=ids, attention_mask=mask).logits.double()
    chosen = torch.log_softmax(logits[:, :-1], dim=-1)
    picked = chosen.gather(2, ids[:, 1:, None]).squeeze(2)
    return picked[:, -batch["completion_ids"].shape[1] :].numpy()


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo"])
def test_the_clipped_objective_and_the_kl_estimate(tmp_path: Path, loss: str) -> None:
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, loss_type=loss)
    batch = sampled(trainer)
    now = log_probabilities(trainer, batch)
    draw = np.random.default_rng(0)
    old = now + draw.normal(0, 0.3, now.shape)
    reference = now + draw.normal(0, 0.3, now.shape)
    batch["old_per_token_logps"] = torch.tensor(old, dtype=torch.float32)
    batch["ref_per_token_logps"] = torch.tensor(reference, dtype=torch.float32)

    mask = batch["completion_mask"].numpy()
    advantages = batch["advantages"].numpy()[:, None]
    ratio = np.exp(now - old)
    clipped = np.clip(ratio, 1 - LOW, 1 + HIGH)
    objective = np.minimum(ratio * advantages, clipped * advantages)
    # The estimate of DeepSeekMath, eq. 4, weighted by the ratio as DeepSeek-V3.2 does, so that it
    # stays unbiased once the policy has moved from the one that sampled.
    kl = ratio * (np.exp(reference - now) - (reference - now) - 1)
    each = (-objective + BETA * kl) * mask
    expected = {
        "grpo": (each.sum(axis=1) / mask.sum(axis=1)).mean(),
        "bnpo": each.sum() / mask.sum(),
        "dapo": each.sum() / mask.sum(),
        "dr_grpo": each.sum() / (len(each) * LENGTH),
    }[loss]

    found = trainer._compute_loss(trainer.model, batch).item()
    assert found == pytest.approx(expected, abs=1e-5)
    metrics = trainer._metrics["train"]
    assert metrics["kl"][-1] == pytest.approx((kl * mask).sum() / mask.sum(), abs=1e-5)
    low = (ratio < 1 - LOW) & (advantages < 0)
    high = (ratio > 1 + HIGH) & (advantages > 0)
    share = ((low | high) * mask).sum() / mask.sum()
    assert metrics["clip_ratio/region_mean"][-1] == pytest.approx(share, abs=1e-6)


def test_cispo_and_gspo_clip_as_published(tmp_path: Path) -> None:
    """MiniMax-M1 (2025), equation 4, with ScaleRL's upper bound; GSPO (Zheng et al. 2025), 6."""
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig)
    batch = sampled(trainer)
    now, mask = log_probabilities(trainer, batch), batch["completion_mask"].numpy()
    advantages = batch["advantages"].numpy()[:, None]
    old = now - np.random.default_rng(0).normal(0, 1.0, now.shape)
    batch["old_per_token_logps"] = torch.tensor(old, dtype=torch.float32)

    ratio = np.exp(now - old)
    assert (ratio > 5).any()
    cispo = -np.minimum(ratio, 5.0) * advantages * now * mask
    whole = np.exp(((now - old) * mask).sum(axis=1, keepdims=True) / mask.sum(1, keepdims=True))
    clipped = np.clip(whole, 1 - 3e-4, 1 + 4e-4)
    gspo = -np.minimum(whole * advantages, clipped * advantages)

    assert loss_under(trainer, batch, algorithm="cispo") == pytest.approx(
        cispo.sum() / mask.sum(), abs=1e-5
    )
    published = defaults_for("grpo", "lora", None, "gspo")
    clips = {path.removeprefix("rl."): value for path, value in published.items() if "clip" in path}
    assert clips == {"clip_epsilon": 3e-4, "clip_epsilon_high": 4e-4}
    assert loss_under(trainer, batch, algorithm="gspo", **clips) == pytest.approx(
        gspo.mean(), abs=1e-5
    )


def loss_under(trainer: Any, batch: dict[str, Any], **options: Any) -> float:
    """The trainer's loss with the objective that a recipe's table `rl` asks for."""
    asked = objective(RL(kl_coefficient=0.0, **options))
    trainer.beta = asked["beta"]
    trainer.epsilon_low, trainer.epsilon_high = asked["epsilon"], asked["epsilon_high"]
    trainer.loss_type = trainer.args.loss_type = asked["loss_type"]
    trainer.importance_sampling_level = asked["importance_sampling_level"]
    return trainer._compute_loss(trainer.model, batch).item()
