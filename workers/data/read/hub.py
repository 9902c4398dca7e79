"""Datasets on the hub: which files belong to a split, and fetching those alone.

A source reads `org/name`, `org/name:split` or `org/name:config:split`. Only Parquet, JSON and CSV
files are fetched; a dataset that is a script is refused, for no code from the hub is run. What
the hub listed is kept beside its own cache, so that a dataset fetched once is found again
without a network.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workers.protocol import wire
from workers.protocol.refusal import Refusal
from workers.protocol.sources import HUB_DATASET

ENDINGS = tuple(
    kind + packed
    for kind in (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
    for packed in ("", ".gz", ".zst")
)
"""Files that are fetched, the better kinds first: a set may offer the same rows in several."""
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",
         "config.json", "package.json"}  # fmt: skip
KNOWN_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
DEFAULT_CONFIGS = ("default", "all", "main")
SHARD = re.compile(r"[-_.]?\d{5}-of-(\d{5})(-[0-9a-f]+)?$")
CARD = "README.md"


class Wanted(msgspec.Struct, frozen=True):
    """What a source asks of the hub; what is empty is left to the dataset."""

    repository: str
    config: str = ""
    split: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.repository, self.config, self.split) if part)


class Listing(msgspec.Struct, frozen=True):
    """What the hub said that a dataset holds."""

    commit: str
    files: list[str]


def parse(source: str) -> Wanted | None:
    """A source as a name on the hub, or None where it cannot be one."""
    found = HUB_DATASET.fullmatch(source)
    if found is None:
        return None
    first, second = found["first"] or "", found["second"] or ""
    if second:
        return Wanted(found["repository"], first, second)
    return Wanted(found["repository"], split=first or _catalogued_split(source))


def _catalogued_split(source: str) -> str:
    from workers.protocol.catalogue import known_dataset
    from workers.protocol.recipe import Source

    entry = known_dataset(Source(source=source))
    return entry.split if entry else ""


def fetch(wanted: Wanted, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    """Brings the data files of a split; returns the folder they lie in, and the files in order.

    Raises:
        Refusal: there is no such dataset or split, it is gated or a script, or the hub is out of
            reach and the files are not here.
    """
    from huggingface_hub import hf_hub_download

    say(f"Fetching the dataset {wanted} from the hub")
    listing, online = _listing(wanted)
    at: dict[str, Any] = {
        "repo_id": wanted.repository, "repo_type": "dataset", "revision": listing.commit,
        "local_files_only": not online,
    }  # fmt: skip
    card = ""
    if CARD in listing.files:
        card = Path(_asked(wanted, lambda: hf_hub_download(filename=CARD, **at))).read_text(
            "utf-8", "replace"
        )
    names = choose(wanted, listing.files, card)
    files = [
        Path(_asked(wanted, lambda name=name: hf_hub_download(filename=name, **at)))
        for name in names
    ]
    folder = files[0].parents[names[0].count("/")]
    return folder, files


def _listing(wanted: Wanted) -> tuple[Listing, bool]:
    """The dataset's files as the hub lists them now, or listed them last; and whether it is now."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{wanted.repository.replace('/', '--')}"
    kept = folder / "listing.json"
    try:
        info = HfApi().dataset_info(wanted.repository, timeout=30)
    except (GatedRepoError, RepositoryNotFoundError) as fault:
        raise _refused(wanted, fault) from fault
    except Exception as fault:
        if not kept.is_file():
            raise _refused(wanted, fault) from fault
        return msgspec.json.decode(kept.read_bytes(), type=Listing), False
    names = [sibling.rfilename for sibling in info.siblings or []]
    listing = Listing(info.sha or "main", sorted(names))
    folder.mkdir(parents=True, exist_ok=True)
    wire.write_atomically(kept, msgspec.json.encode(listing))
    return listing, True


def _asked(wanted: Wanted, ask: Callable[[], str]) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return ask()
    except (HfHubHTTPError, OSError, ValueError) as fault:
        raise _refused(wanted, fault) from fault


def _refused(wanted: Wanted, fault: Exception) -> Refusal:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    name = wanted.repository
    if isinstance(fault, GatedRepoError):
        return Refusal(
            f"The dataset {name} asks for consent before it can be fetched.",
            "Its owner gates the files behind a licence.",
            "Accept the licence on the dataset's page, then sign in with: hf auth login",
        )
    if isinstance(fault, RepositoryNotFoundError):
        return Refusal(
            f"There is no file at {name}, and the hub has no dataset called so.",
            "The name may be misspelt, or the dataset is private.",
            "Check the name on the hub; for a private dataset sign in with: hf auth login",
        )
    return Refusal(
        f"The dataset {name} could not be fetched.",
        "There is no such file here, and the hub is out of reach or the connection broke off.",
        "Try again when the network is there; what was fetched is kept. Offline, use builtin: sets "
        "or files of your own.",
    )


# Which files


def choose(wanted: Wanted, files: Sequence[str], card: str = "") -> list[str]:
    """The data files of the wanted split, by the dataset's card or else by their names."""
    data = [name for name in files if _is_data(name)]
    if not data:
        raise _no_data(wanted, files)
    declared = _configs(card)
    if declared:
        return _by_card(wanted, declared, data)
    return _by_name(wanted, data)


def _is_data(name: str) -> bool:
    last = name.rpartition("/")[2]
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and last.lower().endswith(ENDINGS) and last not in ABOUT


def _no_data(wanted: Wanted, files: Sequence[str]) -> Refusal:
    if any(name.endswith(".py") for name in files):
        return Refusal(
            f"The dataset {wanted.repository} comes as a script.",
            "Code from the hub is never run.",
            "Look for a version of it in Parquet, or convert it elsewhere and name the file.",
        )
    return Refusal(
        f"The dataset {wanted.repository} holds no Parquet, JSON or CSV file.",
        f"It holds {', '.join(sorted(files)[:5]) or 'nothing'}.",
        "Choose another dataset, or convert it elsewhere and name the file.",
    )


def _configs(card: str) -> list[dict[str, Any]]:
    """The configurations that a dataset's card declares with their files."""
    import yaml

    found = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return []
    configs = head.get("configs") if isinstance(head, dict) else None
    if not isinstance(configs, list):
        return []
    return [c for c in configs if isinstance(c, dict) and c.get("data_files") is not None]


def _by_card(wanted: Wanted, configs: list[dict[str, Any]], data: list[str]) -> list[str]:
    names = {str(config.get("config_name", "default")): config for config in configs}
    marked = [name for name, config in names.items() if config.get("default") is True]
    name = wanted.config or _default_config(wanted, list(names), marked)
    if name not in names:
        raise _unknown(wanted, "configuration", name, list(names))
    splits = _declared_splits(names[name]["data_files"])
    split = wanted.split or ("train" if "train" in splits else next(iter(splits), ""))
    if len(splits) > 1 and not wanted.split and "train" not in splits:
        raise _unknown(wanted, "split", "train", list(splits))
    if split not in splits:
        raise _unknown(wanted, "split", split, list(splits))
    chosen = [name for name in data if any(_matches(name, path) for path in splits[split])]
    if not chosen:
        raise _unknown(wanted, "file", ", ".join(splits[split]), data)
    return _one_kind(chosen)


def _default_config(wanted: Wanted, names: list[str], marked: list[str]) -> str:
    likely = [*marked, *(name for name in DEFAULT_CONFIGS if name in names)]
    if likely or len(names) == 1:
        return (likely or names)[0]
    raise Refusal(
        f"The dataset {wanted.repository} has several configurations: {', '.join(names)}.",
        "None of them is the default.",
        f"Write which one and which split, for example {wanted.repository}:{names[0]}:train.",
    )


def _declared_splits(declared: Any) -> dict[str, list[str]]:
    """Split to path patterns; a card may give a path, a list of them, or splits with paths."""
    if isinstance(declared, str):
        return {"train": [declared]}
    splits: dict[str, list[str]] = {}
    for entry in declared if isinstance(declared, list) else []:
        if isinstance(entry, str):
            splits.setdefault("train", []).append(entry)
        elif isinstance(entry, dict):
            paths = entry.get("path", [])
            paths = [paths] if isinstance(paths, str) else paths
            splits.setdefault(str(entry.get("split", "train")), []).extend(map(str, paths))
    return splits


def _matches(name: str, pattern: str) -> bool:
    """Whether a path fits a card's pattern, in which a star stays within its folder."""
    if "**" not in pattern and name.count("/") != pattern.count("/"):
        return False
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(
        name, pattern.replace("**/", "")
    )


def _by_name(wanted: Wanted, data: list[str]) -> list[str]:
    """The split's files by their names, as in data/train-00000-of-00002.parquet."""
    if wanted.config:
        inside = [name for name in data if name.startswith(f"{wanted.config}/")]
        if not inside:
            folders = sorted({name.partition("/")[0] for name in data if "/" in name})
            raise _unknown(wanted, "configuration", wanted.config, folders)
        data = inside
    else:
        data = _default_folder(wanted, data)
    splits: dict[str, list[str]] = {}
    for name in data:
        splits.setdefault(split_of(name, KNOWN_SPLITS) or "train", []).append(name)
    if not wanted.split and len(splits) == 1:
        return _one_kind(data)
    exact = [name for name in data if _stem(name) == wanted.split]
    chosen = exact or splits.get(wanted.split or "train", [])
    if not chosen:
        known = sorted({_stem(name) for name in data} | set(splits))
        raise _unknown(wanted, "split", wanted.split or "train", known)
    return _one_kind(chosen)


def _default_folder(wanted: Wanted, data: list[str]) -> list[str]:
    """Without a configuration, folders that are neither `data` nor splits must not be mixed."""
    folders = sorted({name.rpartition("/")[0] for name in data})
    tops = {folder.partition("/")[0] for folder in folders}
    if len(tops) == 1 or all(top in ("", "data", *KNOWN_SPLITS) for top in tops):
        return data
    inner = [top for top in sorted(tops) if top and top not in ("data", *KNOWN_SPLITS)]
    if {"", "data"} & tops:
        return [name for name in data if name.partition("/")[0] not in inner]
    top = _default_config(wanted, inner, [])
    return [name for name in data if name.startswith(f"{top}/")]


def _stem(name: str) -> str:
    """A file's name without its ending and its shard number, which for most sets is the split."""
    last = name.rpartition("/")[2]
    ending = max((end for end in ENDINGS if last.lower().endswith(end)), key=len, default="")
    return SHARD.sub("", last[: len(last) - len(ending)])


def split_of(name: str, splits: Sequence[str]) -> str:
    """The split that a file or its folder is named for: the known one, or with more behind it.

    `train` and `train-00000-of-00002` are `train`, but `train_sft` is a split of its own.
    """
    stem = _stem(name)
    for split in splits:
        if re.fullmatch(rf"{split}[-_]?\d*", stem):
            return split
        if re.fullmatch(rf"{split}_\w+", stem):
            return stem
    words = re.split(r"[^A-Za-z]+", stem.lower())
    folders = name.lower().split("/")[:-1]
    return next((split for split in splits if split in words or split in folders), "")


def _one_kind(names: list[str]) -> list[str]:
    """Files of the best kind alone, so that a set that offers two does not count its rows twice."""
    for ending in ENDINGS:
        chosen = sorted(name for name in names if name.lower().endswith(ending))
        if chosen:
            return chosen
    return names


def _unknown(wanted: Wanted, what: str, name: str, known: list[str]) -> Refusal:
    shown = ", ".join(known[:12]) or "none"
    example = f"{wanted.repository}:{known[0]}" if known and what == "split" else "org/name:split"
    return Refusal(
        f"The dataset {wanted.repository} has no {what} called {name}.",
        f"It has: {shown}.",
        f"Write one of those, as in {example} or org/name:config:split.",
    )
