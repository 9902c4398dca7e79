"""How the three programs name datasets, as a recipe's source: on the hub, on this disk, in part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.importing.account import Account
from workers.protocol.recipe import Column
from workers.protocol.sources import HUB_DATASET, kind_of_file

OWNERS = {
    "wikitext": "Salesforce/wikitext", "c4": "allenai/c4", "imdb": "stanfordnlp/imdb",
    "gsm8k": "openai/gsm8k", "squad": "rajpurkar/squad", "xsum": "EdinburghNLP/xsum",
    "ag_news": "fancyzhx/ag_news", "samsum": "Samsung/samsum",
    "openwebtext": "Skylion007/openwebtext",
}  # fmt: skip
"""Datasets of old that had no owner in their name, and whose they are on the hub now."""
SLICE = re.compile(r"(?P<split>[\w.-]+)\[(?P<first>\d*%?):(?P<last>-?\d*%?)\]")
SPLIT = re.compile(r"[\w.-]+")
BEYOND_REACH = "Data is read from this disk or from the Hugging Face hub, and by no script."
BEYOND = ("s3://", "gs://", "gcs://", "az://", "abfs://", "oci://", "http://", "https://")
USUAL: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "text": ("text", "content"),
    "prompt": ("prompt", "instruction", "question", "input", "query"),
    "completion": ("output", "completion", "response"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "system": ("system", "system_prompt"),
    "tools": ("tools",),
    "label": ("label", "kto_tag"),
}
"""Names of columns that are found without a mapping."""


def source_of(
    account: Account, path: str, config: str = "", split: str = "", *, split_key: str = ""
) -> dict[str, Any]:
    """A dataset as a recipe's table, with what of it is asked for.

    Args:
        path: a file, a folder or an id on the hub.
        config: of a dataset on the hub.
        split: perhaps a slice, as in train[:1000].
        split_key: where the split stands, to tell what cannot be asked for.
    """
    name = OWNERS.get(path, path)
    made: dict[str, Any] = {}
    sliced = SLICE.fullmatch(split)
    if sliced:
        split = sliced["split"]
        made |= _limit(account, split_key, sliced["first"], sliced["last"])
    elif split and not SPLIT.fullmatch(split):
        account.change(split_key, "only whole splits can be asked for; its own is taken")
        split = ""
    if on_hub(name):
        split = split or ("train" if config else "")
        name = ":".join(part for part in (name, config, split) if part)
    return {"source": name, **made}


def keep_parts(account: Account, source: str, *part_keys: str) -> None:
    """Accounts for the keys of a configuration and a split, where nothing was said of them."""
    why = "part of data.source" if on_hub(source) else "a file is read whole"
    for key in part_keys:
        if account.get(key) is not None and not account.is_told(key):
            account.keep(key, why)


def _limit(account: Account, key: str, first: str, last: str) -> dict[str, Any]:
    """Rows at most for a slice that begins at the first row."""
    if first in ("", "0", "0%") and last.isdecimal() and int(last):
        account.change(key, f"data.limit = {last}: so many rows, spread over the whole set")
        return {"limit": int(last)}
    account.change(key, "a share of the rows cannot be asked for; data.limit bounds their number")
    return {}


def on_hub(name: str) -> bool:
    """Whether a name is an id on the hub and no path."""
    return (
        HUB_DATASET.fullmatch(name) is not None
        and kind_of_file(Path(name)) is None
        and not name.startswith((".", "/", "~"))
        and not exists(name)
    )


def exists(name: str | Path) -> bool:
    """Whether a path is there; False where it cannot even be one."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, no such user's home, a null byte
        return False


def found_beside(name: str, config: Path) -> str:
    """A path of a config as a path on this disk: from its folder, from here, or from above it.

    Other programs are started in the folder that their examples' paths begin in.
    """
    beside, *above = config.resolve().parents[:4]
    if not name or name.startswith("~"):
        return name
    for folder in (beside, Path.cwd(), *above):
        path = folder / name
        if exists(path):
            return str(path)
    return name


def tell_missing(account: Account, key: str, source: str) -> None:
    """Says that a file is not there, where a source can only be one."""
    if not on_hub(source) and ":" not in source and not exists(source):
        account.tell(key, f"there is no file at {source} yet")


def mapped(account: Account, at: str, wanted: Mapping[str, Column]) -> dict[str, Any]:
    """The mapping for columns that the config names; none where their names are known anyway.

    Args:
        at: the key of the dataset.
        wanted: the config's key of each column, below `at`, to ours.
    """
    named = {key: column for key, column in wanted.items() if account.text(f"{at}.{key}")}
    needed = any(
        account.text(f"{at}.{key}") not in USUAL.get(column, ()) for key, column in named.items()
    )
    mapping: dict[str, str] = {}
    for key, column in named.items():
        theirs = account.text(f"{at}.{key}")
        if needed:
            mapping[theirs] = column
            account.keep(f"{at}.{key}", f"data.mapping: {theirs} is {column}")
        else:
            account.keep(f"{at}.{key}", f"{theirs} is found by its name")
    return {"mapping": mapping} if mapping else {}
