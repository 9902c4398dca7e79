"""Reinforcement learning with verifiable rewards: answers are sampled in groups and compared.

For each prompt the policy answers `group_size` times; an answer's advantage is its reward against
the others of its group, A = (R - mean) / (std + eps) (Shao et al. 2024, DeepSeekMath), and the
clipped objective raises what did better. TRL's GRPOTrainer and RLOOTrainer do the arithmetic; here
they get the rewards and tell what they sampled.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from datasets import Dataset
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from workers.data.reader import Row
from workers.data.tokenize.chat_template import render
from workers.evaluate import Measured
from workers.protocol.events import Note, Rollout
from workers.protocol.refusal import Refusal
from workers.protocol.rollouts import Group, Rollouts, Sampling, path_of
from workers.protocol.wire import write_atomically
from workers.rewards import Rewards, Sample, Scored, equal_share
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    common_arguments,
    drop_reference_copy,
)
from workers.train.encoding import encoded
from workers.train.loss_check import TOKENS, Compared, own_log_probabilities
from workers.train.reward_eval import evaluate_rewards

SHOWN_GROUPS = 8
LONGEST_SHOWN = 8000
"""Bounds of what a step keeps for looking at: prompts, and characters of an answer."""


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's trainer for the algorithm, with the recipe's rewards and a reference where needed."""
    options = context.recipe.rl
    rewards = context.open_rewards()
    rows = [row for row, _ in fitting(context)]
    columns = {
        "prompt": [row.prompt for row in rows],
        "answer": [row.answer for row in rows],
    }
    full = context.recipe.model.method == "full"
    reference = copy.deepcopy(context.loaded.model) if full and options.kl_coefficient else None
    kind = LoggedRLOOTrainer if options.algorithm == "rloo" else LoggedGRPOTrainer
    trainer = kind(
        model=context.loaded.model,
        reward_funcs=[_placeholder(name) for name in rewards.names],
        args=_arguments(context, rewards),
        train_dataset=Dataset.from_dict(columns),
        processing_class=context.loaded.tokenizer,
    )
    trainer.watch(context, rewards)
    if reference is not None:
        # TRL loads the base by its name; where adapters were merged into it, that is another model.
        trainer.ref_model = trainer.accelerator.prepare_model(
            reference.eval().requires_grad_(False), evaluation_mode=True
        )
    drop_reference_copy(context)
    return trainer


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The log-probability of a part of the first prompt, as of an answer, at the run's
    temperature."""
    asked: Any = trainer
    prompt: str = render(
        asked.train_dataset[0]["prompt"], context.loaded.tokenizer, generation=True
    )
    ids: list[int] = asked.processing_class(prompt, add_special_tokens=False)["input_ids"][:TOKENS]
    answer = len(ids) // 2
    given = torch.tensor([ids], device=asked.accelerator.device)
    trainers, *_ = asked._get_per_token_logps_and_entropies(
        context.loaded.model, given, torch.ones_like(given), answer
    )
    own = own_log_probabilities(context.loaded.model, ids, context.recipe.rl.temperature)
    return Compared("log-probability", float(trainers.sum()), float(own[-answer:].sum()))


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """Mean reward of greedy answers to the held-out prompts, and the share that is right."""
    assert isinstance(trainer, Logged)
    return evaluate_rewards(
        context, trainer, trainer.rewards, context.recipe.rl.max_completion_tokens
    )


def _placeholder(name: str) -> Any:
    """Gives TRL a reward's name; what it is worth is computed for all rewards together."""

    def reward(completions: list[Any], **_: Any) -> list[float]:
        raise AssertionError(f"{name} is scored by Watched._calculate_rewards")

    reward.__name__ = name
    return reward


def fitting(context: TrainingContext) -> list[tuple[Row, list[int]]]:
    """Rows whose prompt fits into training.max_length, each with its prompt's token ids."""
    longest = context.recipe.training.max_length
    tokenizer: Any = context.loaded.tokenizer
    asked = encoded(
        context, context.training, lambda row: (row, render(row.prompt, tokenizer, generation=True))
    )
    texts = [text for _, text in asked]
    prompts: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompted = zip((row for row, _ in asked), prompts, strict=True)
    kept = [(row, ids) for row, ids in prompted if len(ids) <= longest]
    if not kept:
        raise Refusal(
            "No prompt is short enough to train on.",
            f"All are longer than training.max_length = {longest} tokens.",
            "Raise training.max_length.",
        )
    if len(kept) < len(prompts):
        context.host.emit(
            Note(
                text=f"{len(prompts) - len(kept)} of {len(prompts)} prompts are longer than "
                f"{longest} tokens and are left out.",
                level="warning",
            )
        )
    return kept


def _arguments(context: TrainingContext, rewards: Rewards) -> Any:
    options = context.recipe.rl
    shared = common_arguments(context) | NO_ROUTER_LOSS
    shared |= {
        "num_generations": options.group_size,
        "max_completion_length": options.max_completion_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "beta": options.kl_coefficient,
        "epsilon": options.clip_epsilon,
        "epsilon_high": options.clip_epsilon_high or options.clip_epsilon,
        "num_iterations": options.num_iterations,
        "mask_truncated_completions": options.mask_truncated_completions,
        "reward_weights": list(rewards.weights),
        "use_vllm": _use_vllm(context),
    }
    if shared["use_vllm"]:
        shared["vllm_mode"] = "colocate"
    if shared["save_strategy"] == "steps":
        # Between two batches of answers: resuming inside one would sample it again.
        window = options.num_iterations
        shared["save_steps"] = -(-shared["save_steps"] // window) * window
    if options.algorithm == "rloo":
        return RLOOConfig(**shared, normalize_advantages=options.scale_rewards == "batch")
    return GRPOConfig(
        **shared,
        loss_type=options.algorithm,
        scale_rewards=options.scale_rewards,
        importance_sampling_level="sequence" if options.algorithm == "luspo" else "token",
    )


def _use_vllm(context: TrainingContext) -> bool:
    """Whether answers are sampled by vLLM within this process."""
    wish = context.recipe.rl.fast_generation
    there = importlib.util.find_spec("vllm") is not None and context.loaded.device == "cuda"
    if wish == "vllm" and not there:
        raise Refusal(
            "vLLM cannot sample here.",
            "It is not installed, or this computer has no NVIDIA GPU.",
            "Install vllm into the worker's environment, or set rl.fast_generation = 'auto'.",
        )
    return there and wish != "transformers"


class Logged:
    """What is added to TRL's trainers: our rewards, and a record of every step's answers."""

    rewards: Rewards
    _course: TrainingContext
    _scored: Scored | None = None

    def watch(self, context: TrainingContext, rewards: Rewards) -> None:
        self._course = context
        self.rewards = rewards

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any,
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:  # fmt: skip
        """Shape (answers, rewards); a row of NaN where one of the rewards gave no score."""
        this: Any = self
        samples = [
            Sample(asked["prompt"], _text(said), asked["answer"], len(ids))
            for asked, said, ids in zip(inputs, completions, completion_ids_list, strict=True)
        ]
        began = time.perf_counter()
        self._scored = scored = self.rewards.score(samples)
        metrics = this._metrics["train"]
        metrics["reward_seconds"].append(time.perf_counter() - began)
        unscored = sum(total is None for total in scored.totals)
        metrics["unscored_share"].append(unscored / len(samples))
        values = [
            [part[at].value if total is not None else torch.nan for part in scored.parts]
            for at, total in enumerate(scored.totals)
        ]
        return torch.tensor(values, dtype=torch.float32, device=this.accelerator.device)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        began = time.perf_counter()
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        this: Any = self
        metrics = this._metrics["train"]
        metrics["rollout_seconds"].append(time.perf_counter() - began)
        # TRL compares a rounded deviation with zero and misses groups of equal rewards.
        assert self._scored is not None
        metrics["frac_reward_zero_std"][-1] = equal_share(self._scored.totals, this.num_generations)
        self._keep(inputs, output)
        return output

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        this: Any = self
        sampled = len(this._metrics["train"]["rollout_seconds"])
        began = time.perf_counter()
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        spent = time.perf_counter() - began
        rollouts = this._metrics["train"]["rollout_seconds"][sampled:]
        this._metrics["train"]["update_seconds"].append(spent - sum(rollouts))
        return loss

    def _keep(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> None:
        """Writes what was sampled beside the run, and says where."""
        this: Any = self
        assert self._scored is not None
        step = this.state.global_step + 1
        record = Rollouts(
            step, self.rewards.names, self.rewards.weights,
            _groups(inputs, output, self._scored, this._logs, this.num_generations,
                    this._tokenizer.eos_token_id),
        )  # fmt: skip
        keep(self._course, record)


class LoggedGRPOTrainer(Logged, GRPOTrainer):
    """TRL's GRPO with our rewards."""


class LoggedRLOOTrainer(Logged, RLOOTrainer):
    """TRL's RLOO with our rewards."""


def keep(context: TrainingContext, record: Rollouts) -> None:
    """Writes a step's answers beside the run, and says where."""
    path = context.host.folder / path_of(record.step)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, msgspec.json.encode(record))
    context.host.emit(Rollout(step=record.step, path=path_of(record.step)))


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[0]["content"])


def _groups(
    inputs: Sequence[dict[str, Any]],
    output: dict[str, Any],
    scored: Scored,
    logs: dict[str, Any],
    group_size: int,
    end: int,
) -> list[Group]:
    """The first groups of a batch; answers to one prompt stand together."""
    texts = list(logs["completion"])[-len(inputs) :]
    advantages = list(logs["advantages"])[-len(inputs) :]
    mask = output["completion_mask"]
    lengths = mask.sum(dim=1).tolist()
    ended = (output["completion_ids"] == end).any(dim=1).tolist()
    groups: dict[int, list[Sampling]] = defaultdict(list)
    for at in range(min(len(inputs), SHOWN_GROUPS * group_size)):
        outcomes = [part[at] for part in scored.parts]
        groups[at // group_size].append(
            Sampling(
                text=texts[at][:LONGEST_SHOWN],
                rewards=[outcome.value for outcome in outcomes],
                reward=scored.totals[at],
                advantage=advantages[at] if math.isfinite(advantages[at]) else 0.0,
                tokens=int(lengths[at]),
                truncated=not ended[at],
                faults=[outcome.fault for outcome in outcomes if outcome.fault],
            )
        )
    return [
        Group(
            prompt=inputs[number * group_size]["prompt"][-1]["content"],
            answer=inputs[number * group_size]["answer"],
            samples=samples,
        )
        for number, samples in groups.items()
    ]
