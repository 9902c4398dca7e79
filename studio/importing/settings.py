"""What the three programs word differently and mean alike: schedule, precision, adapter, masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.importing.account import Account
from studio.importing.datasets import tell_missing
from workers.protocol.stages import spec_of

TOO_LONG = "rows that are too long"
"""What stands for a key where a program has none for it."""
SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant"}
NEAREST = {"constant_with_warmup": ("constant", "constant has no warm-up here")}
PRECISIONS = {
    "bf16": "bf16", "bfloat16": "bf16", "pure_bf16": "bf16", "fp16": "fp16", "float16": "fp16",
    "float32": "fp32",
}  # fmt: skip
"""Switches of which one is on, and what it stands for."""


def carry_length(account: Account, epochs: str, steps: str, default_epochs: float) -> None:
    """How long it trains: steps where they are given, else epochs."""
    most = account.whole(steps)
    passes = account.number(epochs)
    if most is not None and most > 0:
        account.carry(steps, "training.max_steps", most)
        if passes is not None:
            account.keep(epochs, f"{steps} decides")
        return
    if most is not None:
        account.keep(steps, f"{epochs} decides")
    account.put("training.max_steps", 0)
    account.carry(epochs, "training.epochs", default_epochs if passes is None else passes)


def carry_warmup(account: Account, ratio: str, steps: str, default: float) -> None:
    """The share of steps in which the rate climbs; steps are one where their number is known."""
    count, share = account.number(steps), account.number(ratio)
    if not count:
        account.carry(ratio, "training.warmup_ratio", default if share is None else share)
        if count is not None:
            account.keep(steps, f"{ratio} decides" if share is not None else "no warm-up")
        return
    if share is not None:
        account.keep(ratio, f"{steps} decides")
    total = account.held("training.max_steps", 0)
    if count < 1:
        account.carry(steps, "training.warmup_ratio", count)
    elif total:
        made = min(round(count / total, 4), 0.99)
        account.change(steps, f"{count:g} of {total} steps", "training.warmup_ratio", made)
    else:
        account.change(
            steps, f"{count:g} steps, as a share of a number that is not known yet; 0.05 is usual",
            "training.warmup_ratio", 0.05,
        )  # fmt: skip


def carry_scheduler(account: Account, key: str, default: str) -> None:
    given = account.text(key).lower() or default
    if given in SCHEDULERS:
        account.carry(key, "training.scheduler", SCHEDULERS[given])
        return
    taken, why = NEAREST.get(given, ("cosine", f"{given} is not offered"))
    account.change(key, why, "training.scheduler", taken)


def carry_precision(account: Account) -> None:
    """One of bf16, fp16 and fp32, as switches say; auto where none is on."""
    for key, kind in PRECISIONS.items():
        value = account.get(key)
        if value == "auto" or account.switch(key):
            account.carry(key, "training.precision", "auto" if value == "auto" else kind)
        elif value is not None:
            account.keep(key, "off")


def carry_targets(account: Account, key: str, linear: bool, everything: tuple[str, ...]) -> None:
    """The layers that get an adapter: names, or all linear ones.

    Args:
        linear: whether another key asks for all linear layers.
        everything: words of that program for all linear layers.
    """
    value = account.get(key)
    if value is None:
        return
    if isinstance(value, str) and set(value) & set("\\[(*+"):
        account.change(
            key, "layers by a regular expression are not offered; all linear ones of the "
            "language model are adapted", "lora.targets", "all-linear",
        )  # fmt: skip
        return
    names = account.names(key)
    if linear or set(names) & set(everything):
        account.carry(key, "lora.targets", "all-linear")
    else:
        account.carry(key, "lora.targets", ",".join(names))


def carry_template(account: Account, key: str, known: Mapping[str, str]) -> None:
    """The chat template by that program's name for it; the model's own where we have none so."""
    given = account.text(key)
    if not given:
        return
    name = known.get(given, "auto")
    if name != "auto" or given in known:
        account.carry(key, "model.template", name)
    else:
        account.change(
            key, f"there is no template {given} here; the model's own is taken, chatml where it "
            "has none", "model.template", "auto",
        )  # fmt: skip


def carry_too_long(account: Account, value: str, key: str = TOO_LONG) -> None:
    """What that program does with rows that are too long; plain text is split anyway."""
    if account.held("stage") != "cpt":
        account.carry(key, "training.too_long", value)


def carry_thinking(account: Account, key: str, on: bool | None) -> None:
    """Whether the chat template is told to let the model think."""
    if on is not None:
        account.carry(key, "model.thinking", "on" if on else "off")


def carry_holdout(account: Account, key: str, default: float = 0.0) -> None:
    """The share held out; a number of rows bounds how many are measured."""
    given = account.number(key)
    given = default if given is None else given
    if given < 0.9:
        account.carry(key, "evaluation.holdout", given)
        return
    account.put("evaluation.max_rows", max(1, int(given)))
    account.change(
        key, f"{given:g} rows; a share is held out here, and at most so many are measured",
        "evaluation.holdout", 0.1,
    )  # fmt: skip


def fit_to_stage(account: Account, batch_key: str, method_key: str) -> None:
    """Brings together what a recipe does not allow side by side, and says so.

    Args:
        batch_key: the key of the batch size.
        method_key: the key that asks for 4-bit weights.
    """
    spec = spec_of(account.held("stage", "sft"))
    if not spec.talks and account.held("model.method") == "qlora":
        account.change(
            method_key, "a reward model's one output is trained in full, which 4-bit weights do "
            "not allow", "model.method", "lora",
        )  # fmt: skip
    each = account.held("training.batch_size", 1)
    sums = account.held("training.gradient_accumulation", 1)
    least, group = spec.smallest_batch, account.held("rl.group_size", 8)
    if min(each, sums, group) < 1:
        return  # the check names what is out of bounds
    if each < least:
        _set_batch(account, batch_key, least, max(1, each * sums // least),
                   f"{spec.short} needs {least} examples or more at once")  # fmt: skip
    elif spec.grouped and each * sums % group:
        more = next(one for one in range(sums, sums + group) if each * one % group == 0)
        _set_batch(account, batch_key, each, more,
                   f"a step has to hold whole groups of {group} answers")  # fmt: skip


def _set_batch(account: Account, key: str, each: int, sums: int, why: str) -> None:
    account.put("training.gradient_accumulation", sums)
    account.change(key, f"{why}: {each} × {sums}", "training.batch_size", each)


def mixed(account: Account, key: str, sources: list[dict[str, Any]]) -> None:
    """Puts the datasets in, telling that several are mixed by weight and not joined."""
    once = [one for at, one in enumerate(sources) if one not in sources[:at]]
    account.put("data", once)
    for one in once:
        tell_missing(account, key, one["source"])
    if len(once) < len(sources):
        account.tell(key, "a dataset is named twice; it is taken once")
    if len(once) > 1:
        account.tell(
            key, "several datasets are joined there; here each has a share of the mixture: "
            "data.weight, 1 for all",
        )  # fmt: skip
