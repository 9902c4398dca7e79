"""LLaMA-Factory's datasets: names in dataset_info.json, which says where and how they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from studio.importing.account import CHOOSE_DATA, Account
from studio.importing.datasets import BEYOND_REACH, USUAL, found_beside, source_of
from studio.importing.models import not_text
from studio.importing.settings import mixed
from workers.protocol.recipe import Column

INFO = "dataset_info.json"
MOST_BYTES = 4 << 20
COLUMNS: dict[str, Column] = {
    "prompt": "prompt", "query": "prompt", "response": "completion", "system": "system",
    "messages": "messages", "tools": "tools", "chosen": "chosen", "rejected": "rejected",
    "kto_tag": "label",
}  # fmt: skip
"""Its words for columns to ours."""
SENSES = ("images", "videos", "audios")
Info = dict[str, Any]


def carry_datasets(account: Account) -> None:
    """The datasets named, by dataset_info.json where it is found.

    Raises:
        Unfit: one holds pictures or sound.
    """
    names = account.names("dataset")
    if not names:
        account.lack("data", "The config names no dataset.", "It has no key dataset.",
                     CHOOSE_DATA)  # fmt: skip
        return
    info, folder = _info(account)
    if account.get("max_samples") is not None:
        account.keep("max_samples", "data.limit: so many rows, spread over the whole set")
    missing = [name for name in names if name not in info]
    if missing:
        account.lack(
            "data", f"Where the data {', '.join(missing)} lies is not known.",
            f"LLaMA-Factory looks it up in {folder / INFO}, which "
            f"{'does not name it' if info else 'is not there'}.",
            f"Put that file beside the config. {CHOOSE_DATA}",
        )  # fmt: skip
        account.change("dataset", "to be named by file or id")
        return
    sources = [_source(account, name, info[name], folder) for name in names]
    _carry_shares(account, sources)
    account.keep("dataset", ", ".join(one["source"] for one in sources))
    mixed(account, "dataset", sources)
    _carry_test(account, info, folder)


def _info(account: Account) -> tuple[Info, Path]:
    """What dataset_info.json says, and the folder that it lies in."""
    named = account.text("dataset_dir") or "data"
    if account.get("dataset_dir") is not None:
        account.keep("dataset_dir", "where the data is looked up")
    folder = Path(found_beside(named, account.path))
    path = folder / INFO
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}, folder
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}, folder
    entries = found if isinstance(found, dict) else {}
    return {name: one for name, one in entries.items() if isinstance(one, dict)}, folder


def _source(account: Account, name: str, entry: Info, folder: Path) -> dict[str, Any]:
    """One dataset as a recipe's table."""
    columns = entry.get("columns")
    columns = columns if isinstance(columns, dict) else {}
    if any(columns.get(sense) for sense in SENSES):
        raise not_text(f"The config trains on pictures or sound: the data {name} has some.")
    if isinstance(entry.get("hf_hub_url"), str):
        made = source_of(account, entry["hf_hub_url"],
                         str(entry.get("subset") or ""), str(entry.get("split") or ""),
                         split_key=f"{name} in {INFO}")  # fmt: skip
    elif isinstance(entry.get("file_name"), str):
        made: dict[str, Any] = {"source": str(folder / entry["file_name"])}
    else:
        made = {"source": name}
        account.lack("data", f"The data {name} comes by a script or from another hub.",
                     BEYOND_REACH, f"Fetch it. {CHOOSE_DATA}")  # fmt: skip
    most = account.whole("max_samples") or entry.get("num_samples")
    if isinstance(most, int) and most > 0:
        made["limit"] = most
    return made | _mapping(columns, account.held("stage") == "cpt")


def _mapping(columns: Info, plain_text: bool) -> dict[str, Any]:
    """The mapping of columns that it names; none where their names are known anyway.

    Args:
        plain_text: whether the stage reads nothing but text, which it calls the prompt.
    """
    ours_of: dict[str, Column] = {"prompt": "text"} if plain_text else COLUMNS
    named = {
        columns[its]: ours for its, ours in ours_of.items() if isinstance(columns.get(its), str)
    }
    usual = all(theirs in USUAL.get(ours, ()) for theirs, ours in named.items())
    return {} if usual else {"mapping": named}


def _carry_shares(account: Account, sources: list[dict[str, Any]]) -> None:
    """The shares of a mixture, where they are asked for."""
    shares = [float(one) for one in account.names("interleave_probs") if _is_number(one)]
    if account.get("mix_strategy") is not None:
        account.keep("mix_strategy", "datasets are mixed by data.weight")
    if account.get("interleave_probs") is None:
        return
    if len(shares) != len(sources) or not all(shares):
        account.change("interleave_probs", "they are not one a dataset; all weigh the same")
        return
    for one, share in zip(sources, shares, strict=True):
        one["weight"] = share
    account.keep("interleave_probs", "data.weight")


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < 1e9
    except ValueError:
        return False


def _carry_test(account: Account, info: Info, folder: Path) -> None:
    """Its dataset for evaluation, the first where there are several."""
    names = account.names("eval_dataset")
    if not names:
        return
    if names[0] not in info:
        account.change("eval_dataset", "where it lies is not known; a share is held out instead")
        return
    source = _source(account, names[0], info[names[0]], folder)["source"]
    account.carry("eval_dataset", "evaluation.test", source)
    if len(names) > 1:
        account.change("eval_dataset", "one test set is measured on, the first", "evaluation.test",
                       source)  # fmt: skip
