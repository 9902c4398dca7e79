"""Reinforcement learning with verifiable rewards: completions are sampled in groups and compared.

For each prompt the policy samples `group_size` completions; the advantage of one is its reward
against the others of its group, A = (R - mean) / (std + eps) (Shao et al. 2024, DeepSeekMath), and
the clipped objective raises what did better. TRL's GRPOTrainer and RLOOTrainer do the arithmetic;
here they get the recipe's rewards, as reward functions, and what they sampled is kept.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from workers.data.reader import Row
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.completion import completion_text, cut_while_thinking
from workers.evaluate import OWN_DISTRIBUTION, Measured, turn_ends
from workers.memory import at_once, in_parts
from workers.protocol.events import Note
from workers.protocol.recipe import RL
from workers.protocol.rollouts import Group, Rollouts
from workers.rewards import Rewards, Sample, Scored, equal_share
from workers.train.context import (
    NO_ROUTER_LOSS,
    TrainingContext,
    common_arguments,
    drop_reference_copy,
)
from workers.train.deferring import deferred_logits
from workers.train.fast_generation import tell_failure, vllm_arguments
from workers.train.loss_check import TOKENS, Compared, own_log_probabilities
from workers.train.reward_eval import evaluate_rewards
from workers.train.rollouts import SHOWN_PROMPTS, fitting_prompts, sampling, save_rollouts


def build_trainer(context: TrainingContext) -> Trainer:
    """TRL's trainer for the algorithm, with the recipe's rewards and a reference where needed."""
    options = context.recipe.rl
    for text in warnings(options, context.batches.effective):
        context.host.emit(Note(text=text, level="warning"))
    rewards = context.open_rewards()
    prompts = fitting_prompts(context)
    rows = [row for row, _ in prompts]
    functions = RewardFunctions(rewards, rows, context.loaded.tokenizer, options)
    columns = {
        "prompt": [_prompt_text(row, context.loaded.tokenizer) for row in rows],
        "place": list(range(len(rows))),
    }
    full = context.recipe.model.method == "full"
    reference = copy.deepcopy(context.loaded.model) if full and options.kl_coefficient else None
    kind = LoggedRLOOTrainer if options.algorithm == "rloo" else LoggedGRPOTrainer
    ends = sorted(turn_ends(context.loaded.model, context.loaded.tokenizer))
    sampling_options = {"eos_token_id": ends, **OWN_DISTRIBUTION}
    plainly = {"use_vllm": False, "generation_kwargs": sampling_options}

    def build(generation: dict[str, Any]) -> Trainer:
        return kind(
            context,
            functions,
            model=context.loaded.model,
            args=_arguments(context, rewards, generation),
            train_dataset=Dataset.from_dict(columns),
            processing_class=context.loaded.tokenizer,
        )

    trainer: Any
    faster = vllm_arguments(context, [ids for _, ids in prompts], ends)
    try:
        trainer = build(faster or plainly)
    except Exception as fault:
        if not faster:
            raise
        tell_failure(context, fault)
        trainer = build(plainly)
    if reference is not None:
        # TRL loads the base by its name; where adapters were merged into it, that is another model.
        trainer.ref_model = trainer.accelerator.prepare_model(
            reference.eval().requires_grad_(False), evaluation_mode=True
        )
    trainer.chunked = context.loss != "plain"
    drop_reference_copy(context)
    return trainer


FEW_GROUPS = 4


def warnings(options: RL, completions: int) -> Iterator[str]:
    """What the recipe allows and hardly anyone wants, with so many completions to each step."""
    groups = completions // options.group_size
    if groups < FEW_GROUPS:
        asked = "one question" if groups == 1 else f"{groups} questions"
        yield (
            f"Each step learns from the answers to {asked} alone, which makes it very noisy. Raise "
            f"training.effective_batch_size to {FEW_GROUPS * options.group_size} or more: "
            f"{FEW_GROUPS} groups of {options.group_size} answers."
        )
    if options.algorithm == "rloo" and options.scale_rewards == "group":
        yield (
            "rl.scale_rewards = 'group' changes nothing in rloo, which divides advantages by the "
            "batch's standard deviation or by nothing: they are divided by nothing."
        )


def compare(context: TrainingContext, trainer: Trainer) -> Compared:
    """The log-probability of a part of the first prompt, as of a completion, at the run's
    temperature."""
    this: Any = trainer
    prompt: str = this.train_dataset[0]["prompt"]
    ids: list[int] = this.processing_class(prompt, add_special_tokens=False)["input_ids"][:TOKENS]
    width = len(ids) // 2
    given = torch.tensor([ids], device=this.accelerator.device)
    trainers, *_ = this._get_per_token_logps_and_entropies(
        context.loaded.model, given, torch.ones_like(given), width
    )
    own = own_log_probabilities(context.loaded.model, ids, context.recipe.rl.temperature)
    return Compared("log-probability", float(trainers.sum()), float(own[-width:].sum()))


def measure(context: TrainingContext, trainer: Trainer) -> Measured:
    """Mean reward of greedy completions of the held-out prompts, and the share that is right."""
    assert isinstance(trainer, Logged)
    return evaluate_rewards(
        context, trainer, trainer.rewards, context.recipe.rl.max_completion_tokens
    )


def _arguments(context: TrainingContext, rewards: Rewards, generation: dict[str, Any]) -> Any:
    options = context.recipe.rl
    shared = common_arguments(context) | NO_ROUTER_LOSS
    shared |= objective(options) | {
        "num_generations": options.group_size,
        "max_completion_length": options.max_completion_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "reward_weights": list(rewards.weights),
    }
    shared |= generation
    if shared["save_strategy"] == "steps":
        # Between two batches of completions: resuming inside one would sample it again.
        window = options.num_iterations
        shared["save_steps"] = -(-shared["save_steps"] // window) * window
    return (RLOOConfig if options.algorithm == "rloo" else GRPOConfig)(**shared)


def objective(options: RL) -> dict[str, Any]:
    """What TRL's configuration calls the algorithm's parts."""
    shared = {
        "beta": options.kl_coefficient,
        "epsilon": options.clip_epsilon,
        "epsilon_high": options.upper_clip,
        "num_iterations": options.num_iterations,
        "mask_truncated_completions": options.mask_truncated_completions,
    }
    if options.algorithm == "rloo":
        return shared | {"normalize_advantages": options.scale_rewards == "batch"}
    return shared | {
        "loss_type": options.algorithm.replace("gspo", "grpo"),
        "scale_rewards": options.scale_rewards,
        "importance_sampling_level": "sequence" if options.by_answer else "token",
    }


class ScoredBatch(NamedTuple):
    """A batch of completions as the reward functions were given it; groups stand together."""

    rows: Sequence[Row]
    texts: list[str]
    ids: Sequence[list[int]]
    """Each completion's tokens, its end token among them."""
    scored: Scored
    ready: float
    """When the last score was there, by time.perf_counter."""


class RewardFunctions:
    """The recipe's rewards as TRL asks for them: one function a reward, in their order.

    TRL calls them one after the other with the same batch. The first call has it scored by all
    rewards together, since a completion that one of them could not score counts for none.
    """

    def __init__(self, rewards: Rewards, rows: Sequence[Row], tokenizer: Any, options: RL) -> None:
        self.rewards = rewards
        self._rows = rows
        self._tokenizer = tokenizer
        self._group_size, self._longest = options.group_size, options.max_completion_tokens
        self._batch: ScoredBatch | None = None
        self.functions: list[Any] = [
            self._function(at, name) for at, name in enumerate(rewards.names)
        ]

    def take(self) -> ScoredBatch | None:
        """The batch that was scored since the last call, if one was."""
        batch, self._batch = self._batch, None
        return batch

    def _function(self, at: int, name: str) -> Callable[..., list[float | None]]:
        def reward(**given: Any) -> list[float | None]:
            if at == 0:
                self._score(**given)
            assert self._batch is not None
            scored = self._batch.scored
            return [
                part.value if total is not None else None
                for part, total in zip(scored.parts[at], scored.totals, strict=True)
            ]

        reward.__name__ = name
        return reward

    def _score(
        self,
        prompts: list[str],
        completion_ids: list[list[int]],
        place: list[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> None:
        rows = [self._rows[at] for at in place]
        texts = [
            completion_text(ids, prompt, self._tokenizer)
            for ids, prompt in zip(completion_ids, prompts, strict=True)
        ]
        samples = [
            Sample(row.prompt, text, row.answer, len(ids), row.tools)
            for row, text, ids in zip(rows, texts, completion_ids, strict=True)
        ]
        began = time.perf_counter()
        scored = self.rewards.score(samples)
        ready = time.perf_counter()
        log_metric("reward_seconds", ready - began)
        cut = [
            cut_while_thinking(text, truncated=len(ids) >= self._longest)
            for text, ids in zip(texts, completion_ids, strict=True)
        ]
        log_metric("cut_thinking_rate", fmean(cut))
        log_metric("unscored_share", scored.totals.count(None) / len(samples))
        # TRL compares a rounded deviation with zero and misses groups of equal rewards.
        log_metric("equal_group_share", equal_share(scored.totals, self._group_size))
        self._batch = ScoredBatch(rows, texts, completion_ids, scored, ready)


class EndToken(int):
    """A token that ends an answer, though the tokenizer names another one: equal to that one too.

    TRL asks whether a completion was truncated by comparing its last token with the tokenizer's end
    token alone.
    """

    named: int
    """The tokenizer's end token."""

    def __eq__(self, other: object) -> bool:
        return int(self) == other or self.named == other

    __hash__ = int.__hash__


def ended(ids: list[int], ends: set[int], named: int) -> list[int]:
    """A completion up to the first token that ends it, which stands for the named one."""
    at = next((at for at, token in enumerate(ids) if token in ends), None)
    if at is None:
        return ids
    end = EndToken(ids[at])
    end.named = named
    return [*ids[:at], end]


class Logged:
    """What is added to TRL's trainers: times, a record of every step's completions,
    log-probabilities by chunks, and all tokens that end an answer, where TRL knows the tokenizer's
    end token alone."""

    chunked = True
    """Off where a model's log-probabilities were found to differ by chunks."""

    def __init__(
        self, context: TrainingContext, functions: RewardFunctions, **options: Any
    ) -> None:
        super().__init__(reward_funcs=functions.functions, **options)  # type: ignore[call-arg]
        self.rewards = functions.rewards
        self._context = context
        self._functions = functions
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._ends = turn_ends(context.loaded.model, context.loaded.tokenizer)
        self._sampled = 0
        """How many completions at once fitted last; 0 before the first."""

    def _generate_single_turn(self, prompts: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        """Completions up to the first token that ends them, sampled as many at once as fit; GRPO's
        come with log-probabilities, which are none where Transformers samples."""
        sample = super()._generate_single_turn  # type: ignore[misc]
        loaded = self._context.loaded
        named: Any = loaded.tokenizer.eos_token_id
        if self.use_vllm:  # type: ignore[attr-defined]
            ids, *others = sample(prompts, *args, **kwargs)
            return [ended(one, self._ends, named) for one in ids], *others
        paired = False

        def part(begin: int, end: int) -> list[list[int]]:
            nonlocal paired
            with loaded.autocast():  # TRL goes around the trainer's own
                made = sample(prompts[begin:end], *args, **kwargs)
            paired = isinstance(made, tuple)
            return made[0] if paired else made

        ids, self._sampled = in_parts(part, len(prompts), self._at_once(prompts))
        ids = [ended(one, self._ends, named) for one in ids]
        return (ids, None) if paired else ids

    def _at_once(self, prompts: list[list[int]]) -> int:
        """How many completions are sampled together; never more than fitted before."""
        loaded = self._context.loaded
        longest = self._context.recipe.rl.max_completion_tokens
        most = min(len(prompts), self._sampled or len(prompts))
        return at_once(loaded.model, loaded.device, max(map(len, prompts)), longest, most)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        with deferred_logits([model] if self.chunked else []):
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)  # type: ignore[misc]

    def longest_inputs(self, micro: int) -> dict[str, torch.Tensor]:
        """What the loss is computed from, of the longest prompts and completions: random ones."""
        this: Any = self
        texts = sorted(this.train_dataset["prompt"], key=len)[-micro:]
        texts = [texts[at % len(texts)] for at in range(micro)]
        prompts = this.processing_class(
            texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )
        shape = micro, self._context.recipe.rl.max_completion_tokens
        zeros = torch.zeros(shape)
        return {
            "prompt_ids": prompts["input_ids"],
            "prompt_mask": prompts["attention_mask"],
            "completion_ids": torch.randint(len(this.processing_class), shape),
            "completion_mask": torch.ones(shape, dtype=torch.long),
            "advantages": torch.ones(micro),
            "ref_per_token_logps": zeros,
            "old_logps": zeros[:, 0],
            "num_items_in_batch": torch.tensor(zeros.numel()),
        }

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        began = time.perf_counter()
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        over = time.perf_counter()
        batch = self._functions.take()  # none where an earlier batch is learnt from once more
        sampled = batch.ready - began if batch else 0.0
        if batch:
            self._seconds["rollout_seconds"].append(sampled)
            self._save_rollouts(batch)
        self._seconds["update_seconds"].append(over - began - sampled)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean times since the last log."""
        times = {name: fmean(seconds) for name, seconds in self._seconds.items()}
        self._seconds.clear()
        super().log(logs | times, start_time)  # type: ignore[misc]

    def _save_rollouts(self, batch: ScoredBatch) -> None:
        """Writes the first groups of a batch beside the run."""
        this: Any = self
        advantages = list(this._logs["advantages"])[-len(batch.texts) :]
        groups = _groups(batch, advantages, this.num_generations, self._ends)
        step = this.state.global_step + 1
        record = Rollouts(step, self.rewards.names, self.rewards.weights, groups)
        save_rollouts(self._context, record)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Prompts are text already, which begins with its own begin token."""
        this: Any = self
        ids = this.processing_class(prompts, add_special_tokens=False)["input_ids"]
        return ids, None, {}


class LoggedGRPOTrainer(Logged, GRPOTrainer):
    """TRL's GRPO with our rewards."""


class LoggedRLOOTrainer(Logged, RLOOTrainer):
    """TRL's RLOO with our rewards."""


def _prompt_text(row: Row, tokenizer: Any) -> str:
    return render(row.prompt, tokenizer, generation=True, tools=row.tools)


def _groups(
    batch: ScoredBatch, advantages: Sequence[float], group_size: int, ends: set[int]
) -> list[Group]:
    """The first groups of a batch, as they are kept for looking at."""
    rows = batch.rows
    samples = [
        sampling(
            batch.scored,
            at,
            batch.texts[at],
            tokens=len(batch.ids[at]),
            advantage=advantages[at] if math.isfinite(advantages[at]) else 0.0,
            truncated=ends.isdisjoint(batch.ids[at]),
        )
        for at in range(min(len(batch.texts), SHOWN_PROMPTS * group_size))
    ]
    return [
        Group(rows[at].prompt[-1]["content"], rows[at].answer, samples[at : at + group_size])
        for at in range(0, len(samples), group_size)
    ]
