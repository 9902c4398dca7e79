"""Which stage suits what a user has, and what goes wrong with one that comes too early.

Pure functions of a few answers: no Qt, no job, no disk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from workers.protocol.catalogue import ModelEntry
from workers.protocol.pipeline import PREVIOUS
from workers.protocol.recipe import Recipe, Stage
from workers.protocol.stages import PARAMETERS, spec_of

DataKind = Literal[
    "examples", "pairs", "pairs_and_prompts", "labels", "checkable", "text", "teacher", "nothing"
]
"""What there is to teach with; `pairs_and_prompts` is pairs, and many more questions besides."""
Memory = Literal["laptop", "card", "large"]
"""No GPU or a small one; one with 8 to 24 GB; more than that."""
DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)
MEMORIES: tuple[Memory, ...] = get_args(Memory)


THINKING_TOKENS = 2048
"""Room for an answer and its thinking, where 256 tokens cut most thoughts off. R1-Zero's answers
grow from some hundred tokens to thousands as it learns (DeepSeek-AI 2025, figure 3)."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The lightest way to the goal."""

    stage: Stage
    """The one that reaches it."""
    steps: list[Stage]
    """All stages on the way, in order; a reward model is no base, it scores what follows it."""
    why: str
    data: str
    """What rows are needed, and how many are usual."""
    cost: str
    """Rough, against what the user knows."""


def advise(have: DataKind, tuned: bool, memory: Memory) -> Advice:
    """The lightest stage for what there is.

    Args:
        have: what there is to teach with.
        tuned: whether the base has been fine-tuned to answer already.
        memory: how much there is.
    """
    match have:
        case "examples":
            return _advice("sft", "Good answers can simply be learnt; nothing is lighter.")
        case "text":
            return _advice(
                "cpt", "Plain text teaches what to know, not yet how to answer; SFT follows for "
                "that.", ["cpt", "sft"],
            )  # fmt: skip
        case "pairs":
            return _from_pairs(tuned)
        case "pairs_and_prompts":
            return _from_reward_model(tuned, memory)
        case "labels":
            return _after_sft(
                "kto", tuned, "KTO learns from single answers, so no pairs are needed.",
                "the answers that were liked",
            )  # fmt: skip
        case "checkable":
            return _after_sft(
                "grpo", tuned, "What can be checked needs no example: the model tries and does "
                "more of what was right.", "a few worked answers",
            )  # fmt: skip
        case "teacher":
            return _from_teacher(memory)
        case "nothing":
            return Advice(
                stage="sft", steps=["sft"],
                why="Nothing is lost by trying: the built-in sums teach the starter to work them "
                "out.",
                data="None of your own. For them, write 50 answers as you want them, or compare "
                "two models under Chat: every vote makes a pair.",
                cost=spec_of("sft").cost,
            )  # fmt: skip


def relevant_questions(have: DataKind) -> tuple[bool, bool]:
    """Whether the advice depends on what the base has learnt, and on the memory."""
    by_base = any(advise(have, True, size) != advise(have, False, size) for size in MEMORIES)
    by_memory = any(advise(have, True, size) != advise(have, True, "card") for size in MEMORIES)
    return by_base, by_memory


def _advice(stage: Stage, why: str, steps: list[Stage] | None = None, cost: str = "") -> Advice:
    spec = spec_of(stage)
    return Advice(
        stage=stage, steps=steps or [stage], why=why, data=spec.amount, cost=cost or spec.cost
    )


def _from_pairs(tuned: bool) -> Advice:
    if tuned:
        return _advice(
            "dpo", "The model answers already, so pairs can teach which answer to give. DPO needs "
            "neither a reward model nor sampling.",
        )  # fmt: skip
    return _advice(
        "orpo", "The model does not answer yet. ORPO teaches that and the preference in one run, "
        "where DPO would need SFT before it.",
    )  # fmt: skip


def _from_reward_model(tuned: bool, memory: Memory) -> Advice:
    if memory == "laptop":
        return msgspec.structs.replace(
            _from_pairs(tuned),
            why="A reward model, a policy and a value model would not fit. The pairs alone teach "
            "most of it; the other questions wait.",
        )
    algorithm = (
        "RLOO is taken: two models in memory with LoRA. PPO can be asked for: four models in "
        "memory, policy, reference, reward model and value model; with LoRA the reference takes "
        "none."
        if memory == "large"
        else "RLOO is taken, which has no value model: two models in memory with LoRA. PPO has "
        "four, three with LoRA."
    )
    return _advice(
        "rlhf", "A reward model learns from the pairs what is liked, and scores answers to all the "
        "other questions. DPO would learn from the pairs alone.",
        ["reward", "rlhf"] if tuned else ["sft", "reward", "rlhf"],
        f"{spec_of('rlhf').cost} {algorithm}",
    )  # fmt: skip


def _after_sft(stage: Stage, tuned: bool, why: str, examples: str) -> Advice:
    if tuned:
        return _advice(stage, why)
    return _advice(
        stage, f"{why} A model that does not answer yet has nothing to choose from, so SFT on "
        f"{examples} comes first.", ["sft", stage],
    )  # fmt: skip


def _from_teacher(memory: Memory) -> Advice:
    if memory == "laptop":
        return _advice(
            "sft", "The teacher would have to fit beside the model. Let it write answers "
            "elsewhere, and learn those.",
        )  # fmt: skip
    return _advice(
        "distill", "All that the teacher thinks of a word teaches more than the word alone, and "
        "the model's own answers are corrected too.",
    )  # fmt: skip


# Too early

BASE_NAME = re.compile(r"[-_](base|pt)$", re.IGNORECASE)
"""How ids on the hub end by custom for models that were only pretrained."""


def thinking_of(root: str, models: Sequence[ModelEntry]) -> str:
    """Whether a base's chat template writes thinking: no, switch or always; empty where that is
    not known."""
    if root in PARAMETERS:
        return "no"
    return next((model.thinking for model in models if model.id == root), "")


def thinks(known: str, asked: str, stage: str) -> bool:
    """Whether a model is known to think before it answers.

    Args:
        known: as `thinking_of` says.
        asked: as `model.thinking` does; of a model with a switch that learns answers, auto goes by
            the data, and counts for none here.
    """
    mode = asked.replace("auto", "off" if spec_of(stage).learns_answers else "on")
    return known == "always" or (known == "switch" and mode == "on")


def may_set(path: str, known: str, stage: str) -> bool:
    """Whether a setting of thinking may do something to a base; to one not known it may.

    Args:
        path: `model.thinking` or `model.reasoning_effort`.
        known: as `thinking_of` says.
    """
    without = ("no",) if path == "model.reasoning_effort" else ("no", "always")
    return spec_of(stage).templated and known not in without


def answers(base: str, stages: Sequence[str], models: Sequence[ModelEntry]) -> bool | None:
    """Whether a model has been fine-tuned to answer; None where that is not known.

    Args:
        base: the model at the beginning of the chain of runs.
        stages: of those runs, in order.
        models: the catalogue's.
    """
    if any(spec_of(stage).teaches_to_answer for stage in stages):
        return True
    if base == "starter":
        return False
    if base == "smollm2":
        return True
    for entry in models:
        if entry.id == base:
            return entry.kind != "base"
    return False if "/" in base and BASE_NAME.search(base) else None


def missing_prerequisite(stage: str, tuned: bool | None) -> str:
    """In a sentence what goes wrong with a stage on a base that does not answer; mostly nothing."""
    too_early = spec_of(stage).too_early
    if tuned is not False or not too_early:
        return ""
    what = too_early.format(name=stage.upper())
    return f"This base was never fine-tuned to answer: {what}."


def with_sft_first(recipe: Recipe) -> list[Recipe]:
    """Supervised fine-tuning on the same data, and the recipe starting from that run."""
    plain = Recipe()
    first = msgspec.structs.replace(
        recipe, name=f"{recipe.name}-sft", stage="sft", rewards=[], training=plain.training,
        rl=plain.rl, preference=plain.preference,
        model=msgspec.structs.replace(recipe.model, method="lora"),
    )  # fmt: skip
    model = msgspec.structs.replace(recipe.model, base=PREVIOUS)
    return [first, msgspec.structs.replace(recipe, model=model)]


# Tokens

SIZE = re.compile(r"-\d+(\.\d+)?[bm]\b.*|[-_](base|pt|it|instruct|chat)$", re.IGNORECASE)
"""Where the id of a model goes over from its family to its size."""
FAMILIES = {"smollm2": "huggingfacetb/smollm2", "starter": "starter"}


def family(base: str) -> str:
    """The family of a base model, whose members share their tokens; empty where not known."""
    if base in FAMILIES:
        return FAMILIES[base]
    owner, slash, name = base.partition("/")
    return f"{owner}/{SIZE.sub('', name)}".lower() if slash and owner and "/" not in name else ""


def different_tokenizers(one: str, other: str) -> bool:
    """Whether two base models are known to be of different families."""
    first, second = family(one), family(other)
    return bool(first and second) and first != second
