"""A config of LLaMA-Factory's new trainers (v1) as a recipe: llamafactory/v1/config.

Its stage is not in the file but in the command; the datasets' converter tells pairs from answers.
"""

from __future__ import annotations

from typing import Any

from studio.importing.account import CHOOSE_DATA, Account, Plain, Unfit
from studio.importing.datasets import found_beside, source_of
from studio.importing.llama_factory import PREFERENCE
from studio.importing.models import carry_base, not_text
from studio.importing.reasons import COMMON, LLAMA_FACTORY_V1, NOT_GONE_ON_WITH
from studio.importing.settings import (
    carry_length,
    carry_targets,
    carry_too_long,
    fit_to_stage,
)
from studio.importing.yaml_file import read_yaml
from workers.protocol.refusal import Refusal

LOSSES = {"sigmoid": "dpo", "orpo": "orpo", "simpo": "simpo"}
PLAIN = (
    Plain("learning_rate", "training.learning_rate", "number", 1e-4),
    Plain("micro_batch_size", "training.batch_size", "whole", 1),
    Plain("cutoff_len", "training.max_length", "whole", 2048),
    Plain("max_grad_norm", "training.max_grad_norm", "number", 1.0),
    Plain("seed", "training.seed", "whole", 42),
    Plain("save_steps", "training.save_every_steps", "whole"),
)
ADAPTER = (
    Plain("peft_config.r", "lora.rank", "whole", 8),
    Plain("peft_config.lora_alpha", "lora.alpha", "whole", 16),
    Plain("peft_config.lora_dropout", "lora.dropout", "number", 0.0),
)


def is_it(given: dict[str, object]) -> bool:
    """Whether a config's keys are those of LLaMA-Factory's new trainers."""
    marks = {"train_dataset", "peft_config", "model_class", "dist_config", "kernel_config"}
    return isinstance(given.get("model"), str) and bool(marks & set(given))


def translate(account: Account) -> None:
    """Fills the account's tables and items from a v1 config.

    Raises:
        Unfit: no recipe can be made of it.
    """
    if account.text("model_class") == "other":
        raise not_text("The config trains on pictures or sound: its model_class is other.")
    if account.text("train_dataset") == "" and account.get("learning_rate") is None:
        raise Unfit("not training", "This config names no data and no learning rate.",
                    "It merges an adapter or talks to a model.",
                    "Give a config for training.")  # fmt: skip
    carry_base(account, "model")
    if account.get("model_class") is not None:
        account.keep("model_class", "found from the model's own files")
    _carry_method(account)
    converters = _carry_data(account)
    _carry_stage(account, converters)
    carry_length(account, "num_train_epochs", "max_steps", 3.0)
    account.plain(PLAIN)
    _carry_batch(account)
    account.put("training.scheduler", "linear")
    account.put("training.warmup_ratio", 0.0)
    account.put("evaluation.holdout", 0.0)
    precise = account.switch("bf16")
    account.carry("bf16", "training.precision", "fp32" if precise is False else "auto")
    kept = account.switch("enable_activation_checkpointing")
    account.carry("enable_activation_checkpointing", "training.gradient_checkpointing",
                  kept is not False)  # fmt: skip
    carry_too_long(account, "cut")
    fit_to_stage(account, "micro_batch_size", "quant_config.quantization_bit")
    account.finish((*LLAMA_FACTORY_V1, *COMMON))


def _carry_method(account: Account) -> None:
    name = account.text("peft_config.name")
    four = account.whole("quant_config.quantization_bit") == 4
    if not name:
        account.carry("peft_config", "model.method", "full")
    elif name == "lora":
        account.carry("peft_config.name", "model.method", "qlora" if four else "lora")
        account.plain(ADAPTER)
        carry_targets(account, "peft_config.target_modules", False, ("all",))
    else:
        account.change("peft_config.name", f"{name} is not offered: a LoRA adapter is trained",
                       "model.method", "lora")  # fmt: skip
    if four:
        told = account.keep if name == "lora" else account.change
        told("quant_config.quantization_bit", "model.method says so" if name == "lora" else
             "all weights are trained, so they are held in 16 bits")  # fmt: skip
    if account.text("peft_config.adapter_name_or_path"):
        account.change("peft_config.adapter_name_or_path", NOT_GONE_ON_WITH)  # fmt: skip


def _carry_data(account: Account) -> set[str]:
    """The datasets of the file that train_dataset names; returns their converters."""
    named = account.text("train_dataset")
    path = found_beside(named, account.path)
    if not named:
        account.lack("data", "The config names no dataset.", "It has no train_dataset.",
                     CHOOSE_DATA)  # fmt: skip
        return set()
    if not named.endswith((".yaml", ".yml")):
        account.put("data", [source_of(account, path)])
        account.keep("train_dataset", f"data.source = {path}")
        return set()
    try:
        entries = read_yaml(type(account.path)(path)).tables
    except Refusal as refusal:
        account.lack("data", f"The datasets of {named} are not known.", refusal.what,
                     f"Put that file beside the config. {CHOOSE_DATA}")  # fmt: skip
        account.change("train_dataset", "to be named by file or id")
        return {"pair"} if "dpo" in named else set()
    sources = [_source(account, name, one) for name, one in entries.items()]
    account.put("data", sources)
    account.keep("train_dataset", ", ".join(one["source"] for one in sources))
    return {str(one.get("converter")) for one in entries.values() if isinstance(one, dict)}


def _source(account: Account, name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise Unfit("data", f"The dataset {name} names no path.", "Its entry is no table with one.",
                    "Add a path to it.")  # fmt: skip
    if "multimodal" in name or "multimodal" in entry["path"]:
        raise not_text(f"The config trains on pictures or sound: the data {name} has some.")
    path = found_beside(entry["path"], account.path)
    made = source_of(account, path, split=str(entry.get("split") or ""), split_key=f"{name}.split")
    for theirs, ours, kind in (("size", "limit", int), ("weight", "weight", float)):
        if isinstance(entry.get(theirs), kind | int):
            made[ours] = kind(entry[theirs])
    return made


def _carry_stage(account: Account, converters: set[str]) -> None:
    loss = account.text("pref_loss")
    if "pair" in converters or loss:
        account.carry("pref_loss", "stage", LOSSES.get(loss or "sigmoid", "dpo"))
        account.plain(PREFERENCE)
    elif account.text("model_class") == "cls":
        account.carry("model_class", "stage", "reward")
    else:
        account.put("stage", "sft")


def _carry_batch(account: Account) -> None:
    """Batches added up, from the size of the whole step."""
    whole = account.whole("global_batch_size")
    each = account.held("training.batch_size", 1)
    if whole:
        account.carry(
            "global_batch_size", "training.gradient_accumulation", max(1, whole // max(1, each))
        )
