"""The recipe: everything that can be asked of a training run, as a TOML file and as a type.

Declared here once. Reading refuses an unknown key, a wrong type and an impossible combination,
naming the key's path and what to write instead.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from workers.protocol.options import option
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import KINDS, AnyReward, RewardModel
from workers.protocol.stages import Stage as Stage

Template = Literal["auto", "chatml", "llama-3", "gemma", "mistral", "alpaca"]
"""How a conversation becomes one text; auto is the model's own, chatml where it has none."""
Method = Literal["lora", "qlora", "dora", "full"]
Engine = Literal["auto", "transformers", "unsloth"]


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A table of the recipe file."""


class Model(Section, frozen=True):
    base: Annotated[
        str,
        option(
            "Base model",
            "What to start from: starter, smollm2, a hub id like org/name, a folder, or run:ID.",
        ),
    ] = "starter"
    method: Annotated[
        Method,
        option(
            "Method",
            "LoRA trains a small adapter; QLoRA does so over 4-bit weights; DoRA also learns "
            "magnitudes; full trains every weight.",
        ),
    ] = "lora"
    template: Annotated[
        Template,
        option(
            "Chat template",
            "auto takes the model's own, chatml where it has none; a base model may learn another.",
            advanced=True,
        ),
    ] = "auto"
    engine: Annotated[
        Engine,
        option("Engine", "Which library loads and speeds up the model.", advanced=True),
    ] = "auto"


class Lora(Section, frozen=True):
    rank: Annotated[
        int, option("LoRA rank", "Size of the adapter; 8 to 64 is usual.", ge=1, le=1024)
    ] = 16
    alpha: Annotated[
        int,
        option("LoRA alpha", "Scale of the adapter; once or twice the rank is usual.", ge=1),
    ] = 32
    dropout: Annotated[
        float,
        option("LoRA dropout", "Share of adapter inputs dropped.", ge=0, lt=1, advanced=True),
    ] = 0.0
    targets: Annotated[
        str,
        option(
            "Target modules",
            "Layers that get an adapter: all-linear, or names separated by commas.",
            advanced=True,
        ),
    ] = "all-linear"


Column = Literal[
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "answer",
    "label",
    "text",
    "system",
    "tools",
]
"""What a column of a dataset can be to us."""


class Source(Section, frozen=True):
    source: Annotated[
        str,
        option(
            "Dataset",
            "builtin:NAME, a file or folder (JSON lines, JSON, CSV, Parquet, Arrow or text, also "
            ".gz and .zst), or org/name[:split] on the hub.",
        ),
    ]
    weight: Annotated[
        float,
        option("Weight", "Share of this dataset in a mixture, against the others.", gt=0),
    ] = 1.0
    limit: Annotated[
        int,
        option(
            "Rows at most",
            "Takes so many rows of this dataset, spread over it by hash; 0 takes all.",
            unit="rows",
            ge=0,
            advanced=True,
        ),
    ] = 0
    licence: Annotated[
        str,
        option(
            "Licence",
            "The dataset's licence, as SPDX writes it; empty looks for it in the catalogue and on "
            "the dataset's card.",
            advanced=True,
        ),
    ] = ""
    mapping: Annotated[
        dict[str, Column],
        option(
            "Columns",
            "Their columns to ours (messages, prompt, completion, chosen, rejected, answer, label, "
            "text, system, tools), instead of detection.",
            advanced=True,
        ),
    ] = {}
    bad_rows: Annotated[
        Literal["refuse", "skip"],
        option(
            "Bad rows",
            "refuse stops at rows that cannot be used; skip leaves them out and lists them.",
            advanced=True,
        ),
    ] = "refuse"


class Training(Section, frozen=True):
    max_steps: Annotated[
        int,
        option(
            "Steps",
            "Optimizer steps; 0 trains for the given epochs instead.",
            ge=0,
            on_resume=True,
        ),
    ] = 60
    epochs: Annotated[
        float,
        option("Epochs", "Passes over the data when steps is 0.", gt=0, le=1000, on_resume=True),
    ] = 1.0
    learning_rate: Annotated[
        float,
        option("Learning rate", "Peak step size; 1e-4 to 2e-4 suits LoRA, 1e-5 full.", gt=0, lt=1),
    ] = 1e-4
    batch_size: Annotated[
        int,
        option(
            "Batch size",
            "Examples at once on the device; lower it first when memory is short.",
            unit="examples",
            ge=1,
            le=1024,
            on_resume=True,
        ),
    ] = 8
    gradient_accumulation: Annotated[
        int,
        option(
            "Gradient accumulation",
            "Batches added up before each step.",
            ge=1,
            le=1024,
            on_resume=True,
        ),
    ] = 1
    max_length: Annotated[
        int,
        option(
            "Longest example",
            "Longer examples are cut at this many tokens; plain text is split.",
            unit="tokens",
            ge=8,
            le=1_048_576,
            on_resume=True,
        ),
    ] = 1024
    seed: Annotated[
        int, option("Seed", "The same seed gives the same run.", ge=0, le=2**32 - 1)
    ] = 0
    scheduler: Annotated[
        Literal["cosine", "linear", "constant"],
        option("Schedule", "How the learning rate falls after warm-up.", advanced=True),
    ] = "cosine"
    warmup: Annotated[
        float,
        option(
            "Warm-up", "Share of the steps in which the rate climbs.", ge=0, lt=1, advanced=True
        ),
    ] = 0.05
    weight_decay: Annotated[
        float, option("Weight decay", "Pull of the weights to zero.", ge=0, le=1, advanced=True)
    ] = 0.01
    max_grad_norm: Annotated[
        float,
        option(
            "Gradient clipping",
            "Longest gradient let through; 0 lets all through.",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 1.0
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"],
        option(
            "Precision", "Number format; auto takes bf16 where the device has it.", advanced=True
        ),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool,
        option(
            "Gradient checkpointing",
            "Less memory for about a third more time.",
            advanced=True,
            on_resume=True,
        ),
    ] = False
    packing: Annotated[
        bool,
        option("Packing", "Join short examples into full-length ones.", advanced=True),
    ] = False
    assistant_only: Annotated[
        bool,
        option(
            "Train answers only",
            "Only the assistant's tokens count; prompts are read, not learnt.",
            advanced=True,
        ),
    ] = True
    save_every_steps: Annotated[
        int,
        option(
            "Checkpoint every",
            "Steps between checkpoints; 0 keeps the result alone.",
            unit="steps",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 50


class Preference(Section, frozen=True):
    """How pairs of a better and a worse answer are learnt from."""

    loss: Annotated[
        Literal[
            "sigmoid",
            "ipo",
            "hinge",
            "robust",
            "exo_pair",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "aot",
            "apo_zero",
            "apo_down",
            "discopop",
            "sigmoid_norm",
        ],
        option("Loss", "sigmoid is DPO as published; ipo and robust bear noisy pairs better."),
    ] = "sigmoid"
    beta: Annotated[
        float,
        option(
            "Beta",
            "How hard the model is held to where it started; 0.1 is usual, 1 for ipo, 2 for simpo.",
            gt=0,
            le=10,
        ),
    ] = 0.1
    simpo_gamma: Annotated[
        float,
        option(
            "SimPO margin",
            "By how much the better answer should lead, in stage simpo.",
            ge=0,
            advanced=True,
        ),
    ] = 0.5
    centring: Annotated[
        float,
        option(
            "Centring",
            "Pull of a reward model's mean to zero; 0.01 is usual, 0 is off.",
            ge=0,
            le=1,
            advanced=True,
        ),
    ] = 0.0
    sft_weight: Annotated[
        float,
        option(
            "Likelihood weight",
            "Weight of the better answer's own likelihood beside the loss, in stages dpo and ipo; "
            "1 keeps better answers from becoming unlikely too, 0 is the pure loss.",
            ge=0,
            le=10,
            advanced=True,
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        option(
            "Label smoothing",
            "Share of pairs that may be the wrong way round.",
            ge=0,
            lt=0.5,
            advanced=True,
        ),
    ] = 0.0


class RL(Section, frozen=True):
    """How the policy is improved from its own samples."""

    algorithm: Annotated[
        Literal[
            "grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo", "rloo", "ppo"
        ],
        option(
            "Algorithm",
            "How advantages become a loss; grpo is the usual one, rloo uses leave-one-out means, "
            "ppo learns a value model beside the policy (stage rlhf alone).",
        ),
    ] = "grpo"
    group_size: Annotated[
        int, option("Group size", "Answers sampled to each prompt and compared.", ge=2, le=256)
    ] = 8
    kl_coefficient: Annotated[
        float,
        option(
            "KL coefficient",
            "How hard the policy is held to where it started; 0 holds nothing and needs no "
            "reference model.",
            ge=0,
            le=10,
        ),
    ] = 0.05
    clip_epsilon: Annotated[
        float,
        option(
            "Clip range", "How far one update may move a token's probability ratio.", gt=0, lt=10
        ),
    ] = 0.2
    clip_epsilon_high: Annotated[
        float,
        option(
            "Upper clip range",
            "DAPO's clip-higher, 0.28 is usual; 0 takes the clip range.",
            ge=0,
            lt=10,
            advanced=True,
        ),
    ] = 0.0
    advantage_scaling: Annotated[
        Literal["group", "batch", "none"],
        option(
            "Advantage scaling",
            "What advantages are divided by: the group's or the batch's standard deviation, or "
            "nothing (Dr. GRPO).",
            advanced=True,
        ),
    ] = "group"
    max_completion_tokens: Annotated[
        int,
        option(
            "Longest answer",
            "Answers are cut off after so many tokens.",
            ge=1,
            le=131_072,
            unit="tokens",
            on_resume=True,
        ),
    ] = 256
    mask_truncated: Annotated[
        bool,
        option(
            "Leave out cut-off answers",
            "Answers that were cut off teach nothing (DAPO).",
            advanced=True,
            on_resume=True,
        ),
    ] = False
    temperature: Annotated[
        float, option("Temperature", "How freely answers are sampled.", gt=0, le=5)
    ] = 1.0
    top_p: Annotated[
        float,
        option("Top-p", "Share of the likeliest tokens sampled from.", gt=0, le=1, advanced=True),
    ] = 1.0
    updates_per_batch: Annotated[
        int,
        option(
            "Updates per batch",
            "Optimizer steps on each batch of answers.",
            ge=1,
            le=64,
            advanced=True,
        ),
    ] = 1
    value_coefficient: Annotated[
        float,
        option(
            "Value coefficient",
            "Weight of the value model's loss in ppo; 0.1 is usual.",
            ge=0,
            le=10,
            advanced=True,
        ),
    ] = 0.1
    gae_lambda: Annotated[
        float,
        option(
            "GAE lambda",
            "How far ppo trusts what was earned over what was foreseen; 1 is all.",
            ge=0,
            le=1,
            advanced=True,
        ),
    ] = 0.95
    fast_generation: Annotated[
        Literal["auto", "transformers", "vllm"],
        option(
            "Generation",
            "auto samples with vLLM on a GPU where it is installed.",
            advanced=True,
            on_resume=True,
        ),
    ] = "auto"
    pause_on: Annotated[
        Literal["never", "alarm"],
        option("Pause by itself", "Pause when the health coach raises an alarm.", advanced=True),
    ] = "never"


class Distill(Section, frozen=True):
    """How a smaller model learns from a larger one's probabilities."""

    teacher: Annotated[
        str,
        option(
            "Teacher",
            "The model to learn from: starter, smollm2, a hub id, a folder, or run:ID; it needs "
            "the same tokens as the model that learns.",
        ),
    ] = ""
    on_policy: Annotated[
        float,
        option(
            "Own answers",
            "Share of the steps that learn on the model's own answers instead of the data's.",
            ge=0,
            le=1,
        ),
    ] = 0.5
    divergence: Annotated[
        float,
        option(
            "Divergence",
            "Between forward KL (0, covers all that the teacher may say) and reverse KL (1, keeps "
            "to what it likes best).",
            ge=0,
            le=1,
            advanced=True,
        ),
    ] = 0.5
    temperature: Annotated[
        float,
        option("Temperature", "How freely own answers are sampled.", gt=0, le=5, advanced=True),
    ] = 0.9


class Gate(Section, frozen=True):
    """What a run must reach on the held-out rows to be promoted."""

    metric: Annotated[
        str, option("Gate metric", "The held-out measure looked at.", on_resume=True)
    ] = "accuracy"
    min_gain: Annotated[
        float,
        option(
            "Least gain", "How much it must rise (for loss: fall) over the start.", on_resume=True
        ),
    ] = 0.0


class Evaluation(Section, frozen=True):
    holdout: Annotated[
        float,
        option("Held-out share", "Share of the rows kept apart to measure on.", ge=0, lt=0.9),
    ] = 0.1
    every_steps: Annotated[
        int,
        option(
            "Evaluate every",
            "Steps between measurements; 0 measures before and after only.",
            unit="steps",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 0
    max_rows: Annotated[
        int,
        option(
            "Held-out rows at most",
            "Bounds the time that a measurement takes.",
            unit="rows",
            ge=1,
            advanced=True,
            on_resume=True,
        ),
    ] = 64

    test: Annotated[
        str,
        option("Test set", "A dataset to measure on instead of the held-out share.", advanced=True),
    ] = ""
    max_answer_tokens: Annotated[
        int,
        option(
            "Longest measured answer",
            "Answers that are checked are cut off after so many.",
            unit="tokens",
            ge=1,
            le=131_072,
            advanced=True,
            on_resume=True,
        ),
    ] = 256
    gate: Gate | None = None
    """Decides whether the next stage of a pipeline starts; without one it always does."""


class Recipe(Section, frozen=True):
    """What a training run is made from; the file's tables are the fields' names."""

    name: Annotated[str, option("Name", "What the run is called in lists.")] = "untitled"
    stage: Annotated[Stage, option("Stage", "What kind of training.")] = "sft"
    model: Model = Model()
    lora: Lora = Lora()
    data: list[Source] = []
    training: Training = Training()
    preference: Preference = Preference()
    rl: RL = RL()
    rewards: list[AnyReward] = []
    distill: Distill = Distill()
    evaluation: Evaluation = Evaluation()


def read_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe file; raises `Refusal` with the file and the key's path."""
    return parse_recipe(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a recipe file; raises `Refusal` when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise Refusal(
            f"There is no recipe at {path}.",
            "The path may be misspelt or relative to another folder.",
            "Give the path of a .toml recipe; assets/recipes holds ready ones.",
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise Refusal(
            f"The recipe {path} cannot be read.", f"{fault}.", "Save it as UTF-8 text."
        ) from fault


def parse_recipe(text: str, where: str = "the recipe") -> Recipe:
    """A checked recipe from TOML text; `where` is named in a refusal."""
    try:
        recipe = msgspec.toml.decode(text, type=Recipe)
    except msgspec.ValidationError as fault:
        raise refusal_of(str(fault), where) from None
    except msgspec.DecodeError as fault:
        raise Refusal(
            f"{where} is not valid TOML.", f"{fault}.", "Mend that line and try again."
        ) from None
    check_recipe(recipe, where)
    return recipe


def format_recipe(recipe: Recipe) -> str:
    """TOML text that `parse_recipe` reads back to an equal recipe."""
    return toml_of(recipe)


def toml_of(section: Section) -> str:
    """TOML text of a section; what is not set is left out, since TOML has no null."""
    return msgspec.toml.encode(_without_nulls(msgspec.to_builtins(section))).decode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def check_recipe(recipe: Recipe, where: str = "the recipe") -> None:
    """Refuses combinations that types and bounds cannot rule out."""
    for problem, cause, remedy in _impossible(recipe):
        raise Refusal(f"{where}: {problem}", cause, remedy)


def _impossible(recipe: Recipe) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if not recipe.name.strip():
        found.append(("name is empty.", "Runs are listed by name.", 'Write name = "my-run".'))
    if not recipe.data:
        found.append(
            (
                "data is missing.",
                "A run needs at least one dataset.",
                'Add a [[data]] table with source = "builtin:arithmetic" or the path of your file.',
            )
        )
    if recipe.model.method == "qlora" and recipe.training.precision == "fp32":
        found.append(
            (
                "training.precision = 'fp32' does not go with model.method = 'qlora'.",
                "4-bit weights are computed in 16 bits.",
                "Set training.precision to 'auto' or 'bf16'.",
            )
        )
    if recipe.preference.loss == "robust" and recipe.preference.label_smoothing == 0:
        found.append(
            (
                "preference.loss = 'robust' with preference.label_smoothing = 0.",
                "Robust DPO corrects for a share of pairs that are the wrong way round.",
                "Set preference.label_smoothing to that share, for example 0.1.",
            )
        )
    if recipe.stage == "reward" and recipe.model.method == "qlora":
        found.append(
            (
                "model.method = 'qlora' for a reward model.",
                "Its one output has to be trained in full, which 4-bit weights do not allow.",
                "Set model.method = 'lora'.",
            )
        )
    if recipe.stage == "kto" and recipe.training.batch_size < 2:
        found.append(
            (
                "training.batch_size = 1 in stage 'kto'.",
                "KTO measures its distance from the start on answers swapped within a batch.",
                "Set training.batch_size to 4 or more.",
            )
        )
    if recipe.stage == "rlhf":
        found.extend(_impossible_rlhf(recipe))
    if recipe.stage in ("grpo", "rlhf"):
        found.extend(_impossible_rl(recipe))
    if recipe.stage == "grpo" and recipe.rl.algorithm == "ppo":
        found.append(
            (
                "rl.algorithm = 'ppo' in stage 'grpo'.",
                "PPO learns a value model from a reward model's scores, which is stage 'rlhf'.",
                "Set stage = 'rlhf' with a reward model, or take grpo or rloo.",
            )
        )
    if recipe.stage == "distill" and not recipe.distill.teacher:
        found.append(
            (
                "distill.teacher is missing.",
                "There is nobody to learn from.",
                "Name a larger model with the same tokens, for example run:ID or a folder.",
            )
        )
    return found


def _impossible_rlhf(recipe: Recipe) -> list[tuple[str, str, str]]:
    models = [reward for reward in recipe.rewards if isinstance(reward, RewardModel)]
    if not models:
        return [
            (
                "no reward model is named.",
                "Stage 'rlhf' learns from what a trained reward model thinks of answers.",
                'Train one with stage = "reward", then add a [[rewards]] table with '
                'kind = "reward_model" and model = "run:ID".',
            )
        ]
    if recipe.rl.algorithm == "ppo" and recipe.model.method == "qlora":
        return [
            (
                "rl.algorithm = 'ppo' with model.method = 'qlora'.",
                "The value model beside the policy is trained in full, which 4-bit weights do "
                "not allow.",
                "Set model.method = 'lora', or take rl.algorithm = 'rloo'.",
            )
        ]
    return []


def _impossible_rl(recipe: Recipe) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if not recipe.rewards:
        found.append(
            (
                "rewards is missing.",
                "Without a reward there is nothing to reinforce.",
                'Add a [[rewards]] table, for example kind = "math_answer".',
            )
        )
    elif all(reward.weight == 0 for reward in recipe.rewards):
        found.append(("every reward has weight 0.", "Their sum is always 0.", "Give one a weight."))
    batch = recipe.training.batch_size * recipe.training.gradient_accumulation
    if recipe.rl.algorithm != "ppo" and batch % recipe.rl.group_size:
        found.append(
            (
                f"training.batch_size times gradient_accumulation = {batch} cannot be split into "
                f"groups of rl.group_size = {recipe.rl.group_size}.",
                "Each prompt is answered group_size times within one step.",
                f"Set training.batch_size to a multiple of {recipe.rl.group_size}.",
            )
        )
    high = recipe.rl.clip_epsilon_high
    if high and high < recipe.rl.clip_epsilon:
        found.append(
            (
                f"rl.clip_epsilon_high = {high} lies below rl.clip_epsilon.",
                "Clip-higher leaves more room upwards, not less.",
                "Raise it, or set it to 0 to clip evenly.",
            )
        )
    return found


_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")
_PATH = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")


def refusal_of(message: str, where: str) -> Refusal:
    """Turns msgspec's message into the key's path and what to write instead."""
    at = _PATH.search(message)
    path = at["path"] if at else ""
    problem = _PATH.sub("", message)
    unknown = _UNKNOWN.search(problem)
    if unknown is None:
        return Refusal(
            f"{where}: {path or 'the file'} is not usable.", f"{problem}.", _expected(path)
        )
    key = unknown["key"]
    full = f"{path}.{key}" if path else key
    known = _keys_at(path)
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(known)}."
    return Refusal(f"{where}: there is no key '{full}'.", "It may be misspelt.", remedy)


_SECTIONS: dict[str, type[Section]] = {
    "": Recipe,
    "model": Model,
    "lora": Lora,
    "data": Source,
    "training": Training,
    "preference": Preference,
    "rl": RL,
    "distill": Distill,
    "evaluation": Evaluation,
    "evaluation.gate": Gate,
}


def sections() -> dict[str, type[Section]]:
    """The recipe's tables by key path, the top level under the empty path."""
    return dict(_SECTIONS)


def _keys_at(path: str) -> list[str]:
    table = _table(path)
    if table == "rewards":
        kinds = [msgspec.structs.fields(kind) for kind in KINDS.values()]
        return ["kind", *dict.fromkeys(field.name for fields in kinds for field in fields)]
    return [field.name for field in msgspec.structs.fields(_SECTIONS.get(table, Recipe))]


def _table(path: str) -> str:
    """The path without the numbers of list items, and without the pipeline's stage."""
    return re.sub(r"\[[^]]*\]", "", path).removeprefix("stages").removeprefix(".")


def _expected(path: str) -> str:
    from workers.protocol.options import options_of

    table, _, key = _table(path).rpartition(".")
    if (table, key) == ("rewards", "kind"):
        return f"Known kinds: {', '.join(KINDS)}."
    for declared in options_of(_SECTIONS.get(table, Recipe)):
        if declared.key == key:
            return f"{declared.label}: {declared.help} Its default is {declared.default!r}."
    return "See the table of options in README.md."
