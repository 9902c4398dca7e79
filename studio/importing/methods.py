"""Optimizers, kinds of adapters and other methods, which the three programs call nearly alike."""

from __future__ import annotations

from typing import NamedTuple

from studio.importing.account import Account, Kind
from workers.protocol.stages import applies

OPTIMIZERS = {
    "adamw_torch": "auto", "adamw_torch_fused": "adamw_torch_fused", "adamw_hf": "auto",
    "adamw_8bit": "adamw_8bit", "adamw_bnb_8bit": "adamw_8bit", "adamw_torch_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "paged_adamw_32bit": "paged_adamw_8bit",
    "muon": "muon",
}  # fmt: skip
STARTS = {"true": "default", "gaussian": "gaussian", "olora": "olora", "pissa": "pissa"}


class Keys(NamedTuple):
    """What a program calls the methods; empty where it has no such key."""

    optimizer: str
    rslora: str = ""
    plus_ratio: str = ""
    modules: str = ""
    noise: str = "neftune_noise_alpha"
    by_length: str = "group_by_length"
    kept: str = "save_total_limit"
    embedding_rate: str = ""
    patience: str = ""
    best: str = "load_best_model_at_end"


def carry_methods(account: Account, keys: Keys) -> None:
    """Takes over what a recipe has too, once stage, method and measurements are known."""
    _carry_optimizer(account, keys.optimizer)
    if account.held("model.method") != "full":
        _carry(account, keys.rslora, "lora.rslora", "switch")
        _carry(account, keys.plus_ratio, "lora.plus_ratio", "number")
        _carry_modules(account, keys.modules)
    whole = account.held("model.method") == "full" or account.held("lora.modules_to_save")
    if whole:
        _carry(account, keys.embedding_rate, "training.embedding_learning_rate", "number")
    _carry(account, keys.noise, "training.neftune_noise_alpha", "number")
    if not account.held("training.packing"):
        _carry(account, keys.by_length, "training.group_by_length", "switch")
    _carry(account, keys.kept, "training.save_total_limit", "whole")
    if account.held("evaluation.every_steps") and not _nothing_held_out(account):
        _carry(account, keys.patience, "evaluation.early_stopping_patience", "whole")
        _carry(account, keys.best, "evaluation.keep_best", "switch")


def _nothing_held_out(account: Account) -> bool:
    share, test = account.held("evaluation.holdout", 0.1), account.held("evaluation.test")
    return not share and not test


def _carry(account: Account, key: str, ours: str, kind: Kind) -> None:
    """Takes one over where it is set and the stage has it."""
    stage = account.held("stage", "sft")
    if key and account.get(key) is not None and applies(ours, stage):
        account.carry(key, ours, getattr(account, kind)(key))


def _carry_modules(account: Account, key: str) -> None:
    if key and (names := account.names(key)):
        account.carry(key, "lora.modules_to_save", ", ".join(names))


def carry_start(account: Account, key: str) -> None:
    """How the adapter begins, by PEFT's names; plain over four bits, where it has to."""
    given = account.text(key).lower()
    start = STARTS.get("pissa" if given.startswith("pissa") else given)
    if not given or account.held("model.method") == "full":
        return
    if start is None:
        account.change(key, f"adapters do not begin by {given} here", "lora.init", "default")
    elif start in ("pissa", "olora") and account.held("model.method") != "lora":
        account.change(key, f"{start} goes with 16-bit weights and plain LoRA", "lora.init",
                       "default")  # fmt: skip
    else:
        account.carry(key, "lora.init", start)


def _carry_optimizer(account: Account, key: str) -> None:
    """AdamW in 32 or 8 bits, or Muon; any other becomes AdamW."""
    given = account.text(key)
    if not given:
        return
    if given == "paged_adamw_32bit":
        account.change(key, "its state is kept in 8 bits", "training.optimizer", OPTIMIZERS[given])
    elif given in OPTIMIZERS:
        account.carry(key, "training.optimizer", OPTIMIZERS[given])
    elif "adam" in given:
        account.change(key, f"AdamW in 32 bits instead of {given}: the same steps, more memory")
    else:
        account.change(key, f"AdamW instead of {given}: the learning rate may have to be another")
