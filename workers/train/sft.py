"""Supervised fine-tuning: the model learns to answer as the answers in the data do.

Read from top to bottom: find the model and the data, tokenize and mask, measure, train with TRL's
SFTTrainer, measure again, save. The loss is the mean negative log-likelihood of the trained
tokens, -(1/sum m) sum m log p, with m = 1 on the assistant's tokens (and 0 on all others unless
training.assistant_only is off).
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from workers.data.formats import Message, Table, read_table
from workers.data.mapping import Example, render, tokenize
from workers.data.mix import Rows, mix, position, split
from workers.engines import EngineModule, Loaded
from workers.engines.transformers import save_weights
from workers.fetch import Located, fingerprint, locate_model
from workers.folders import size_of, write_folder
from workers.host import Host
from workers.protocol import jobs
from workers.protocol.events import (
    Artifact,
    Finished,
    Note,
    Phase,
    Resolved,
    Resumed,
    Sampled,
    Stopped,
)
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.train import checkpoints
from workers.train.report import Report

PINNED = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers",
    "unsloth",
)  # fmt: skip
SAMPLED_PROMPTS = 2
SAMPLE_TOKENS = 64


def train(recipe: Recipe, host: Host, engine: EngineModule) -> None:
    """Runs the stage; ends with Finished, or Stopped when that was asked for."""
    set_seed(recipe.training.seed)

    # The cheap refusals come first: data is read before any weight is.
    host.emit(Phase(name="Reading the data"))
    tables = [read_table(source.source) for source in recipe.data]
    training_rows, held_out_rows = _rows(recipe, tables)

    host.emit(Phase(name="Loading the model"))
    located = locate_model(
        recipe.model.base, Path(host.job.home), lambda text: host.emit(Phase(name=text))
    )
    loaded = engine.load_for_training(recipe, located)
    _resolve(host, recipe, tables, located, loaded)

    host.emit(Phase(name="Tokenizing"))
    training_set = _examples(training_rows, recipe, loaded, host)
    held_out_set = _examples(held_out_rows, recipe, loaded, host, held_out=True)

    report = Report(host, held_out_rows=len(held_out_set))
    trainer = SFTTrainer(
        model=loaded.model,
        args=_arguments(recipe, host.folder / "checkpoints", loaded),
        train_dataset=_dataset(training_set),
        eval_dataset=_dataset(held_out_set) if held_out_set else None,
        processing_class=loaded.tokenizer,
        callbacks=[report],
    )
    prompts = [row[:-1] for row in held_out_rows[:SAMPLED_PROMPTS]]

    resumed = checkpoints.last_whole(host.folder / "checkpoints")
    if resumed is None:
        _measure(trainer, report, host, "before")
        _sample(loaded, trainer, prompts, host)
    else:
        host.emit(Resumed(step=resumed[1]))
    report.moment = "during"
    trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)

    host.emit(Phase(name="Saving"))
    result = _save(trainer, loaded, recipe, host.folder)
    host.emit(Artifact(path=str(result), kind=result.name, bytes=size_of(result)))
    steps = trainer.state.global_step
    if host.requests.stop_asked and steps < trainer.state.max_steps:
        host.emit(Stopped(step=steps, detail=f"Stopped when asked, after step {steps}."))
        return
    _measure(trainer, report, host, "after")
    _sample(loaded, trainer, prompts, host)
    host.emit(Finished(summary={"steps": steps}))


def _rows(recipe: Recipe, tables: list[Table]) -> tuple[Rows, Rows]:
    """Training and held-out conversations of all sources; each source is split by itself."""
    parts = [split(table.rows, recipe.evaluation.holdout) for table in tables]
    weights = [source.weight for source in recipe.data]
    training = mix([part[0] for part in parts], weights, recipe.training.seed)
    # By hash, not by file order: the same rows are measured whichever way the file is sorted.
    held_out = sorted((row for part in parts for row in part[1]), key=position)
    if not training:
        raise Refusal(
            "No row is left to train on.",
            f"All of them are held out by evaluation.holdout = {recipe.evaluation.holdout}.",
            "Lower it, or bring more rows.",
        )
    return training, held_out[: recipe.evaluation.max_rows]


def _resolve(
    host: Host, recipe: Recipe, tables: list[Table], located: Located, loaded: Loaded
) -> None:
    """Pins what the run really works with, in job.json and as an event."""
    versions = {name: found for name in PINNED if (found := _version(name))}
    model = {
        "base": located.base,
        "folder": str(located.folder),
        "sha256": fingerprint(located.folder),
        "adapters": [str(adapter) for adapter in located.adapters],
        "parameters": loaded.model.num_parameters(),
        "trained_parameters": sum(
            p.numel() for p in loaded.model.parameters() if p.requires_grad
        ),
    }  # fmt: skip
    datasets = [
        {"source": t.source, "path": t.path, "sha256": t.sha256, "format": t.format,
         "rows": len(t.rows)}
        for t in tables
    ]  # fmt: skip
    resolved = jobs.Resolved(
        versions=versions,
        device=loaded.device,
        precision=str(loaded.dtype).removeprefix("torch."),
        engine=recipe.model.engine.replace("auto", "transformers"),
        model=model,
        datasets=datasets,
        seeds={"training": recipe.training.seed},
    )
    host.resolve(msgspec.structs.replace(host.job, resolved=resolved))
    details = {"model": model, "datasets": datasets, "device": resolved.device,
               "precision": resolved.precision}  # fmt: skip
    host.emit(Resolved(versions=versions, details=details))


def _version(package: str) -> str:
    """The installed version, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _examples(
    rows: Rows, recipe: Recipe, loaded: Loaded, host: Host, *, held_out: bool = False
) -> list[Example]:
    """Tokenized rows that have something to learn; what was cut or dropped is said."""
    options = recipe.training
    made = [
        tokenize(row, loaded.tokenizer, options.max_length, options.assistant_only) for row in rows
    ]
    kept = [example for example in made if example.trained_tokens]
    if rows and not kept:
        raise Refusal(
            "No row has a token left to train.",
            f"Every answer begins after the first {options.max_length} tokens.",
            "Raise training.max_length.",
        )
    cut = sum(example.truncated for example in kept)
    dropped = len(made) - len(kept)
    if (cut or dropped) and not held_out:
        host.emit(
            Note(
                text=f"Of {len(made)} rows, {cut} are cut at {options.max_length} tokens and "
                f"{dropped} are left out because their answer begins after that.",
                level="warning",
            )
        )
    return kept


def _dataset(examples: list[Example]) -> Dataset:
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return Dataset.from_dict(columns)


def _arguments(recipe: Recipe, folder: Path, loaded: Loaded) -> SFTConfig:
    options, measure = recipe.training, recipe.evaluation
    during = measure.holdout > 0 and measure.every_steps > 0
    return SFTConfig(
        output_dir=str(folder),
        use_cpu=loaded.device == "cpu",
        bf16=loaded.dtype == torch.bfloat16,
        fp16=loaded.dtype == torch.float16,
        max_steps=options.max_steps or -1,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.scheduler,
        warmup_steps=options.warmup,  # below 1 it is a share of the steps
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        gradient_checkpointing=options.gradient_checkpointing,
        max_length=options.max_length,
        packing=options.packing,
        seed=options.seed,
        data_seed=options.seed,
        save_strategy="steps" if options.save_every_steps else "no",
        save_steps=options.save_every_steps or 500,
        save_total_limit=2,
        eval_strategy="steps" if during else "no",
        eval_steps=measure.every_steps or None,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a NaN must be seen, not smoothed away
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=loaded.device == "cuda",
    )


def _measure(trainer: SFTTrainer, report: Report, host: Host, moment: str) -> None:
    """Loss and token accuracy on the held-out rows."""
    if trainer.eval_dataset is None or host.requests.stop_asked:
        return
    host.emit(Phase(name=f"Measuring {moment} training"))
    report.moment = moment
    trainer.evaluate()


def _sample(loaded: Loaded, trainer: SFTTrainer, prompts: list[list[Message]], host: Host) -> None:
    """What the model answers, greedily, to a few held-out prompts."""
    model: Any = trainer.model
    tokenizer = loaded.tokenizer
    if host.requests.stop_asked:
        return
    model.eval()
    for messages in prompts:
        text = render(messages, tokenizer, generation=True)
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
        with torch.no_grad(), torch.autocast(loaded.device, loaded.dtype,
                                             enabled=loaded.dtype != torch.float32):  # fmt: skip
            output: Any = model.generate(
                **inputs,
                max_new_tokens=SAMPLE_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :],
                                  skip_special_tokens=True)  # fmt: skip
        host.emit(
            Sampled(step=trainer.state.global_step, prompt=messages[-1]["content"],
                    completion=str(answer))
        )  # fmt: skip


def _save(trainer: SFTTrainer, loaded: Loaded, recipe: Recipe, folder: Path) -> Path:
    """The adapter, or for method `full` the model in the computing precision, with tokenizer."""
    model: Any = trainer.model
    full = recipe.model.method == "full"

    def fill(target: Path) -> None:
        if full:
            save_weights(model, target, loaded.dtype)
        else:
            model.save_pretrained(target)
        loaded.tokenizer.save_pretrained(target)

    return write_folder(folder / ("model" if full else "adapter"), fill)
