"""What is wrong with a draft: why one cannot go on from a step, and what comes too early.

Pure functions; of a file's name nothing is asked but whether it is there.
"""

from __future__ import annotations

from pathlib import Path

from studio.advice import different_tokenizers, missing_prerequisite
from studio.draft import (
    OPTIONS,
    Base,
    RecipeDraft,
    StepName,
    pipeline,
    recipe,
    shown_options,
    shown_steps,
    spec,
    values,
)
from studio.recipe_words import covered
from workers.protocol.pipeline import check_pipeline
from workers.protocol.refusal import Refusal
from workers.protocol.sizes import MOST_ON_CPU
from workers.protocol.sources import BUILTIN, HUB_MODEL, on_hub, short_name
from workers.protocol.stages import STAGES, TINY, spec_of
from workers.protocol.templates import check_template, is_file, read_template


def fault(draft: RecipeDraft, step: StepName) -> Refusal | None:
    """Why one cannot go on from a step, if so."""
    match step:
        case "Model":
            return _fault_of_base(draft.base) or _fault_of_template(draft.template)
        case "Data":
            return _fault_of_data(draft)
        case "Rewards":
            return _fault_of_rewards(draft)
        case "Settings":
            return _fault_of_settings(draft)
        case _:
            return None


def first_fault(draft: RecipeDraft) -> StepName | None:
    """The first step that one cannot go on from, among those that have something to ask."""
    return next((step for step in shown_steps(draft) if fault(draft, step) is not None), None)


def impossible(draft: RecipeDraft) -> Refusal | None:
    """What does not go together, or is out of its bounds."""
    try:
        check_pipeline(pipeline(draft), "The recipe")
    except Refusal as refusal:
        return refusal
    return None


def warning(draft: RecipeDraft) -> str:
    """What goes wrong if the base has not learnt to answer; mostly nothing."""
    return missing_prerequisite(draft.stage, draft.base.answers)


def few_rows(draft: RecipeDraft) -> str:
    """That a real model will see a small part of its rows; mostly nothing."""
    found = covered(recipe(draft), draft.rows)
    tiny = draft.base.parameters is not None and draft.base.parameters < TINY
    return found.words("rows to learn from") if found and found.few and not tiny else ""


def too_large_for_cpu(draft: RecipeDraft) -> str:
    """That a model of this size is hardly trained without a GPU, where there is none."""
    size = draft.base.parameters or 0
    if not draft.no_card or size <= MOST_ON_CPU or values(draft)["training.device"] == "cpu":
        return ""
    return (
        f"{draft.base.name} has {size / 1e9:.1f} billion weights. {draft.no_card} On the CPU each "
        "step takes minutes, and memory may run out. Sensible there are models of half a billion "
        "weights at most: the starter, SmolLM2 135M or 360M, Qwen2.5 0.5B."
    )


def served(draft: RecipeDraft) -> list[str]:
    """The stages that every dataset whose rows were read can serve."""
    readings = [draft.readings[one.source] for one in draft.sources if one.source in draft.readings]
    return [stage for stage in STAGES if all(stage in one.stages for one in readings)]


def unserving(draft: RecipeDraft) -> list[str]:
    """The datasets of which the stage can learn from no row, as far as their rows were read."""
    return [
        one.source
        for one in draft.sources
        if one.source in draft.readings and draft.stage not in draft.readings[one.source].stages
    ]


def _fault_of_base(base: Base) -> Refusal | None:
    match base.kind:
        case "hub" if not HUB_MODEL.fullmatch(base.name):
            return Refusal("That is not a model id.", "An id has the form org/name.",
                           "Copy it from the model's page on the hub.")  # fmt: skip
        case "folder" if not (Path(base.name) / "config.json").is_file():
            return Refusal("That is not a model folder.", "It holds no config.json.",
                           "Choose the folder that holds config.json.")  # fmt: skip
        case "run" if base.name == "run:":
            return Refusal("There is no earlier run to go on from.", "No run has ended yet.",
                           "Choose another base model for the first run.")  # fmt: skip
    return None


def _fault_of_template(template: str) -> Refusal | None:
    try:
        check_template(template)
        if is_file(template):
            read_template(Path(template).expanduser())
    except Refusal as refusal:
        return refusal
    return None


def _fault_of_data(draft: RecipeDraft) -> Refusal | None:
    if not draft.sources:
        return Refusal("No data is chosen.", "There is nothing to learn from.",
                       "Add a built-in set or a file of your own.")  # fmt: skip
    for one in draft.sources:
        if not _may_be(one.source):
            return Refusal(f"There is no file at {one.source}.", "It may be misspelt or gone.",
                           "Remove it and add the right one.")  # fmt: skip
        if one.share is None:
            return Refusal(f"The weight of {one.source} is not a number above 0.",
                           f"It reads '{one.weight}'.",
                           "Write 1 for an equal share.")  # fmt: skip
        if one.most_rows is None:
            return Refusal(f"The most rows of {one.source} are not a whole number.",
                           f"It reads '{one.limit}'.",
                           "Write a number, or leave it empty for all rows.")  # fmt: skip
    if sources := unserving(draft):
        return unfit(draft, sources[0])
    if draft.test and not _may_be(draft.test):
        return Refusal(f"There is no test set at {draft.test}.",
                       "It may be misspelt or gone.", "Choose another test set.")  # fmt: skip
    return None


def unfit(draft: RecipeDraft, source: str) -> Refusal:
    """The stage can learn from no row of a dataset."""
    reading, name = draft.readings[source], short_name(source)
    if not reading.stages:
        return Refusal(f"No row of {name} can be used.", reading.fault,
                       "Say what its columns are, mend it, or remove it.")  # fmt: skip
    others = ", ".join(spec_of(stage).short for stage in reading.stages)
    return Refusal(
        f"{name} does not serve {spec_of(draft.stage).short}: no row of it can be used.",
        f"It serves {others}.",
        f"Switch to another stage, or choose other data. {spec_of(draft.stage).bring}",
    )


def _may_be(source: str) -> bool:
    """Whether there may be such a dataset; what is on the hub is not asked for from here."""
    return (
        source.startswith(BUILTIN) or Path(source).expanduser().exists() or on_hub(source)
    )  # fmt: skip


def _fault_of_rewards(draft: RecipeDraft) -> Refusal | None:
    if spec_of(draft.stage).scored_by == "reward_model":
        return _fault_of_reward_model(draft)
    if draft.reward_faults:
        return Refusal(draft.reward_faults[0], "That value cannot be used.",
                       "Mend the field that is marked, or remove the reward.")  # fmt: skip
    if not draft.rewards:
        return Refusal("No reward is chosen.", "Without one there is nothing to reinforce.",
                       "Add one; Math answer suits sums.")  # fmt: skip
    return None


def _fault_of_reward_model(draft: RecipeDraft) -> Refusal | None:
    if not draft.reward_model:
        return Refusal("There is no reward model.", "RLHF learns from what one thinks of "
                       "answers.", "Begin a reward model, from the same base.")  # fmt: skip
    offered = {choice.model: choice.root for choice in draft.reward_models}
    root, policy = offered.get(draft.reward_model, ""), draft.base.root
    if spec(draft).value_model and different_tokenizers(policy, root):
        return Refusal(
            f"The reward model was trained from {root}, the policy begins with {policy}.",
            "PPO hands over tokens, and the two do not mean the same by them.",
            "Choose a reward model of the same base, or the algorithm rloo, which hands over text.",
        )
    return None


def _fault_of_settings(draft: RecipeDraft) -> Refusal | None:
    shown = shown_options(draft)
    for path, option in OPTIONS.items():
        if path in shown and path in draft.option_faults:
            return Refusal(f"{option.label}: {draft.option_faults[path]}",
                           "That value cannot be used.",
                           "Mend the field that is marked, or reset it.")  # fmt: skip
    if spec(draft).teacher and not values(draft)["distill.teacher"]:
        return Refusal("No teacher is named.", "There is nobody to learn from.",
                       "Name a larger model with the same tokens: run:ID, a folder or a hub "
                       "id.")  # fmt: skip
    return None
