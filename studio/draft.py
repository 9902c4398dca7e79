"""The recipe being made, without a toolkit: what was chosen, and all that follows from it.

`RecipeDraft` holds what the user chose. Defaults, what is asked for, faults, warnings and the
recipe are pure functions of it. `DraftModel` has the present draft and calls back when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from studio.advice import (
    THINKING_TOKENS,
    answers,
    may_set,
    thinking_of,
    thinks,
    with_sft_first,
)
from studio.draft_source import DraftSource, draft_source
from workers.protocol.catalogue import read_catalogue
from workers.protocol.options import Option, options_of
from workers.protocol.pipeline import Pipeline, chain_of
from workers.protocol.recipe import Method, Recipe, Source, Stage, sections
from workers.protocol.rewards import AnyReward, RewardModel
from workers.protocol.sizes import parameters_of
from workers.protocol.sources import HUB_MODEL
from workers.protocol.stages import ALGORITHM, PARAMETERS, StageSpec, applies, defaults_for, spec_of
from workers.protocol.templates import AUTO

StepName = Literal["Advice", "Stage", "Model", "Data", "Rewards", "Settings", "Review"]
STEPS: tuple[StepName, ...] = get_args(StepName)
BaseKind = Literal["starter", "smollm2", "hub", "folder", "run"]
TABLES = ("training", "lora", "evaluation")
STAGE_TABLES = ("rl", "preference", "distill")
"""Tables of the recipe that some stages alone look at."""
THINKING = ("model.thinking", "model.reasoning_effort")
FURTHER = "model.continue_adapter"
"""Of the model's table what is a setting; the rest has a step of its own."""
LENGTHS = ("rl.max_completion_tokens", "evaluation.max_completion_tokens")
OPTIONS: dict[str, Option] = {
    option.path: option
    for table in (*TABLES, *STAGE_TABLES, "model")
    for option in options_of(sections()[table], f"{table}.")
    if option.path != "evaluation.test"
    and (table != "model" or option.path in (*THINKING, FURTHER))
}
"""The options that are settings, by key path; the test set is chosen with the data."""
UNNAMED = "my-first-run"
BLANK = Pipeline(name="", stages=[Recipe()])


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The base model, and what is known of it."""

    kind: BaseKind = "starter"
    name: str = "starter"
    """As a recipe names it."""
    root: str = "starter"
    """The model at the beginning of its chain of runs."""
    parameters: int | None = None
    """Of the root; None where that is not known."""
    answers: bool | None = None
    """Whether it was fine-tuned to answer; None where that is not known."""
    thinking: str = ""
    """Whether its chat template writes thinking: no, switch or always; empty where that is not
    known."""


class Reading(NamedTuple):
    """What a dataset was taken for when its first rows were read."""

    stages: tuple[str, ...]
    """Those that can learn from it."""
    fault: str = ""
    """Why no row of it can be used, if so."""


class RewardModelChoice(NamedTuple):
    """A reward model that can be chosen."""

    model: str
    """As a recipe names it."""
    name: str
    root: str
    """The base model at the beginning of its chain."""


class RecipeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen so far, and what is known of runs and datasets; the rest follows from it."""

    opened: Pipeline = BLANK
    """What no step asks for, and the stages that follow the first."""
    ready: str = ""
    """The path of the ready recipe that filled the draft, while it still is that one."""
    stage: Stage = "sft"
    base: Base = Base()
    template: str = AUTO
    """The chat template, as a recipe names it."""
    method: Method | None = None
    """None follows the stage and the base, as options do that are not in `options`."""
    name: str = ""
    sources: tuple[DraftSource, ...] = ()
    test: str = ""
    rows: Mapping[str, int] = {}
    """Rows of the sources that were read to their end."""
    readings: Mapping[str, Reading] = {}
    """What is known of sources whose first rows were read."""
    rewards: tuple[AnyReward, ...] = ()
    """For stages that any reward may score."""
    reward_faults: tuple[str, ...] = ()
    model_rewards: tuple[AnyReward, ...] = ()
    """For stages that a reward model scores: a recipe's, of which the first is `reward_model`."""
    reward_model: str = ""
    """As a recipe names it."""
    reward_models: tuple[RewardModelChoice, ...] = ()
    """Those that were trained here, the newest first."""
    no_card: str = ""
    """Why there is no GPU to train on; empty where there is one, or that is not known."""
    options: Mapping[str, Any] = {}
    """By key path; those alone that were set to something else than their default."""
    option_faults: Mapping[str, str] = {}
    """Why what was typed for an option cannot be used, by key path."""

    def with_method(self, method: Method) -> RecipeDraft:
        follows = method == default_method(self)
        return msgspec.structs.replace(self, method=None if follows else method)

    def with_option(self, path: str, value: Any) -> RecipeDraft:
        options = {one: given for one, given in self.options.items() if one != path}
        if value != defaults(self)[path]:
            options[path] = value
        faults = {one: fault for one, fault in self.option_faults.items() if one != path}
        return msgspec.structs.replace(self, options=options, option_faults=faults)

    def with_option_fault(self, path: str, fault: str) -> RecipeDraft:
        """What was typed cannot be used; the option keeps the value that it had."""
        faults = {**self.option_faults, path: fault}
        return msgspec.structs.replace(self, option_faults=faults)

    def with_source(self, source: Source) -> RecipeDraft:
        """One dataset more, unless it is there already or has no name."""
        if not source.source or any(one.source == source.source for one in self.sources):
            return self
        sources = (*self.sources, draft_source(source))
        return msgspec.structs.replace(self, sources=sources)

    def with_source_read_as(self, source: Source) -> RecipeDraft:
        """A dataset as it was looked at: the one that is there keeps its weight and limit."""
        changed = draft_source(source)
        if all(one.source != source.source for one in self.sources):
            return self.with_source(source)
        return self._with_changed(
            source.source,
            lambda one: msgspec.structs.replace(changed, weight=one.weight, limit=one.limit),
        )

    def with_source_changed(self, source: str, **typed: str) -> RecipeDraft:
        """Another weight, limit or licence, as it was typed."""
        return self._with_changed(source, lambda one: msgspec.structs.replace(one, **typed))

    def with_bad_rows_skipped(self, source: str) -> RecipeDraft:
        """A dataset whose unusable rows are left out instead of refused."""
        return self._with_given(source, bad_rows="skip")

    def with_mapping(self, source: str, mapping: Mapping[str, str]) -> RecipeDraft:
        """A dataset read by these columns."""
        return self._with_given(source, mapping=dict(mapping))

    def with_documents(self, source: str, rule: str) -> RecipeDraft:
        """A text file that is split into documents by another rule."""
        return self._with_given(source, documents=rule)

    def _with_given(self, source: str, **fields: Any) -> RecipeDraft:
        return self._with_changed(
            source,
            lambda one: msgspec.structs.replace(
                one, given=msgspec.structs.replace(one.given, **fields)
            ),
        )

    def without_source(self, source: str) -> RecipeDraft:
        left = tuple(one for one in self.sources if one.source != source)
        return msgspec.structs.replace(self, sources=left)

    def _with_changed(
        self, source: str, change: Callable[[DraftSource], DraftSource]
    ) -> RecipeDraft:
        sources = tuple(change(one) if one.source == source else one for one in self.sources)
        return msgspec.structs.replace(self, sources=sources)

    def without_followers(self) -> RecipeDraft:
        opened = msgspec.structs.replace(self.opened, stages=self.opened.stages[:1])
        return msgspec.structs.replace(self, opened=opened, ready="")

    def on_data(self, source: Source) -> RecipeDraft:
        """One dataset alone."""
        return msgspec.structs.replace(self, sources=(draft_source(source),), test="")

    def begun_anew(self) -> RecipeDraft:
        """Nothing of a file that was opened stays but what the steps ask for."""
        return msgspec.structs.replace(self, opened=BLANK, ready="")


def by_epochs(draft: RecipeDraft) -> RecipeDraft:
    """Trains once through the rows, however many steps that takes."""
    return draft.with_option("training.max_steps", 0).with_option("training.epochs", 1.0)


# What follows


def spec(draft: RecipeDraft) -> StageSpec:
    """The stage, as it is under the algorithm."""
    return spec_of(draft.stage, values(draft)["rl.algorithm"])


def default_method(draft: RecipeDraft) -> Method:
    return defaults_for(draft.stage, None, draft.base.parameters)["model.method"]


def method(draft: RecipeDraft) -> Method:
    """How the base is trained, chosen or not."""
    return draft.method or default_method(draft)


def defaults(draft: RecipeDraft) -> dict[str, Any]:
    """What every setting falls back on, by key path."""
    declared = {path: option.default for path, option in OPTIONS.items()}
    asked = draft.options.get("model.thinking", "auto")
    thinking = thinks(draft.base.thinking, asked, draft.stage)
    lengths = dict.fromkeys(LENGTHS, THINKING_TOKENS) if thinking else {}
    return declared | _suited(draft) | lengths


def _suited(draft: RecipeDraft) -> dict[str, Any]:
    """What suits the stage, the method, the model's size and the algorithm."""
    asked = (draft.stage, method(draft), draft.base.parameters)
    usual, chosen = defaults_for(*asked), draft.options.get(ALGORITHM)
    kept = {ALGORITHM: usual[ALGORITHM]} if ALGORITHM in usual else {}
    return kept | defaults_for(*asked, chosen) if chosen else usual


def values(draft: RecipeDraft) -> dict[str, Any]:
    """Every setting, chosen or not, by key path."""
    return defaults(draft) | dict(draft.options)


def shown_options(draft: RecipeDraft) -> set[str]:
    """Key paths of the settings that the stage, the method and the algorithm look at."""
    algorithm, adapter = values(draft)["rl.algorithm"], method(draft) != "full"
    return {
        path
        for path in OPTIONS
        if applies(path, draft.stage, algorithm)
        and (adapter or not path.startswith("lora."))
        and (path not in THINKING or may_set(path, draft.base.thinking, draft.stage))
        and (path != FURTHER or may_continue(draft))
    }


def may_continue(draft: RecipeDraft) -> bool:
    """Whether an adapter of the run that is the base may be trained further."""
    adapter = draft.base.kind == "run" and method(draft) != "full"
    return adapter and spec(draft).talks and not spec(draft).value_model


def shown_steps(draft: RecipeDraft) -> list[StepName]:
    """The steps that have something to ask, in order."""
    return [step for step in STEPS if step != "Rewards" or spec_of(draft.stage).scored_by]


def rewards(draft: RecipeDraft) -> list[AnyReward]:
    """What scores completions."""
    if spec_of(draft.stage).scored_by != "reward_model":
        return list(draft.rewards)
    if not draft.reward_model:
        return []
    chosen, given = RewardModel(model=draft.reward_model), list(draft.model_rewards)
    at = next((at for at, one in enumerate(given) if isinstance(one, RewardModel)), None)
    if at is None:
        return [chosen]
    given[at] = msgspec.structs.replace(given[at], model=draft.reward_model)
    return given


def recipe(draft: RecipeDraft) -> Recipe:
    """What the draft comes to; what no step asks for stays as it was opened."""
    opened = draft.opened.stages[0]
    model = {"base": draft.base.name, "method": method(draft), "template": draft.template}
    tables: dict[str, dict[str, Any]] = {"evaluation": {"test": draft.test}, "model": model}
    for path, value in values(draft).items():
        table, _, key = path.partition(".")
        tables.setdefault(table, {})[key] = value
    tables["model"]["continue_adapter"] &= may_continue(draft)
    return msgspec.structs.replace(
        opened,
        name=draft.name.strip() or UNNAMED,
        stage=draft.stage,
        data=[one.value for one in draft.sources],
        rewards=rewards(draft),
        **{
            table: msgspec.structs.replace(getattr(opened, table), **keys)
            for table, keys in tables.items()
        },
    )


def pipeline(draft: RecipeDraft) -> Pipeline:
    """The recipe, and the stages that are to follow it."""
    first, then = recipe(draft), draft.opened.stages[1:]
    if not then:
        return Pipeline(name=first.name, stages=[first])
    return msgspec.structs.replace(draft.opened, stages=[first, *then])


def draft_of(opened: Pipeline, base: Base, ready: str = "") -> RecipeDraft:
    """The draft of a pipeline: `recipe(draft_of(opened, base)) == opened.stages[0]`.

    Args:
        base: of its first stage.
    """
    first = opened.stages[0]
    by_model = spec_of(first.stage).scored_by == "reward_model"
    scored = next((one.model for one in first.rewards if isinstance(one, RewardModel)), "")
    draft = RecipeDraft(
        opened=opened,
        ready=ready,
        stage=first.stage,
        base=base,
        template=first.model.template,
        name=first.name,
        sources=tuple(draft_source(source) for source in first.data),
        test=first.evaluation.test,
        rewards=() if by_model else tuple(first.rewards),
        model_rewards=tuple(first.rewards) if by_model else (),
        reward_model=scored if by_model else "",
    ).with_method(first.model.method)
    asked = draft.with_option("model.thinking", first.model.thinking)
    usual = defaults(asked.with_option(ALGORITHM, first.rl.algorithm))
    given = {path: _value_at(first, path) for path in OPTIONS}
    chosen = {path: value for path, value in given.items() if value != usual[path]}
    return msgspec.structs.replace(draft, options=chosen)


def _value_at(given: Recipe, path: str) -> Any:
    table, _, key = path.partition(".")
    return getattr(getattr(given, table), key)


def with_stage_defaults(given: Recipe, parameters: int | None) -> Recipe:
    """The recipe with what suits its stage, its method and a model of that size put in."""
    for path, value in defaults_for(given.stage, given.model.method, parameters).items():
        table, _, key = path.partition(".")
        changed = msgspec.structs.replace(getattr(given, table), **{key: value})
        given = msgspec.structs.replace(given, **{table: changed})
    return given


def preceded_by_sft(draft: RecipeDraft) -> Pipeline:
    """The draft as a pipeline that begins with supervised fine-tuning on the same data."""
    first, then = with_sft_first(recipe(draft))
    stages = [with_stage_defaults(first, draft.base.parameters), then]
    return Pipeline(name=then.name, stages=[*stages, *draft.opened.stages[1:]])


# The present draft


class DraftModel:
    """The draft that the wizard's steps show and change; calls back what follows it.

    Args:
        recipe_of: the recipe that a run was trained by, given its id or name; None for a job that
            is no training. Raises `Refusal` where there is no such run.
    """

    def __init__(self, recipe_of: Callable[[str], Recipe | None]) -> None:
        self._recipe_of = recipe_of
        self._callbacks: list[Callable[[], object]] = []
        self._draft = RecipeDraft(base=self.base_of("starter", "starter"))

    @property
    def draft(self) -> RecipeDraft:
        return self._draft

    def follow(self, callback: Callable[[], object]) -> None:
        """Calls back after every change."""
        self._callbacks.append(callback)

    def become(self, draft: RecipeDraft) -> None:
        """Takes another draft; a callback may change it again."""
        if draft == self._draft:
            return
        self._draft = draft
        for callback in self._callbacks:
            callback()

    def change(self, **fields: Any) -> None:
        """Takes other values for some fields of the draft."""
        self.become(msgspec.structs.replace(self._draft, **fields))

    def choose_base(self, kind: BaseKind, name: str) -> None:
        if (kind, name) != (self._draft.base.kind, self._draft.base.name):
            self.change(base=self.base_of(kind, name))

    def open(self, opened: Pipeline, ready: str = "") -> None:
        """Takes up a file's pipeline; what is known of runs and datasets stays."""
        name = opened.stages[0].model.base
        draft = draft_of(opened, self.base_of(kind_of_base(name), name), ready)
        old = self._draft
        if not draft.reward_model:
            draft = msgspec.structs.replace(draft, reward_model=old.reward_model)
        known = ("rows", "readings", "reward_models", "no_card")
        kept = {name: getattr(old, name) for name in known}
        self.become(msgspec.structs.replace(draft, **kept))

    def offer_reward_models(self, models: Iterable[tuple[str, str]]) -> None:
        """Reward models as a recipe names them, and their names; the first is chosen if none is."""
        offered = tuple(
            RewardModelChoice(model, name, chain_of(model, self._recipe_of)[0])
            for model, name in models
        )
        first = offered[0].model if offered else ""
        self.change(reward_models=offered, reward_model=self._draft.reward_model or first)

    def base_of(self, kind: BaseKind, name: str) -> Base:
        """A base model with what is known of it."""
        root, stages = chain_of(name, self._recipe_of)
        models = [] if root in PARAMETERS else read_catalogue().models  # not as the window starts
        return Base(
            kind=kind,
            name=name,
            root=root,
            parameters=parameters_of(root),
            answers=answers(root, stages, models),
            thinking=thinking_of(root, models),
        )


def kind_of_base(name: str) -> BaseKind:
    """Where a model comes from, by the name that a recipe has for it."""
    if name.startswith("run:"):
        return "run"
    if name == "starter" or name == "smollm2":
        return name
    return "hub" if HUB_MODEL.fullmatch(name) and not Path(name).exists() else "folder"
