"""One training stage a file. `run` takes a recipe from its rows to its saved weights.

Read `_train` from top to bottom: rows, model, measurement, training, saving, measurement.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workers.cuda_check import check_device
from workers.engines import EngineModule, Loaded, load_engine
from workers.host import Host
from workers.protocol import wire
from workers.protocol.audit import BadLine, grouped
from workers.protocol.events import Artifact, Finished, Note, Paused, Phase, Resumed, Stopped
from workers.protocol.jobs import Train
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of
from workers.protocol.templates import COPY, is_file, read_template, template_label

if TYPE_CHECKING:
    from workers.data.reader import Table
    from workers.fetch import Located
    from workers.train.context import Stage

SKIPPED = "skipped.jsonl"
"""Where bad rows that were left out are listed, in the run's folder."""


def run(host: Host) -> None:
    """Runs a training job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Train)
    # Before transformers and trl are imported.
    engine = load_engine(task.recipe.model.engine, Path(host.job.home))
    with ExitStack() as closing:
        _train(task.recipe, host, engine, closing)


def _train(recipe: Recipe, host: Host, engine: EngineModule, closing: ExitStack) -> None:
    from transformers import set_seed

    from workers.fetch import continued, locate_model
    from workers.folders import size_of
    from workers.train import checkpoints, context
    from workers.train.dataset import build_dataset
    from workers.train.dry_run import measured_already
    from workers.train.encoding import presentable
    from workers.train.loss_check import build_checked
    from workers.train.optimizers import set_optimizer, settle_state
    from workers.train.report import AlreadyTrained, Report

    recipe = _with_own_template(recipe, host.folder)
    stage = _stage(recipe)
    set_seed(recipe.training.seed)

    # The cheap refusals come first: data is read before any weight is.
    host.emit(Phase(name="Reading the data"))
    rows = build_dataset(recipe, lambda text: host.emit(Phase(name=text)))
    _tell_skipped(host, rows.tables)
    for note in rows.notes:
        host.emit(note)

    host.emit(Phase(name="Loading the model"))
    located = locate_model(
        recipe.model.base, Path(host.job.home), lambda text: host.emit(Phase(name=text))
    )
    check_device(recipe, located.folder, lambda text: host.emit(Note(text=text, level="warning")))
    if recipe.model.continue_adapter:
        located = continued(located)
    loaded = _load_begun(recipe, engine, _to_load(recipe, host, located), host)
    here = context.TrainingContext(
        recipe, host, loaded, located, rows.training, rows.held_out, closing
    )
    resumed = checkpoints.last_whole(here.checkpoints)
    context.settle_template(here, resumed[0] if resumed else None)
    context.resolve(here, rows.datasets)
    context.tell_end_of_turn(here)

    host.emit(Phase(name="Preparing"))
    here.held_out = presentable(here, here.held_out)
    trainer = build_checked(here, stage)
    set_optimizer(recipe, trainer)
    if resumed:
        settle_state(recipe, trainer, resumed[0], lambda text: host.emit(Note(text=text)))
    context.tell_coverage(here, trainer)
    report = Report(here, stage, trainer)
    trainer.add_callback(report)

    if host.started_before:
        host.emit(Resumed(step=resumed[1] if resumed else 0))
    if resumed is None and not measured_already(here):
        report.measure("before")
        context.sample(here, trainer)
    with suppress(AlreadyTrained):
        trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)

    steps = trainer.state.global_step
    unfinished = steps < trainer.state.max_steps
    if host.requests.pause_asked and not host.requests.stop_asked and unfinished:
        detail = report.why_paused or f"Paused when asked, after step {steps}."
        host.emit(Paused(step=steps, detail=detail))
        return
    report.settle()
    host.emit(Phase(name="Saving"))
    result = context.save(here, trainer)
    host.emit(Artifact(path=str(result), kind=result.name, bytes=size_of(result)))
    if host.requests.stop_asked and unfinished:
        host.emit(Stopped(step=steps, detail=f"Stopped when asked, after step {steps}."))
        return
    report.measure("after")
    context.sample(here, trainer)
    host.emit(Finished(summary={"steps": steps}))


def _to_load(recipe: Recipe, host: Host, located: Located) -> Located:
    """What the weights are read from: for four bits, and for Unsloth, a folder without adapters."""
    if recipe.model.method != "qlora" and recipe.model.engine != "unsloth":
        return located
    from workers.engines.merged import merged_base

    return merged_base(located, Path(host.job.home), lambda text: host.emit(Phase(name=text)))


def _with_own_template(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its template's file replaced by the run's own copy, which is tried first."""
    template = recipe.model.template
    if not is_file(template):
        return recipe
    from workers.data.tokenize.template_trial import TemplateTrial, check_renders

    copy = folder / COPY
    if not copy.is_file():  # a job that was written by hand
        wire.write_atomically(copy, read_template(Path(template)).encode())
    with closing(TemplateTrial()) as trial:
        check_renders(read_template(copy), template_label(template), trial)
    return msgspec.structs.replace(
        recipe, model=msgspec.structs.replace(recipe.model, template=str(copy))
    )


def _load_begun(recipe: Recipe, engine: EngineModule, located: Located, host: Host) -> Loaded:
    """The model with its adapter on, which begins as it did when the run was first started."""
    from workers.engines.starts import PARTS, START, keep_start, take_out

    start = host.folder / START
    if recipe.lora.init not in PARTS or recipe.model.method == "full":
        return _load(recipe, engine, located, host)
    if not start.is_dir():
        loaded = _load(recipe, engine, located, host)
        keep_start(loaded.model, start)
        return loaded
    plain = msgspec.structs.replace(
        recipe, lora=msgspec.structs.replace(recipe.lora, init="default")
    )
    loaded = _load(plain, engine, located, host)
    take_out(loaded.model, start)
    return loaded


def _load(recipe: Recipe, engine: EngineModule, located: Located, host: Host) -> Loaded:
    """A model that speaks, or a reward model, which Unsloth does not make."""

    def tell(text: str) -> None:
        host.emit(Note(text=text))

    if spec_of(recipe.stage).talks:
        return engine.load_for_training(recipe, located, tell)
    from workers.engines.transformers import load_reward_model_for_training

    return load_reward_model_for_training(recipe, located, tell)


def _tell_skipped(host: Host, tables: list[Table]) -> None:
    """Says how many bad rows were left out and why, and lists them all beside the run."""
    skipped = [(table, row) for table in tables for row in table.bad]
    (host.folder / SKIPPED).unlink(missing_ok=True)  # of an earlier start
    if not skipped:
        return
    lines = [msgspec.json.encode({"source": table.source, **msgspec.structs.asdict(row)})
             for table, row in skipped]  # fmt: skip
    wire.write_atomically(host.folder / SKIPPED, b"\n".join(lines) + b"\n")
    for table in tables:
        if table.bad:
            groups = grouped([BadLine(row.line, row.reason, row.file) for row in table.bad])
            shown = "; ".join(group.words for group in groups[:3])
            text = (
                f"{len(table.bad)} of {len(table.bad) + len(table.rows)} rows of {table.source} "
                f"cannot be used and are left out. {shown}. All of them are listed in {SKIPPED}."
            )
            host.emit(Note(text=text, level="warning"))


def _stage(recipe: Recipe) -> Stage:
    """The module that trains the recipe's stage; it imports the heavy libraries."""
    module: Any = import_module(f"{__name__}.{spec_of(recipe.stage, recipe.rl.algorithm).trainer}")
    return module
