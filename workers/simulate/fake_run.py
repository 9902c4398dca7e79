"""A training run whose tensors are fake: the stage's own trainer takes a step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.models.utils import disable_gradient_checkpointing

from workers.engines import Loaded
from workers.engines.adapters import train_in_32_bits
from workers.engines.tokenizer import load_tokenizer
from workers.fetch import locate_model
from workers.host import Host
from workers.protocol import wire
from workers.protocol.batches import effective_batch
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import Format
from workers.protocol.stages import spec_of
from workers.simulate import Phase, models
from workers.simulate.contents import Contents, CudaPrecision, masks_looked_at
from workers.simulate.steps import Batch, rows_of
from workers.simulate.storages import LiveStorages
from workers.train import distill
from workers.train.context import TrainingContext

PRECISIONS = {"auto": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.bfloat16,
              "fp32": torch.float32}  # fmt: skip
"""fp16 takes what bf16 takes, and trainers on the processor know only that."""
Fields = Mapping[str, Any] | None


def take_step(
    config: Mapping[str, Any], recipe: Recipe, folder: Path, micro: int, longest: int, *,
    checkpointing: bool, teacher: Fields = None, reward: Fields = None,
) -> list[Phase]:  # fmt: skip
    """The peaks of a step's phases: learning, and of stages that sample, sampling."""
    with ExitStack() as closing:
        run = FakeRun(recipe, folder, closing, micro, longest, checkpointing=checkpointing)
        run.load(config, teacher, reward)
        phases = [run.learn()]
        return [*phases, run.generate()] if run.spec.generates else phases


class FakeRun:
    """One run in a folder of its own, which ends with `closing`."""

    def __init__(
        self, recipe: Recipe, folder: Path, closing: ExitStack, micro: int, longest: int, *,
        checkpointing: bool,
    ) -> None:  # fmt: skip
        self.recipe = _pinned(recipe, micro, longest, checkpointing=checkpointing)
        self.spec = spec_of(recipe.stage, recipe.rl.algorithm)
        self.batch = Batch(recipe, micro, longest)
        self.dtype = PRECISIONS[recipe.training.precision]
        self._host = _host(self.recipe, folder)
        self._tokenizer: Any = load_tokenizer(locate_model("starter", folder, lambda _: None))
        self._closing = closing
        closing.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        closing.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        closing.enter_context(Contents(self._number, self.batch.true_of))
        closing.enter_context(masks_looked_at())
        closing.enter_context(CudaPrecision())
        closing.enter_context(models.replacing_weights())
        self._true = not self.batch.padded
        self._others: dict[str, Any] = {}
        """Models beside the one that learns, by part."""

    def load(self, config: Mapping[str, Any], teacher: Fields, reward: Fields) -> None:
        """Makes the models and builds the stage's trainer on them."""
        weights = torch.float32 if self.recipe.model.method == "full" else self.dtype
        padding = self._tokenizer.pad_token_id
        if self.spec.talks:
            model = models.trained(models.speaking(config, weights), self.recipe)
        else:
            model = models.scoring(config, weights, padding)
            model = models.trained(model, self.recipe, task="SEQ_CLS")
        if self.spec.teacher:
            self._others["teacher"] = models.speaking(teacher or config, self.dtype)
            if distill.in_four_bits(self.recipe):
                models.pack(self._others["teacher"])
        if self.spec.scored_by == "reward_model":
            self._others["reward_model"] = models.scoring(reward or config, self.dtype, padding)
        if self.spec.value_model:
            scoring = models.scoring(reward or config, weights, padding)
            value: Any = models.trained(scoring, self.recipe, task="SEQ_CLS")
            adapted = hasattr(value, "get_base_model")
            self._others["value_model"] = value.get_base_model() if adapted else value
        self.model: Any = model
        self.trainer: Any = self._trainer()

    def _trainer(self) -> Any:
        loaded = Loaded(self.model, self._tokenizer, "cpu", self.dtype)
        located = locate_model("starter", self._host.folder, lambda _: None)
        self.model.config._name_or_path = str(located.folder)  # TRL reads a reference from there
        rows = rows_of(max(8, self.batch.rows * self.recipe.training.gradient_accumulation))
        context = TrainingContext(self.recipe, self._host, loaded, located, rows, [], self._closing)
        stage: Any = import_module(f"workers.train.{self.spec.trainer}")
        with self._instead(stage):
            trainer = stage.build_trainer(context)
        trainer._prepare_for_training(1, None, None)
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        train_in_32_bits(trainer.model)
        if self.recipe.training.gradient_checkpointing and self.spec.trainer != "ppo":
            trainer.model.gradient_checkpointing_enable()
        return trainer

    @contextmanager
    def _instead(self, stage: Any) -> Iterator[None]:
        """Gives a stage that loads further models the fake ones."""
        loaders = {"_teacher": "teacher", "load_value_model": "value_model"}
        kept = {name: vars(stage)[name] for name in loaders if name in vars(stage)}
        for name in kept:
            made = self._others.get(loaders[name])
            setattr(stage, name, lambda *_, made=made: made)
        try:
            yield
        finally:
            for name, loader in kept.items():
                setattr(stage, name, loader)

    def learn(self) -> Phase:
        """The peak of forward and backward pass, clipping and the optimizer's step."""
        trainer, optimizer = self.trainer, self.trainer.optimizer.optimizer
        trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
        inputs = self._inputs()
        with self._counting() as counter:
            for weight in trained:
                weight.grad = torch.zeros_like(weight)
            optimizer.step()
            counter.name(
                "optimizer", (state for one in optimizer.state.values() for state in one.values())
            )
            if self.recipe.training.gradient_accumulation == 1:
                optimizer.zero_grad(set_to_none=True)
            for weight in trained:
                counter.name("gradients", [weight.grad])
                weight.register_post_accumulate_grad_hook(
                    lambda one: counter.name("gradients", [one.grad])
                )
            counter.restart()
            self._forward_and_backward(inputs)
            trainer.accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        return counter.peak, counter.parts

    @torch.no_grad()
    def generate(self) -> Phase:
        """The peak of sampling completions: of reading the prompts, and of the last token."""
        policy = getattr(self.trainer.model, "policy", self.trainer.model)
        policy.eval()
        self._true = True  # all completions have ended
        rows, options = self.batch.rows, self.recipe.rl  # more at once only where there is room
        sampling = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p,
                    "max_new_tokens": 1, "return_dict_in_generate": True, "use_cache": True,
                    "pad_token_id": self._tokenizer.pad_token_id}  # fmt: skip
        with self._counting() as counter, disable_gradient_checkpointing(policy):
            states = self.trainer.optimizer.optimizer.state.values()
            counter.name("optimizer", (state for one in states for state in one.values()))
            prompts = torch.ones(rows, self.batch.prompt, dtype=torch.long)
            counter.restart()
            mask = torch.ones_like(prompts)
            cache = policy.generate(
                input_ids=prompts, attention_mask=mask, **sampling
            ).past_key_values
            for layer in cache.layers:
                _lengthen(layer, self.batch.longest - 1)
                counter.name("generation_cache", [layer.keys, layer.values])
            ids = torch.ones(rows, self.batch.longest, dtype=torch.long)
            mask = torch.ones_like(ids)
            policy.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **sampling)
        return counter.peak, counter.parts

    def _forward_and_backward(self, inputs: Any) -> None:
        trainer = self.trainer
        if not self.spec.value_model:
            trainer._prepare_inputs = lambda given: given  # GRPO's samples completions
            trainer.training_step(trainer.model_wrapped, inputs, None)
            return
        trainer.model_wrapped.train()
        trainer.accelerator.backward(trainer.losses(trainer.model_wrapped, inputs)["loss"])

    def _inputs(self) -> Any:
        if self.spec.value_model:
            return self.batch.of_ppo()
        if self.spec.teacher:
            made = distill.batch_of(self.batch.features(), self._tokenizer.pad_token_id)  # type: ignore[arg-type]
            return made | {"num_items_in_batch": torch.ones(())}
        if self.spec.policy:
            return self.batch.sampled(reference=bool(self.recipe.rl.kl_coefficient))
        return dict(self.trainer.data_collator(self.batch.features()))

    @contextmanager
    def _counting(self) -> Iterator[LiveStorages]:
        vocabulary = self.model.config.get_text_config().vocab_size
        with LiveStorages(vocabulary) as counter:
            own = "weights" if self.recipe.model.method == "full" else "adapter"
            counter.name("weights", models.frozen_storages(self.model))
            counter.name(own, (one for one in self.model.parameters() if one.requires_grad))
            reference = getattr(self.trainer, "ref_model", None)
            others = self._others | ({"reference": reference} if reference is not None else {})
            for part, model in others.items():
                counter.name(part, [*model.parameters(), *models.frozen_storages(model)])
            yield counter

    def _number(self, tensor: torch.Tensor) -> Any:
        """What a single number is taken for that the code reads: counts are of tokens, and rows
        that are asked for being alike are so where none is padded."""
        if tensor.dtype == torch.bool:
            return self._true
        return 1.0 if tensor.dtype.is_floating_point else self.batch.tokens


def _lengthen(layer: Any, length: int) -> None:
    """A layer's cache as it is after so many tokens; a sliding window keeps the last alone."""
    window = getattr(layer, "sliding_window", None)
    kept = min(length, window - 1) if window else length
    for name in ("keys", "values"):
        held = getattr(layer, name)
        setattr(layer, name, held.new_empty((*held.shape[:2], kept, held.shape[3])))
    if hasattr(layer, "cumulative_length"):
        layer.cumulative_length = length


def _pinned(recipe: Recipe, micro: int, longest: int, *, checkpointing: bool) -> Recipe:
    """The recipe with these, which the run would find out, and without what takes no memory."""
    spec, group = spec_of(recipe.stage, recipe.rl.algorithm), recipe.rl.group_size
    accumulation = max(1, effective_batch(recipe) // micro)
    if spec.grouped:  # whole groups are sampled together
        whole = group // math.gcd(micro, group)
        accumulation = -(-accumulation // whole) * whole
    options = recipe.training
    training = msgspec.structs.replace(
        options, effective_batch_size=micro * accumulation, batch_size=micro,
        gradient_accumulation=accumulation, gradient_checkpointing=checkpointing,
        max_length=longest, max_steps=1,
        precision="bf16" if options.precision == "fp16" else options.precision,
    )  # fmt: skip
    model = msgspec.structs.replace(recipe.model, template="auto", base="starter")
    return msgspec.structs.replace(
        recipe, training=training, model=model, rewards=[Format(pattern=".*")]
    )


def _host(recipe: Recipe, folder: Path) -> Host:
    """A worker's end in a folder that nobody reads."""
    job = Job(
        id=folder.name, name="simulation", created="2026-01-01T00:00:00+00:00", home=str(folder),
        task=Train(recipe=recipe),
    )  # fmt: skip
    wire.write_job(folder, job)
    return Host(folder).__enter__()
