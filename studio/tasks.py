"""Tasks as a worker elsewhere needs them: paths absolute, runs by their ids, a name for the job.

Knows no processes and no toolkit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from workers.protocol.jobs import AnyTask, Bench, Browse, Inspect, Train
from workers.protocol.pipeline import with_models
from workers.protocol.recipe import Recipe, Source
from workers.protocol.templates import COPY, is_file, read_template

RUN = "run:"
"""How a model begins that is a run of this home."""


def prepared(task: AnyTask, find: Callable[[str], str]) -> AnyTask:
    """The task with what it names made absolute.

    Args:
        find: the id of a run that is given by its name, its id or the start of it; raises
            `Refusal` where there is none.
    """
    replace = msgspec.structs.replace
    match task:
        case Train(recipe=recipe):
            return replace(task, recipe=with_paths(recipe))
        case Bench(recipe=recipe):
            by_id = with_models(recipe, lambda model: run_by_id(model, find))
            return replace(task, recipe=with_paths(by_id))
        case Inspect(source=source, model=model, test=test, template=template):
            return replace(
                task, source=_absolute(source), model=_absolute_model(model, find),
                test=_absolute_path(test), template=_absolute_template(template),
            )  # fmt: skip
        case Browse(source=source, model=model):
            return replace(task, source=_absolute(source), model=_absolute_model(model, find))
        case _:
            return task


def name_of(task: AnyTask) -> str:
    """What a job is called that nobody named."""
    match task:
        case Train(recipe=recipe):
            return recipe.name
        case Bench(recipe=recipe):
            return f"rewards of {recipe.name}"
        case Inspect(source=source):
            return f"look at {Path(source.source).stem}"
        case Browse(source=source):
            return f"rows of {Path(source.source).stem}"
        case _:
            return str(task.__struct_config__.tag)


def keep_template(task: AnyTask, folder: Path) -> None:
    """Copies the chat template that a run's recipe names by path into the run's folder."""
    if isinstance(task, Train) and is_file(task.recipe.model.template):
        text = read_template(Path(task.recipe.model.template))
        (folder / COPY).write_text(text, encoding="utf-8")


def run_by_id(model: str, find: Callable[[str], str]) -> str:
    """A run that is given by its name, given by its id; any other model as it is."""
    return f"{RUN}{find(model.removeprefix(RUN))}" if model.startswith(RUN) else model


def with_paths(recipe: Recipe) -> Recipe:
    """The recipe with the paths of its datasets and its chat template made absolute."""
    test = _absolute_path(recipe.evaluation.test)
    evaluation = msgspec.structs.replace(recipe.evaluation, test=test)
    data = [_absolute(source) for source in recipe.data]
    template = _absolute_template(recipe.model.template)
    model = msgspec.structs.replace(recipe.model, template=template)
    return msgspec.structs.replace(recipe, data=data, evaluation=evaluation, model=model)


def _absolute_model(model: str, find: Callable[[str], str]) -> str:
    """A model's folder made absolute, a run given by its id, any other name as it is."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else run_by_id(model, find)


def _absolute(source: Source) -> Source:
    return msgspec.structs.replace(source, source=_absolute_path(source.source))


def _absolute_template(template: str) -> str:
    return str(Path(template).expanduser().absolute()) if is_file(template) else template


def _absolute_path(source: str) -> str:
    """A dataset's path made absolute: the worker's folder is not the user's."""
    path = Path(source).expanduser()
    if not source or source.startswith("builtin:") or not path.exists():
        return source
    return str(path.absolute())
