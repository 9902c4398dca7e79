"""Reinforcement learning from human feedback by PPO, with a value model beside the policy.

The policy answers, a trained reward model scores each answer, and every token pays for its distance
from the reference (Ziegler et al. 2019; Ouyang et al. 2022). The value model foresees what will be
earned, so that an answer's score is spread over its tokens by generalized advantage estimation
(Schulman et al. 2015), and the clipped objective (Schulman et al. 2017) moves the policy. TRL's
PPOTrainer does the arithmetic; here it is given the recipe's rewards, and learns to end when asked,
to go on from a checkpoint, and to tell what it sampled.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import Trainer
from trl.experimental.ppo import PPOConfig, PPOTrainer

from workers.data.reader import Row
from workers.engines.transformers import load_reward_model, with_adapter
from workers.evaluate import Measured
from workers.fetch import locate_model
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel
from workers.protocol.rollouts import Group, Rollouts, Sampling
from workers.rewards import Rewards, Sample, Scored
from workers.rewards.models import TrainedModel
from workers.train.context import TrainingContext, common_arguments
from workers.train.grpo import LONGEST_SHOWN, SHOWN_GROUPS, fitting, keep
from workers.train.reward_eval import evaluate_rewards

FULL_BYTES = 16
"""A weight that is trained: itself, its gradient and Adam's two moments, each in 32 bits."""
VALUE = "value.safetensors"
"""The value model's trained weights, in a checkpoint."""


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's PPOTrainer; the value model begins as the reward model (Ouyang et al. 2022)."""
    rewards = context.open_rewards()
    tokenizer = copy.deepcopy(context.loaded.tokenizer)
    tokenizer.padding_side = "left"  # prompts end where answers begin
    _require_padding(tokenizer)
    asked = fitting(context)
    batch = _batch(context)
    if len(asked) < batch:
        raise Refusal(
            f"There are {len(asked)} prompts for batches of {batch}.",
            "PPO takes a whole batch of different prompts in each step.",
            "Lower training.batch_size or gradient_accumulation, or bring more prompts.",
        )
    dataset = Dataset.from_dict({"input_ids": [ids for _, ids in asked]})
    full = context.recipe.model.method == "full"
    earned: Any = RewardAdapter(rewards, tokenizer, asked)
    trainer = LoggedPPOTrainer(
        args=_arguments(context, batch),
        processing_class=tokenizer,
        model=context.loaded.model,
        ref_model=copy.deepcopy(context.loaded.model) if full else None,
        reward_model=earned,
        value_model=_value_model(context, rewards),
        train_dataset=dataset,
        eval_dataset=dataset.select(range(1)),  # never looked at: measured by the course
    )
    trainer.watch(context, rewards)
    return trainer


def compare(context: TrainingContext, trainer: Trainer) -> None:
    """Nothing: TRL's loop takes the model's own logits, and measures nothing outside of itself."""


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """What the rewards give to answers to the held-out prompts."""
    assert isinstance(trainer, LoggedPPOTrainer)
    return evaluate_rewards(
        context, trainer, trainer.rewards, context.recipe.rl.max_completion_tokens
    )


def _require_padding(tokenizer: Any) -> None:
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise Refusal(
            "The model has no token for padding beside its end token.",
            "PPO finds the end of an answer by its padding, so the end itself would not be learnt.",
            "Set pad_token in the tokenizer to an unused token, or set rl.algorithm = 'rloo'.",
        )


class RewardAdapter(torch.nn.Module):
    """Stands where TRL's loop looks for a reward model: answers are scored as text.

    So every kind of reward serves, and a reward model reads an answer as it was taught to, by its
    own template and tokens. TRL takes the score at an answer's last token; here all have it.
    """

    base_model_prefix = "body"

    def __init__(
        self, rewards: Rewards, tokenizer: Any, asked: list[tuple[Row, list[int]]]
    ) -> None:
        super().__init__()
        self._rewards = rewards
        self._tokenizer = tokenizer
        self._rows = {tuple(ids): row for row, ids in asked}
        self._lengths = sorted({len(ids) for _, ids in asked})
        self.scored: Scored | None = None

    def body(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        """Scores as one hidden state, (rows, tokens, 1). One that could not be scored gets the mean
        of the others, which neither pays nor costs."""
        samples = [
            self._sample(ids[seen].tolist())
            for ids, seen in zip(input_ids, attention_mask, strict=True)
        ]
        self.scored = self._rewards.score(samples)
        known = [total for total in self.scored.totals if total is not None]
        mean = sum(known) / len(known) if known else 0.0
        totals = [mean if total is None else total for total in self.scored.totals]
        scores = torch.tensor(totals, device=input_ids.device)
        return SimpleNamespace(hidden_states=[scores[:, None, None].expand(*input_ids.shape, 1)])

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def _sample(self, ids: list[int]) -> Sample:
        length = next(n for n in self._lengths if tuple(ids[:n]) in self._rows)
        row = self._rows[tuple(ids[:length])]
        text = self._tokenizer.decode(ids[length:], skip_special_tokens=True)
        return Sample(row.prompt, text, row.answer, len(ids) - length)


def _value_model(context: TrainingContext, rewards: Rewards) -> Any:
    """The reward model once more, trained beside the policy; by an adapter where that has one.

    Where the reward model has other tokens, the value model begins as the policy.
    """
    recipe = context.recipe
    home = Path(context.host.job.home)
    located = context.located
    for reward, scorer in zip(recipe.rewards, rewards.scorers, strict=True):
        mine: Any = context.loaded.tokenizer
        same = isinstance(scorer, TrainedModel) and scorer.tokenizer.get_vocab() == mine.get_vocab()
        if same and isinstance(reward, RewardModel):
            located = locate_model(reward.model, home, lambda _: None, reward_model=True)
            break
    full = recipe.model.method == "full"
    if full:
        _require_room(context)
    model: Any = load_reward_model(located, torch.float32 if full else context.loaded.dtype)
    if full:
        return model.requires_grad_(True)
    adapted: Any = with_adapter(model, recipe, four_bit=False, task="SEQ_CLS")
    return adapted.base_model.model  # TRL looks for the body and the score by name


def _require_room(context: TrainingContext) -> None:
    """Refuses a value model that is trained in full and would not fit into what is free."""
    needed = context.loaded.model.num_parameters() * FULL_BYTES
    if context.loaded.device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise Refusal(
            f"The value model does not fit: it needs about {needed / 2**30:.1f} GB, "
            f"{free / 2**30:.1f} GB are free.",
            "With model.method = 'full' all its weights are trained beside the policy's.",
            "Set model.method = 'lora', or rl.algorithm = 'rloo', which needs no value model.",
        )


def _batch(context: TrainingContext) -> int:
    return context.recipe.training.batch_size * context.recipe.training.gradient_accumulation


def _arguments(context: TrainingContext, batch: int) -> PPOConfig:
    options = context.recipe.rl
    shared = common_arguments(context)
    steps = shared["max_steps"]
    if steps > 0:
        shared["total_episodes"] = steps * batch
    if context.recipe.training.gradient_checkpointing:
        context.loaded.model.gradient_checkpointing_enable()
        if context.recipe.model.method != "full":
            context.loaded.model.enable_input_require_grads()
    return PPOConfig(
        **shared,
        response_length=options.max_completion_tokens,
        stop_token="eos",
        temperature=options.temperature,
        kl_coef=options.kl_coefficient,
        cliprange=options.clip_epsilon,
        cliprange_value=options.clip_epsilon,
        vf_coef=options.value_coefficient,
        lam=options.gae_lambda,
        num_ppo_epochs=options.num_iterations,
        num_mini_batches=1,
        local_rollout_forward_batch_size=min(batch, 64),
        num_sample_generations=0,
    )


class Ended(Exception):
    """The run was asked to end between two steps."""


class LoggedPPOTrainer(PPOTrainer):
    """TRL's PPO that ends when asked, goes on from a checkpoint and tells what it sampled."""

    rewards: Rewards
    _course: TrainingContext
    _gradient_norm = 0.0
    _resumed_step = 0

    def watch(self, context: TrainingContext, rewards: Rewards) -> None:
        self._course = context
        self.rewards = rewards
        self.dataloader: Any = _Endable(self.dataloader, self)
        optimizer: Any = self.optimizer
        getattr(optimizer, "optimizer", optimizer).register_step_pre_hook(self._clip)

    def _clip(self, *_: Any) -> None:
        """Clips the policy's and the value model's gradients together, which TRL's loop does not.

        A norm of 0 lets all through, as in the other stages.
        """
        most = self._course.recipe.training.max_grad_norm or float("inf")
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        self._gradient_norm = float(torch.nn.utils.clip_grad_norm_(parameters, most))

    def train(self, resume_from_checkpoint: str | None = None, **_: Any) -> Any:
        if resume_from_checkpoint:
            self._go_on_from(Path(resume_from_checkpoint))
        try:
            super().train()
        except Ended:
            self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)

    def _go_on_from(self, folder: Path) -> None:
        """Takes up policy, value model, optimizer, schedule and dice where they were saved."""
        state = msgspec.json.decode((folder / "trainer_state.json").read_bytes())
        self._resumed_step = int(state["global_step"])
        policy: Any = self.model.policy
        value_model: Any = self.model.value_model
        self._load_from_checkpoint(str(folder), model=policy)
        value_model.load_state_dict(load_file(folder / VALUE), strict=False)
        for part, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
            kept: Any = torch.load(folder / name, map_location=self.args.device, weights_only=True)
            taking: Any = part
            taking.load_state_dict(kept)
        self._load_rng_state(str(folder))
        left: Any = self.args
        left.num_total_batches -= self._resumed_step

    def count_on(self) -> None:
        """Lets the steps be counted on from those before the pause; TRL's loop begins at 0."""
        self.state.global_step += self._resumed_step
        self.state.max_steps += self._resumed_step
        self.state.episode += self._resumed_step * _batch(self._course)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = self._course.checkpoints / f"checkpoint-{self.state.global_step}"
        value_model: Any = self.model.value_model
        trained = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in value_model.named_parameters()
            if parameter.requires_grad
        }
        save_file(trained, folder / VALUE)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        if "objective/scores" not in logs:
            super().log(logs, start_time)
            return
        frame = inspect.currentframe()
        # TRL's loop keeps its batch in local variables and offers no other way to them.
        batch = frame.f_back.f_locals if frame is not None and frame.f_back is not None else {}
        super().log(self._told(logs, batch), start_time)
        self._keep(batch)

    def _told(self, logs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The step under the Trainer's usual names. KL and entropy are means a token, in nats."""
        told = {
            "loss": logs["loss/policy_avg"]
            + self._course.recipe.rl.value_coefficient * logs["loss/value_avg"],
            "policy_loss": logs["loss/policy_avg"],
            "value_loss": logs["loss/value_avg"],
            "learning_rate": logs["lr"],
            "grad_norm": self._gradient_norm,
            "clip_ratio/region_mean": logs["policy/clipfrac_avg"],
            "value_clip_fraction": logs["val/clipfrac_avg"],
            "reward": logs["objective/scores"],
            "epoch": self.state.epoch,
        }
        trained = ~batch["padding_mask"]
        count = int(trained.sum())
        lengths = trained.sum(1).float()
        told["kl"] = float((batch["kl"] * trained).sum()) / max(1, count)
        told["entropy"] = float(-(batch["logprobs"] * trained).sum()) / max(1, count)
        told["reward_std"] = float(batch["scores"].float().std())
        told["explained_variance"] = explained_variance(
            batch["values"][trained], batch["returns"][trained]
        )
        told["completions/mean_length"] = float(lengths.mean())
        told["completions/max_length"] = float(lengths.max())
        told["completions/clipped_ratio"] = float((~batch["contain_eos_token"]).float().mean())
        earned: Any = self.reward_model
        unscored = sum(total is None for total in earned.scored.totals)
        told["unscored_share"] = unscored / len(earned.scored.totals)
        self._tokens += int((batch["query_responses"] != self._padding).sum())
        told["num_tokens"] = self._tokens
        return told

    def _parts(self, at: int, score: float) -> list[float | None]:
        """What each reward gave an answer; TRL scores large batches piece by piece, of which only
        the last is known in parts."""
        earned: Any = self.reward_model
        if len(earned.scored.totals) != _batch(self._course):
            return [score, *[None] * (len(self.rewards.names) - 1)]
        return [part[at].value for part in earned.scored.parts]

    _tokens = 0

    @property
    def _padding(self) -> int:
        tokenizer: Any = self.processing_class
        return tokenizer.pad_token_id

    def _keep(self, batch: dict[str, Any]) -> None:
        """Writes what was sampled beside the run, and says where."""
        tokenizer: Any = self.processing_class
        groups = []
        for at in range(min(len(batch["scores"]), SHOWN_GROUPS)):
            prompt = batch["queries"][at]
            said = batch["postprocessed_responses"][at]
            score = float(batch["scores"][at])
            trained = ~batch["padding_mask"][at]
            advantage = float(batch["advantages"][at][trained].mean()) if trained.any() else 0.0
            text = tokenizer.decode(said[said != self._padding], skip_special_tokens=True)
            sampling = Sampling(
                text=text[:LONGEST_SHOWN], rewards=self._parts(at, score), reward=score,
                advantage=advantage,
                tokens=int(trained.sum()), truncated=not bool(batch["contain_eos_token"][at]),
                faults=[],
            )  # fmt: skip
            asked = tokenizer.decode(prompt[prompt != self._padding])
            groups.append(Group(prompt=asked, answer="", samples=[sampling]))
        step = self.state.global_step
        keep(self._course, Rollouts(step, self.rewards.names, self.rewards.weights, groups))


class _Endable:
    """The trainer's batches, before each of which it may end."""

    def __init__(self, batches: Any, trainer: LoggedPPOTrainer) -> None:
        self._batches = batches
        self._trainer = trainer
        self._begun = False

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            if not self._begun:
                self._begun = True
                self._trainer.count_on()
            if self._trainer.control.should_training_stop:
                raise Ended
            yield batch


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 foresees all, 0 no more than the mean does.

    NaN where the returns do not vary. Both (tokens,).
    """
    spread = returns.float().var()
    if len(returns) < 2 or float(spread) < 1e-12:
        return float("nan")
    return float(1 - (returns.float() - values.float()).var() / spread)
