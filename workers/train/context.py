"""What every stage shares: a loaded model, its rows, the options of the Trainer, the result.

A stage is a module that builds a trainer and measures; the rest is the same for all.
"""

from __future__ import annotations

import importlib.metadata
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import torch
from transformers import Trainer

from workers.data.mix import Rows
from workers.data.tokenize.chat_template import replaced_end, think_by_data
from workers.engines import Loaded
from workers.engines.starts import PARTS, START, as_plain_lora
from workers.engines.transformers import save_weights
from workers.evaluate import Generator, Measured, accuracy_of
from workers.fetch import Located, fingerprint
from workers.folders import write_folder
from workers.host import Host
from workers.memory import give_back, halving
from workers.protocol import jobs
from workers.protocol.batches import (
    Batches,
    checkpointing,
    divided,
    effective_batch,
    is_divided,
    with_effective_batch,
)
from workers.protocol.checkpoints import CHECKPOINTS
from workers.protocol.coverage import coverage
from workers.protocol.events import Evaluated, Metrics, Note, Phase, Resolved, Sampled
from workers.protocol.faults import kind_of
from workers.protocol.metrics import METRICS
from workers.protocol.recipe import Recipe
from workers.protocol.stages import TINY, spec_of
from workers.protocol.templates import fingerprint as fingerprint_of_text
from workers.protocol.wire import finite
from workers.rewards import Rewards
from workers.train.method_arguments import method_arguments

if TYPE_CHECKING:
    from workers.train.loss_check import Compared

PINNED = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers",
    "math-verify", "unsloth", "vllm",
)  # fmt: skip
LossPath = Literal["liger", "trl", "chunked", "plain"]
"""By Liger's fused kernels, by TRL's own shortcut where a stage has one, by the model's own head
for some tokens at a time, or over all logits at once."""
TEMPLATE = "chat_template.jinja"
"""Where a checkpoint has its tokenizer's chat template."""
SAMPLED_PROMPTS = 2
SAMPLE_TOKENS = 96
AT_ONCE = 8
"""Examples at once where memory was not looked at."""


@dataclass
class TrainingContext:
    """One training run on its way."""

    recipe: Recipe
    host: Host
    loaded: Loaded
    located: Located
    training: Rows
    held_out: Rows
    closing: ExitStack
    """What is to be ended with the run, for example the rewards' sandbox."""
    batches: Batches = Batches(0, 0)  # noqa: RUF009 (a tuple)
    """What each step really consists of; `fitting` settles it once the rows' lengths are known."""
    longest: int = 0
    """Tokens of the longest sequence in any step; 0 until the rows are encoded."""
    goes_on: bool = False
    """Whether the run began with these batches at an earlier start."""
    checkpointing: bool = False
    """Whether activations are computed anew instead of kept."""
    loss: LossPath = "trl"
    """How the trainer comes to its loss; each is tried where the one before it is found wrong."""
    _rewards: Rewards | None = None

    def __post_init__(self) -> None:
        self.checkpointing = checkpointing(self.recipe, self.loaded.device)
        parameters = self.loaded.model.num_parameters()
        largest = effective_batch(self.recipe, parameters) if parameters < TINY else AT_ONCE
        self.batches = divided(self.recipe, largest, parameters)
        self.recipe = with_effective_batch(self.recipe, self.batches.effective)
        began = self.host.job.resolved.batch if self.host.job.resolved else {}
        asked = self.recipe.training
        if began.get("effective") == asked.effective_batch_size and not is_divided(self.recipe):
            self.batches = Batches(began["micro"], began["accumulation"])
            self.goes_on = True

    @property
    def checkpoints(self) -> Path:
        return self.host.folder / CHECKPOINTS

    def open_rewards(self) -> Rewards:
        """The recipe's rewards, made ready once and ended with the run."""
        if self._rewards is None:
            self._rewards = Rewards(self.recipe.rewards, Path(self.host.job.home))
            self.closing.callback(self._rewards.close)
        return self._rewards


class Stage(Protocol):
    """What a stage's module offers."""

    def build_trainer(self, context: TrainingContext) -> Trainer: ...

    def compare(self, context: TrainingContext, trainer: Trainer) -> Compared | None:
        """The trainer's measure of one row beside the model's own; None where it cannot be asked
        for one."""
        ...

    def measure(self, context: TrainingContext, trainer: Trainer) -> Measured:
        """Scores on the held-out rows; empty when there is nothing to measure."""
        ...


NO_ROUTER_LOSS: dict[str, Any] = {"router_aux_loss_coef": 0.0}
"""For trainers that would add the load-balancing loss of mixtures of experts. For it they switch
the router's logits on in the model for good, which breaks its generation; adapters leave the router
alone, so there is nothing to balance."""


def common_arguments(context: TrainingContext) -> dict[str, Any]:
    """The options that every trainer takes, as keyword arguments of its configuration."""
    options, loaded = context.recipe.training, context.loaded
    return {
        "output_dir": str(context.checkpoints),
        "use_cpu": loaded.device == "cpu",
        "bf16": loaded.dtype == torch.bfloat16,
        "fp16": loaded.dtype == torch.float16,
        "max_steps": options.max_steps or -1,
        "num_train_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": options.scheduler,
        "warmup_steps": options.warmup_ratio,  # below 1 it is a share of the steps
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "per_device_train_batch_size": context.batches.micro,
        "gradient_accumulation_steps": context.batches.accumulation,
        "gradient_checkpointing": context.checkpointing,
        "seed": options.seed,
        "data_seed": options.seed,
        "save_strategy": "steps" if options.save_every_steps else "no",
        "save_steps": options.save_every_steps or 500,
        "eval_strategy": "no",  # measured by `measure`, the same way in every stage
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a NaN must be seen, not smoothed away
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": loaded.device == "cuda",
        "use_liger_kernel": context.loss == "liger",
        **method_arguments(context.recipe, loaded.device),
    }


def drop_reference_copy(context: TrainingContext) -> None:
    """Removes the copy that TRL makes of an adapter to serve as the reference.

    A fresh one does nothing when training begins: the base with the adapter off is the same
    reference, and costs no memory. One that is trained further, or began as a part of the weights,
    is needed as it was.
    """
    model: Any = context.loaded.model
    recipe = context.recipe
    begun = recipe.model.continue_adapter or recipe.lora.init in PARTS
    if not begun and "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def resolve(context: TrainingContext, datasets: list[dict[str, Any]]) -> None:
    """Pins what the run really works with, in job.json and as an event."""
    recipe, host, loaded, located = context.recipe, context.host, context.loaded, context.located
    asked = host.job.task
    assert isinstance(asked, jobs.Train)
    versions = {name: found for name in PINNED if (found := _version(name))}
    model = {
        "base": located.base,
        "folder": str(located.folder),
        "sha256": fingerprint(located.folder, Path(host.job.home)),
        "adapters": [str(adapter) for adapter in located.adapters],
        "continued": str(located.continued or ""),
        "template": asked.recipe.model.template,
        "template_sha256": fingerprint_of_text(str(loaded.tokenizer.chat_template)),
        "parameters": loaded.model.num_parameters(),
        "trained_parameters": sum(
            p.numel() for p in loaded.model.parameters() if p.requires_grad
        ),
    }  # fmt: skip
    resolved = jobs.Resolved(
        versions=versions,
        device=loaded.device,
        precision=str(loaded.dtype).removeprefix("torch."),
        engine=recipe.model.engine.replace("auto", "transformers"),
        model=model,
        datasets=datasets,
        seeds={"training": recipe.training.seed},
        batch=host.job.resolved.batch if host.job.resolved else {},
    )
    host.resolve(msgspec.structs.replace(host.job, resolved=resolved))
    details = {"model": model, "datasets": datasets, "device": resolved.device,
               "precision": resolved.precision}  # fmt: skip
    host.emit(Resolved(versions=versions, details=details))


def settle_template(context: TrainingContext, checkpoint: Path | None) -> None:
    """Gives the tokenizer the chat template of the whole run.

    It is that of a checkpoint where the run goes on, for it may hold the day on which the run
    began. Else the model thinks where the data's answers do, unless the recipe says whether it
    does.
    """
    recipe, tokenizer = context.recipe, context.loaded.tokenizer
    begun = checkpoint / TEMPLATE if checkpoint else None
    if begun and begun.is_file() and isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = begun.read_text(encoding="utf-8")
        return
    if recipe.model.thinking != "auto":
        return
    told = think_by_data(tokenizer, context.training, recipe.stage, recipe.training.reasoning)
    if told:
        context.host.emit(Note(text=told))


def tell_end_of_turn(context: TrainingContext) -> None:
    """Says what ends answers where it is not the template's own mark."""
    tokenizer = context.loaded.tokenizer
    mark = replaced_end(tokenizer)
    if mark and spec_of(context.recipe.stage).templated:
        text = (
            f"{mark}, which ends an answer in the template, is no token of this model: its own "
            f"{tokenizer.eos_token} ends answers instead."
        )
        context.host.emit(Note(text=text))


def tell_coverage(context: TrainingContext, trainer: Trainer) -> None:
    """Says what share of its examples the run will see, and keeps it in job.json."""
    dataset: Any = trainer.train_dataset
    found = coverage(context.recipe, len(dataset))
    host = context.host
    assert host.job.resolved is not None
    kept = msgspec.structs.asdict(found)
    resolved = msgspec.structs.replace(host.job.resolved, coverage=kept)
    host.resolve(msgspec.structs.replace(host.job, resolved=resolved))
    few = found.few and context.loaded.model.num_parameters() >= TINY
    host.emit(Note(text=found.told("examples"), level="warning" if few else "info"))


def _version(package: str) -> str:
    """The installed version, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def measure(
    context: TrainingContext, stage: Stage, trainer: Trainer, moment: str, seconds: float = 0.0
) -> dict[str, float | None]:
    """Measures on the held-out rows and says it, as a score and as points on curves.

    Returns the points by metric; none when there is nothing to measure or the end is asked for.
    """
    if not context.held_out or context.host.requests.end_asked:
        return {}
    if moment != "during":
        context.host.emit(Phase(name=f"Measuring {moment} training"))
    measured = stage.measure(context, trainer)
    values = finite(measured.values)
    step = trainer.state.global_step
    rows = len(context.held_out)
    context.host.emit(
        Evaluated(when=moment, step=step, values=values, rows=rows, each=measured.each)
    )
    if moment != "during":
        _tell_cut_thinking(context, values.get("cut_thinking_rate"))
    curves = {f"eval_{name}": value for name, value in values.items()}
    context.host.emit(Metrics(step=step, values=curves, seconds=seconds))
    return curves


def _tell_cut_thinking(context: TrainingContext, share: float | None) -> None:
    """Says why measured answers are wrong that came to no answer."""
    if not share:
        return
    rl = bool(spec_of(context.recipe.stage).scored_by)
    key = "rl.max_completion_tokens" if rl else "evaluation.max_completion_tokens"
    table = context.recipe.rl if rl else context.recipe.evaluation
    context.host.emit(
        Note(
            text=f"{share:.0%} of the measured answers were truncated at "
            f"{table.max_completion_tokens} tokens while the model was still thinking, and count "
            f"as wrong. Raise {key}, or set model.thinking = 'off'.",
            level="warning",
        )
    )


def evaluated(context: TrainingContext, trainer: Trainer) -> Measured:
    """What the trainer measures on its held-out dataset, if it has one, of what its stage names."""
    found = _evaluate(trainer) if trainer.eval_dataset is not None else {}
    return Measured(
        {
            name: float(found[f"eval_{theirs}"])
            for name in spec_of(context.recipe.stage).measures
            for theirs in METRICS[name].trainers
            if f"eval_{theirs}" in found
        }
    )


def _evaluate(trainer: Trainer) -> dict[str, float]:
    """The trainer's own evaluation, of smaller batches from where the memory runs out."""
    this: Any = trainer
    state = this.accelerator.gradient_state
    known = list(state.dataloader_references)

    def evaluate(size: int) -> dict[str, float]:
        state.dataloader_references = known  # without one that was broken off
        getattr(this, "_metrics", {}).get("eval", {}).clear()
        this.args.per_device_eval_batch_size = size
        return this.evaluate()

    return halving(evaluate, this.args.per_device_eval_batch_size)[0]


def answered(context: TrainingContext, trainer: Trainer) -> Measured:
    """The share of held-out questions answered right, where the rows say what is right."""
    asked = [row for row in context.held_out if row.answer and row.prompt]
    if not asked:
        return Measured()
    longest = context.recipe.evaluation.max_completion_tokens
    completions = generator_of(context, trainer).complete(
        [row.prompt for row in asked], longest, tools=[row.tools for row in asked]
    )
    return accuracy_of(asked, completions)


def policy_of(trainer: Trainer) -> Any:
    """The model that speaks; PPO's trainer holds it together with a value model."""
    return getattr(trainer.model, "policy", trainer.model)


def generator_of(context: TrainingContext, trainer: Trainer) -> Generator:
    model = policy_of(trainer)
    return Generator(model, context.loaded.tokenizer, context.loaded.device, context.loaded.dtype)


def sample(context: TrainingContext, trainer: Trainer) -> None:
    """What the model answers, greedily, to a few held-out prompts."""
    asked = [row for row in context.held_out if row.prompt][:SAMPLED_PROMPTS]
    if not spec_of(context.recipe.stage).talks:
        return
    if not asked or context.host.requests.end_asked:
        return
    completions = generator_of(context, trainer).complete(
        [row.prompt for row in asked], SAMPLE_TOKENS, tools=[row.tools for row in asked]
    )
    for row, completion in zip(asked, completions, strict=True):
        context.host.emit(
            Sampled(
                step=trainer.state.global_step,
                prompt=row.prompt[-1]["content"],
                completion=completion.text,
            )
        )


def save(context: TrainingContext, trainer: Trainer) -> Path:
    """The adapter, or for method `full` the model in the computing precision, with tokenizer."""
    model = policy_of(trainer)
    full = context.recipe.model.method == "full"

    def fill(target: Path) -> None:
        if full:
            save_weights(model, target, context.loaded.dtype)
        else:
            model.save_pretrained(target, selected_adapters=["default"])
            as_plain_lora(target, context.host.folder / START)
        context.loaded.tokenizer.save_pretrained(target)

    def write() -> Path:
        return write_folder(context.host.folder / ("model" if full else "adapter"), fill)

    try:
        return write()
    except Exception as fault:
        if kind_of(fault) != "out_of_memory":
            raise
    _let_go(trainer)
    return write()


def _let_go(trainer: Trainer) -> None:
    """Drops gradients and the optimizer's state: what training alone needs."""
    this: Any = trainer
    this.model_wrapped.zero_grad(set_to_none=True)
    this.optimizer = this.lr_scheduler = None
    this.accelerator.free_memory()
    give_back()
