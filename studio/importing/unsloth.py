"""An Unsloth Studio config as a recipe: studio/backend/models/training.py, commit 015bdef0d9.

Three forms of it are known: whole configs (`unsloth train --config`), the settings that its window
saves for a model, which name neither data nor model, and the flat request by which it starts a run.
"""

from __future__ import annotations

from typing import Any

from studio.importing.account import CHOOSE_DATA, Account, Plain
from studio.importing.datasets import BEYOND_REACH, found_beside, keep_parts, source_of
from studio.importing.methods import Keys, carry_methods
from studio.importing.models import carry_base, check_text, not_text
from studio.importing.reasons import COMMON, UNSLOTH
from studio.importing.settings import (
    carry_length,
    carry_scheduler,
    carry_targets,
    carry_too_long,
    carry_warmup,
    fit_to_stage,
    mixed,
)
from workers.protocol.recipe import Column

NAME = "Unsloth Studio"
SETTINGS_OF = "Model defaults for "
PLAIN = (
    Plain("training.learning_rate", "training.learning_rate", "number", 2e-4),
    Plain("training.max_seq_length", "training.max_length", "whole", 2048),
    Plain("training.random_seed", "training.seed", "whole", 3407),
    Plain("training.max_grad_norm", "training.max_grad_norm", "number"),
    Plain("training.save_steps", "training.save_every_steps", "whole"),
    Plain("training.packing", "training.packing", "switch", False),
    Plain("training.gradient_checkpointing", "training.gradient_checkpointing", "switch", True),
    Plain("lora.lora_dropout", "lora.dropout", "number", 0.0),
    Plain("lora.lora_alpha", "lora.alpha", "whole", 16),
)
OF_FILES = (
    Plain("training.batch_size", "training.batch_size", "whole", 2),
    Plain("training.gradient_accumulation_steps", "training.gradient_accumulation", "whole", 4),
    Plain("training.weight_decay", "training.weight_decay", "number", 0.01),
    Plain("lora.lora_r", "lora.rank", "whole", 64),
)
"""Where a config file's defaults and a request's differ."""
OF_REQUESTS = (
    Plain("training.batch_size", "training.batch_size", "whole", 1),
    Plain("training.gradient_accumulation_steps", "training.gradient_accumulation", "whole", 1),
    Plain("training.weight_decay", "training.weight_decay", "number", 0.001),
    Plain("lora.lora_r", "lora.rank", "whole", 16),
)
METHODS = Keys(
    optimizer="training.optim", rslora="lora.use_rslora",
    embedding_rate="training.embedding_learning_rate",
)  # fmt: skip
FLAT: dict[str, tuple[str, ...]] = {
    "data": ("hf_dataset", "local_datasets", "local_eval_datasets", "format_type", "subset",
             "train_split", "eval_split", "dataset_slice_start", "dataset_slice_end",
             "custom_format_mapping"),
    "training": ("training_type", "load_in_4bit", "max_seq_length", "num_epochs", "learning_rate",
                 "batch_size", "gradient_accumulation_steps", "warmup_steps", "warmup_ratio",
                 "max_steps", "save_steps", "weight_decay", "max_grad_norm", "random_seed",
                 "packing", "optim", "lr_scheduler_type", "eval_steps", "gradient_checkpointing",
                 "train_on_completions", "embedding_learning_rate"),
    "lora": ("use_lora", "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora",
             "use_loftq", "use_dora", "finetune_vision_layers", "finetune_language_layers",
             "finetune_attention_modules", "finetune_mlp_modules"),
}  # fmt: skip
"""Of the flat request, the keys of each section."""
ROLES: dict[str, Column] = {"user": "prompt", "assistant": "completion", "system": "system",
                            "text": "text"}  # fmt: skip


def is_it(given: dict[str, object]) -> bool:
    """Whether a config's keys are Unsloth Studio's."""
    if "model_name" in given and ({"hf_dataset", "training_type", "local_datasets"} & set(given)):
        return True
    training = given.get("training")
    known = set(FLAT["training"])
    return isinstance(training, dict) and len(known & set(training)) >= 2


def nested(given: dict[str, Any]) -> dict[str, Any]:
    """The sections of a flat request; other configs as they are."""
    if "model_name" not in given:
        return given
    made = {key: value for key, value in given.items() if key != "model_name"}
    made["model"] = given["model_name"]
    for section, keys in FLAT.items():
        made[section] = {key: made.pop(key) for key in keys if key in made}
    return made


def model_of(name: str, text: str) -> str:
    """The model that saved settings are for: named in their first line, else by the file's name."""
    first = text.lstrip().partition("\n")[0]
    if SETTINGS_OF in first:
        named = first.partition(SETTINGS_OF)[2].partition(" ")[0].strip()
        owner, _, rest = name.partition("_")
        return named if "/" in named or not rest else f"{owner}/{rest}"
    return ""


def translate(account: Account) -> None:
    """Fills the account's tables and items from an Unsloth Studio config.

    Raises:
        Unfit: no recipe can be made of it.
    """
    _refuse_other_senses(account)
    carry_base(account, "model")
    _carry_method(account)
    _carry_data(account)
    request = "project_name" in account.given or account.get("data.hf_dataset") is not None
    carry_length(account, "training.num_epochs", "training.max_steps", 1.0 if request else 3.0)
    full = account.held("model.method") == "full"
    rows = (*PLAIN, *(OF_REQUESTS if request else OF_FILES))
    account.plain(row for row in rows if not full or not row.ours.startswith("lora."))
    _carry_rest(account)
    fit_to_stage(account, "training.batch_size", "training.load_in_4bit")
    account.finish((*UNSLOTH, *COMMON))


def _refuse_other_senses(account: Account) -> None:
    if account.text("audio_type") or account.get("is_dataset_audio"):
        raise not_text("The config trains on sound.")
    if account.get("is_dataset_image"):
        raise not_text("The config trains on pictures.")
    if account.get("is_embedding"):
        raise not_text("The config trains a model that makes vectors.")
    check_text(account.text("model"))


def _carry_method(account: Account) -> None:
    kind = account.text("training.training_type").lower()
    four = account.switch("training.load_in_4bit")
    full = kind.startswith("full")
    dora = account.switch("lora.use_dora")
    method = "full" if full else "qlora" if four is not False else "dora" if dora else "lora"
    account.carry("training.training_type", "model.method", method)
    if four is not None:
        account.keep("training.load_in_4bit", "model.method says so")
    if dora is not None:
        told = account.change if dora and method != "dora" else account.keep
        told("lora.use_dora", f"model.method = {method}")
    account.put("stage", "cpt" if kind.startswith("continued") else "sft")
    if full:
        return
    if not account.names("lora.target_modules"):
        account.put("lora.targets", "all-linear")
    carry_targets(account, "lora.target_modules", False, ("all-linear",))


def _carry_data(account: Account) -> None:
    given = account.text("data.dataset") or account.text("data.hf_dataset")
    files = account.names("data.local_dataset") or account.names("data.local_datasets")
    if account.get("s3_config") is not None:
        account.lack("data", "The config reads its data from S3.", BEYOND_REACH,
                     f"Fetch it. {CHOOSE_DATA}")  # fmt: skip
        account.change("s3_config", "data is read from this disk or from the hub")
        return
    key = next((one for one in ("data.dataset", "data.hf_dataset", "data.local_dataset",
                                "data.local_datasets") if account.get(one)), "")  # fmt: skip
    if account.text("data.format_type") == "raw":
        account.carry("data.format_type", "stage", "cpt")
    elif account.get("data.format_type") is not None:
        account.keep("data.format_type", "rows are told by their columns")
    if not key:
        account.lack("data", "The config names no dataset.", "It holds settings alone.",
                     CHOOSE_DATA)  # fmt: skip
        return
    sources = [{"source": found_beside(file, account.path)} for file in files]
    if given:
        sources.insert(0, _from_hub(account, given))
    account.keep(key, ", ".join(one["source"] for one in sources))
    mapping = _mapping(account)
    mixed(account, key, [one | mapping for one in sources])
    if tests := account.names("data.local_eval_datasets"):
        account.carry("data.local_eval_datasets", "evaluation.test",
                      found_beside(tests[0], account.path))  # fmt: skip


def _from_hub(account: Account, name: str) -> dict[str, Any]:
    made = source_of(account, name, account.text("data.subset"), account.text("data.train_split"),
                     split_key="data.train_split")  # fmt: skip
    keep_parts(account, made["source"], "data.subset", "data.train_split")
    last = account.whole("data.dataset_slice_end")
    if last:
        made["limit"] = last + 1 - (account.whole("data.dataset_slice_start") or 0)
        account.change("data.dataset_slice_end", f"data.limit = {made['limit']}: so many rows, "
                       "spread over the whole set")  # fmt: skip
    return made


def _mapping(account: Account) -> dict[str, Any]:
    """Columns that were given roles; texts around them are told."""
    given = account.get("data.custom_format_mapping")
    if not isinstance(given, dict):
        return {}
    made: dict[str, Column] = {}
    for column, role in given.items():
        if column.startswith("__") or not isinstance(role, str) or role not in ROLES:
            account.change(f"data.custom_format_mapping.{column}", "not carried over")
        else:
            made[column] = ROLES[role]
            account.keep(f"data.custom_format_mapping.{column}", f"data.mapping: {ROLES[role]}")
    return {"mapping": made} if made else {}


def _carry_rest(account: Account) -> None:
    carry_scheduler(account, "training.lr_scheduler_type", "linear")
    carry_warmup(account, "training.warmup_ratio", "training.warmup_steps", 0.0)
    carry_methods(account, METHODS)
    carry_too_long(account, "cut")
    answers = account.switch("training.train_on_completions")
    account.carry("training.train_on_completions", "training.assistant_only_loss", bool(answers))
    account.put("evaluation.holdout", 0.0)
    if account.get("data.eval_split") is not None:
        source = account.held("data", [{}])[0].get("source", "")
        base = source.partition(":")[0]
        account.carry("data.eval_split", "evaluation.test",
                      f"{base}:{account.text('data.eval_split')}")  # fmt: skip
