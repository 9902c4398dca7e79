"""Reinforcement learning from human feedback by PPO, with a value model beside the policy.

The policy completes prompts, a trained reward model scores each completion, and every token pays
for its distance from the reference (Ziegler et al. 2019; Ouyang et al. 2022). The value model
predicts what is still to be earned, so that a completion's score is spread over its tokens by
generalized advantage estimation (Schulman et al. 2015), and the clipped objective (Schulman et al.
2017) moves the policy. Details are those of Huang et al. 2024 ("The N+ Implementation Details of
RLHF with PPO") and of TRL's experimental PPOTrainer; only the log-probabilities of the policy that
sampled come from a pass over the finished completions, as all others do, and not from generation.

Read `training_step`, `sample` and `losses`; the arithmetic is in ppo_formulas.py. Shapes: B
completions in a batch, P prompt tokens (padded on the left), T completion tokens (on the right).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from workers.data.reader import Row
from workers.data.tokenize.completion import completion_text, cut_while_thinking
from workers.evaluate import OWN_DISTRIBUTION, Measured, turn_ends
from workers.memory import at_once, in_parts
from workers.protocol.coverage import coverage
from workers.protocol.refusal import Refusal
from workers.protocol.rollouts import Group, Rollouts
from workers.rewards import Rewards, Sample, Scored
from workers.train import checkpoints
from workers.train import ppo_formulas as formulas
from workers.train.context import TrainingContext, common_arguments
from workers.train.loss_check import TOKENS, Compared, own_log_probabilities
from workers.train.reward_eval import evaluate_rewards
from workers.train.rollouts import SHOWN_PROMPTS, fitting_prompts, sampling, save_rollouts
from workers.train.value_model import PolicyAndValue, load_value_model, log_probabilities

VALUE = "value.safetensors"
"""The value model's trained weights, in a checkpoint."""
SAMPLED_AT_ONCE = 64
"""Completions generated together at most, as in TRL."""
HEAD = 16
"""Tokens at the end of a prompt, among which a thought may be opened."""
Prompt = tuple[Row, list[int]]
"""A row and its rendered prompt's token ids."""


def build_trainer(context: TrainingContext) -> Trainer:
    """The loop below on the recipe's prompts and rewards.

    Raises:
        Refusal: there are fewer prompts than a batch takes, or the value model does not fit.
    """
    rewards = context.open_rewards()
    prompts = fitting_prompts(context)
    batch = _batch_size(context)
    if len(prompts) < batch:
        raise Refusal(
            f"There are {len(prompts)} prompts for batches of {batch}.",
            "PPO takes a whole batch of different prompts in each step.",
            "Lower training.effective_batch_size, or bring more prompts.",
        )
    policy, full = context.loaded.model, context.recipe.model.method == "full"
    reference = copy.deepcopy(policy) if full else None  # else the policy without its adapter
    value_model = load_value_model(context, rewards)
    models = PolicyAndValue(policy, value_model, context.recipe.rl.temperature)
    models.chunked = context.loss != "plain"
    if context.checkpointing:
        models.checkpoint_gradients(adapters=not full)
    return PPOTrainer(context, models, reference, prompts, rewards)


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The log-probability of a part of the first prompt, as of a completion, at the run's
    temperature."""
    assert isinstance(trainer, PPOTrainer)
    ids = trainer.prompts[0][1][:TOKENS]
    width, temperature = len(ids) // 2, context.recipe.rl.temperature
    given = torch.tensor([ids], device=trainer.args.device)  # (1, tokens)
    seen = torch.ones_like(given, dtype=torch.bool)
    models = trainer.models
    ours = log_probabilities(models.policy, given, seen, width, temperature, chunked=models.chunked)
    own = own_log_probabilities(context.loaded.model, ids, temperature)
    return Compared("log-probability", float(ours.sum()), float(own[-width:].sum()))


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """What the rewards give to completions of the held-out prompts."""
    assert isinstance(trainer, PPOTrainer)
    longest = context.recipe.rl.max_completion_tokens
    return evaluate_rewards(context, trainer, trainer.rewards, longest)


def _batch_size(context: TrainingContext) -> int:
    return context.batches.effective


def _arguments(context: TrainingContext, prompts: int) -> TrainingArguments:
    """One of the Trainer's steps is a batch of completions with all the updates on it."""
    return TrainingArguments(
        **common_arguments(context)
        | {
            "max_steps": coverage(context.recipe, prompts).steps,
            "per_device_train_batch_size": _batch_size(context),
            "gradient_accumulation_steps": 1,  # `training_step` divides the batch
            "gradient_checkpointing": False,  # `build_trainer` switches it on in both models
            "dataloader_drop_last": True,
            "remove_unused_columns": False,
        }
    )


class Batch(NamedTuple):
    """A batch of completions and what the updates need to know of them."""

    ids: torch.Tensor
    """Prompts with their completions, (B, P + T)."""
    seen: torch.Tensor
    """True where `ids` is no padding, (B, P + T)."""
    mask: torch.Tensor
    """True at the completion's tokens, its end token among them, (B, T)."""
    value_mask: torch.Tensor
    """The same and one place more, where the score is earned, (B, T)."""
    log_probs: torch.Tensor
    """Of the policy that sampled, (B, T)."""
    kl: torch.Tensor
    """How far that is from the reference at each token, in nats (k1), 0 outside of `mask`."""
    values: torch.Tensor
    """What the value model expected, 0 outside of `value_mask`, (B, T)."""
    returns: torch.Tensor
    """What it should have expected, (B, T)."""
    advantages: torch.Tensor
    """Whitened, 0 outside of `mask`, (B, T)."""
    scores: torch.Tensor
    """(B,)."""
    ended: torch.Tensor
    """False of completions that were truncated, (B,)."""

    def micro_batches(self, size: int) -> Iterator[Batch]:
        """The rows in a random order, so many at once."""
        for rows in torch.randperm(len(self.ids)).split(size):
            yield Batch(*(field[rows] for field in self))


class PPOTrainer(Trainer):
    """PPO as a training step of Transformers' Trainer, which counts, saves, resumes and stops."""

    def __init__(
        self,
        context: TrainingContext,
        models: PolicyAndValue,
        reference: Any,
        prompts: list[Prompt],
        rewards: Rewards,
    ) -> None:
        super().__init__(
            model=models,
            args=_arguments(context, len(prompts)),
            train_dataset=prompts,  # type: ignore[arg-type]
            data_collator=self._collate,
            processing_class=context.loaded.tokenizer,
        )
        self.models = models
        self.prompts = prompts
        self.rewards = rewards
        self._reference = reference
        if reference is not None:
            reference.to(self.args.device).eval().requires_grad_(False)
        self._context = context
        self._options = context.recipe.rl
        self._at_once = context.batches.micro
        self._sampled = SAMPLED_AT_ONCE
        self._tokenizer: Any = context.loaded.tokenizer
        self._ends = turn_ends(context.loaded.model, context.loaded.tokenizer)
        self._values: dict[str, float] = {}
        """The present step's metrics."""

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Samples a batch, then updates policy and value model `num_iterations` times on it.

        The Trainer itself clips and steps once more after this, and moves the learning rate.
        """
        batch, texts, scored = self.sample(model, **inputs)
        self.state.num_input_tokens_seen += int(batch.seen.sum())
        model.train()
        optimizer: Any = self.optimizer
        found: list[dict[str, torch.Tensor]] = []
        for update in range(self._options.num_iterations):
            if update:
                most = self.args.max_grad_norm or float("inf")
                self.accelerator.clip_grad_norm_(model.parameters(), most)
                optimizer.step()
                model.zero_grad()
            for part in batch.micro_batches(self._at_once):
                losses = self.losses(model, part)
                self.accelerator.backward(losses["loss"] * len(part.ids) / len(batch.ids))
                found.append({name: value.detach() for name, value in losses.items()})
        means = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
        unscored = sum(total is None for total in scored.totals) / len(scored.totals)
        self._values = {name: float(value) for name, value in means.items()} | {
            **measured(batch),
            "cut_thinking_rate": _cut_thinking(texts, batch),
            "unscored_share": unscored,
            "tokens": self.state.num_input_tokens_seen,
        }
        self._save_rollouts(batch, texts, scored)
        return means["loss"]

    @torch.no_grad()
    def sample(
        self, model: Any, rows: list[Row], ids: torch.Tensor, seen: torch.Tensor
    ) -> tuple[Batch, list[str], Scored]:
        """Completes prompts, scores the completions, and spreads each score over its tokens.

        Args:
            ids, seen: the prompts and where they are no padding, both (B, P).

        Returns:
            The batch, the completions as text, and what the rewards said of them.
        """
        model.eval()
        prompts, given = ids.to(self.args.device), seen.to(self.args.device)

        # A completion goes on to its first end token; what stands behind that is padding.
        completions = self._generate(prompts, given)  # (B, T)
        width = completions.shape[1]
        ends = torch.isin(completions, torch.tensor(sorted(self._ends), device=given.device))
        mask = (ends.cumsum(1) - ends.int()) == 0  # (B, T)
        ended = ends.any(1)  # (B,)
        lengths = mask.sum(1)  # (B,)
        # The value is needed one token further: there it has seen the end and the score is earned.
        value_mask = torch.arange(width, device=mask.device) <= lengths[:, None]  # (B, T)

        # Policy, value model and reference read what was sampled.
        ids, seen = torch.cat([prompts, completions], 1), torch.cat([given, mask], 1)  # (B, P + T)
        passes: list[tuple[torch.Tensor, ...]] = [
            (*model(*part, width), self._reference_log_probs(*part, width))
            for part in zip(ids.split(self._at_once), seen.split(self._at_once), strict=True)
        ]
        log_probs, values, reference = (torch.cat(part) for part in zip(*passes, strict=True))
        values = values * value_mask

        # Rewards read text; a reward model reads it by its own template and tokens.
        heads = self._tokenizer.batch_decode(prompts[:, -HEAD:])
        texts = [
            completion_text(completion[:length], head, self._tokenizer)
            for completion, length, head in zip(
                completions.tolist(), lengths.tolist(), heads, strict=True
            )
        ]
        samples = [
            Sample(row.prompt, text, row.answer, length, row.tools)
            for row, text, length in zip(rows, texts, lengths.tolist(), strict=True)
        ]
        scored = self.rewards.score(samples)
        scores = formulas.filled(scored.totals).to(values)  # (B,)

        # Every token pays for its distance from the reference, the place behind the last one earns.
        kl = (log_probs - reference) * mask  # (B, T)
        earned = formulas.token_rewards(kl, scores, lengths, self._options.kl_coefficient)
        advantages = formulas.gae(earned, values, self._options.gae_lambda)  # (B, T)
        returns = advantages + values  # (B, T)
        whitened = formulas.whiten(advantages, mask) * mask  # (B, T)
        batch = Batch(
            ids, seen, mask, value_mask, log_probs, kl, values, returns, whitened, scores, ended
        )
        return batch, texts, scored

    def losses(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """The loss of a part of a batch, its two terms, and what is clipped of each; scalars."""
        log_probs, values = model(batch.ids, batch.seen, batch.mask.shape[1])  # (b, T) each
        clip = self._options.clip_epsilon
        policy_loss, clip_fraction = formulas.policy_loss(
            log_probs, batch.log_probs, batch.advantages, batch.mask, clip
        )
        value_loss, value_clip_fraction = formulas.value_loss(
            values, batch.values, batch.returns, batch.value_mask, clip
        )
        return {
            "loss": policy_loss + self._options.value_coefficient * value_loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "clip_fraction": clip_fraction,
            "value_clip_fraction": value_clip_fraction,
        }

    def _collate(self, prompts: list[Prompt]) -> dict[str, Any]:
        """Rows with their prompts' ids and where these are no padding, both (B, P)."""
        padding = self._tokenizer.pad_token_id
        ids = [torch.tensor(prompt) for _, prompt in prompts]
        seen = [torch.ones(len(prompt), dtype=torch.bool) for _, prompt in prompts]
        return {
            "rows": [row for row, _ in prompts],
            "ids": pad_sequence(ids, batch_first=True, padding_value=padding, padding_side="left"),
            "seen": pad_sequence(seen, batch_first=True, padding_side="left"),
        }

    def _generate(self, prompts: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """A completion sampled from the policy to each prompt: (B, T), padded behind its end."""
        policy, longest = self.models.policy, self._options.max_completion_tokens
        padding = self._tokenizer.pad_token_id

        def sample(begin: int, end: int) -> torch.Tensor:
            with self.accelerator.autocast():
                output = policy.generate(
                    input_ids=prompts[begin:end],
                    attention_mask=seen[begin:end].long(),
                    do_sample=True,
                    temperature=self._options.temperature,
                    top_k=0,
                    top_p=1.0,
                    **OWN_DISTRIBUTION,
                    max_new_tokens=longest,
                    eos_token_id=sorted(self._ends),
                    pad_token_id=padding,
                    use_cache=True,
                )
            return output[:, prompts.shape[1] :]

        fit = at_once(policy, self.args.device.type, prompts.shape[1], longest, self._sampled)
        found, self._sampled = in_parts(sample, len(prompts), fit)
        return pad_sequence(found, batch_first=True, padding_value=padding)

    def _reference_log_probs(
        self, ids: torch.Tensor, seen: torch.Tensor, width: int
    ) -> torch.Tensor:
        """Of the model that training began with, (B, T)."""
        policy, temperature = self.models.policy, self._options.temperature
        model = policy if self._reference is None else self._reference
        other = policy.disable_adapter() if self._reference is None else nullcontext()
        with self.accelerator.autocast(), other:
            return log_probabilities(
                model, ids, seen, width, temperature, chunked=self.models.chunked
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the step's metrics, under their names on the wire."""
        super().log(logs | self._values if "loss" in logs else logs, start_time)

    def _save_rollouts(self, batch: Batch, texts: list[str], scored: Scored) -> None:
        """Writes the first completions beside the run."""
        lengths = batch.mask.sum(1).tolist()
        advantages = (batch.advantages.sum(1) / batch.mask.sum(1).clamp(min=1)).tolist()
        prompts = batch.ids.shape[1] - batch.mask.shape[1]  # P
        groups = []
        for at in range(min(len(texts), SHOWN_PROMPTS)):
            prompt = batch.ids[at, :prompts][batch.seen[at, :prompts]]
            one = sampling(
                scored,
                at,
                texts[at],
                tokens=lengths[at],
                advantage=advantages[at],
                truncated=not bool(batch.ended[at]),
            )
            groups.append(Group(self._tokenizer.decode(prompt), "", [one]))
        step = self.state.global_step + 1
        record = Rollouts(step, self.rewards.names, self.rewards.weights, groups)
        save_rollouts(self._context, record)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The policy as in every stage, and the value model's trained weights beside it."""
        folder = Path(output_dir or self.args.output_dir or "")
        self.models.policy.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        save_file(self.models.trained_values(), folder / VALUE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model=self.models.policy)
        folder = Path(resume_from_checkpoint)
        checkpoints.read_as_trainer_state(folder, self.args.per_device_train_batch_size)
        kept = load_file(folder / VALUE)
        self.models.value_model.load_state_dict(kept, strict=False)


def _cut_thinking(texts: list[str], batch: Batch) -> float:
    ends = zip(texts, batch.ended.tolist(), strict=True)
    cut = [cut_while_thinking(text, truncated=not ended) for text, ended in ends]
    return sum(cut) / len(cut)


def measured(batch: Batch) -> dict[str, float]:
    """A batch's metrics. KL and entropy are means a token, in nats."""
    mask, lengths = batch.mask, batch.mask.sum(1).float()
    return {
        "reward": float(batch.scores.mean()),
        "reward_std": float(batch.scores.std()),
        "kl": float(formulas.masked_mean(batch.kl, mask)),
        "entropy": float(-formulas.masked_mean(batch.log_probs, mask)),
        "explained_variance": formulas.explained_variance(batch.values[mask], batch.returns[mask]),
        "completion_length": float(lengths.mean()),
        "max_completion_length": float(lengths.max()),
        "truncation_rate": float((~batch.ended).float().mean()),
    }
