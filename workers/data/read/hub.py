"""Datasets on the hub: which files belong to a split, and fetching those alone.

A source reads `org/name`, `org/name:split` or `org/name:config:split`. Only Parquet, JSON and CSV
files are fetched; a dataset that is a script is refused, for no code from the hub is run. Splits
and configurations are those of `datasets`; the hub's client keeps what the hub listed in its cache,
so that a dataset fetched once is found again without a network, and never in part.
"""

from __future__ import annotations

import glob
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workers.data.read.card import CARD, head_of
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
SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
DEFAULT_CONFIGS = ("default", "all", "main")
SHARD = re.compile(r"[-_.]?\d{5}-of-(\d{5})(-[0-9a-f]+)?$")
ANSWER_WITHIN_S = 30


class Wanted(msgspec.Struct, frozen=True):
    """What a source asks of the hub; what is empty is left to the dataset."""

    repository: str
    config: str = ""
    split: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.repository, self.config, self.split) if part)


class Config(NamedTuple):
    """A configuration as a card declares it."""

    patterns: dict[str, list[str]]
    """Of each split, the paths of its files, in which stars may stand."""
    default: bool


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
    from huggingface_hub import get_cached_repo_tree, snapshot_download

    say(f"Fetching the dataset {wanted} from the hub")
    at: dict[str, Any] = {"repo_id": wanted.repository, "repo_type": "dataset"}
    here: dict[str, Any] = {**at, "local_files_only": not _answers(wanted)}
    with _faults(wanted):
        folder = Path(snapshot_download(allow_patterns=[CARD], **here))
        at["revision"] = here["revision"] = folder.name
        listed = sorted(file.path for file in get_cached_repo_tree(**at))
    card = (folder / CARD).read_text("utf-8-sig", "replace") if CARD in listed else ""
    names = choose(wanted, listed, card)
    with _faults(wanted):
        snapshot_download(allow_patterns=[glob.escape(name) for name in names], **here)
    return folder, [folder / name for name in names]


@contextmanager
def _faults(wanted: Wanted) -> Iterator[None]:
    """What goes wrong on the way, in words for people."""
    from httpx import HTTPError
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        yield
    except (HTTPError, CachedRepoTreeNotFoundError, OSError, ValueError) as fault:
        raise _refused(wanted, fault) from fault


def _answers(wanted: Wanted) -> bool:
    """Whether the hub is within reach; raises `Refusal` where it does not give the dataset."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(wanted.repository, timeout=ANSWER_WITHIN_S)
    except (GatedRepoError, RepositoryNotFoundError) as fault:
        raise _refused(wanted, fault) from fault
    except Exception:
        return False
    return True


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
    configs = _configs(card)
    return _by_card(wanted, configs, data) if configs else _by_name(wanted, data)


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


def _configs(card: str) -> dict[str, Config]:
    """The configurations that a card declares with their files; none where it does so wrongly."""
    from datasets.data_files import sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    declared = head_of(card).get("configs")
    fields = ("config_name", "data_files", "default")
    try:
        configs = [{field: c[field] for field in fields if field in c} for c in declared or []]
        kept = MetadataConfigs.from_dataset_card_data(
            DatasetCardData(configs=[c for c in configs if c.get("data_files") is not None])
        )
        return {
            str(name): Config(sanitize_patterns(config["data_files"]), bool(config.get("default")))
            for name, config in kept.items()
        }
    except (ValueError, TypeError):
        return {}


def _by_card(wanted: Wanted, configs: dict[str, Config], data: list[str]) -> list[str]:
    marked = [name for name, config in configs.items() if config.default]
    name = wanted.config or _default_config(wanted, list(configs), marked)
    if name not in configs:
        raise _unknown(wanted, "configuration", name, list(configs))
    patterns = configs[name].patterns
    split = wanted.split or (next(iter(patterns)) if len(patterns) == 1 else "train")
    if split not in patterns:
        raise _unknown(wanted, "split", split, list(patterns))
    chosen = _splits(data, {split: patterns[split]})[split]
    if not chosen:
        raise _unknown(wanted, "file", ", ".join(map(str, patterns[split])), data)
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


def _by_name(wanted: Wanted, data: list[str]) -> list[str]:
    """The split's files by their names, as in data/train-00000-of-00002.parquet."""
    data = _in_folder(wanted, data) if wanted.config else _default_folder(wanted, data)
    splits = _named_splits(data)
    if not wanted.split and len(splits) == 1:
        return _one_kind(next(iter(splits.values())))
    split = wanted.split or "train"
    alike = [name for name in data if split in (_stem(name), split_of(name))]
    chosen = splits.get(split) or alike
    if not chosen:
        raise _unknown(wanted, "split", split, sorted({*map(_stem, data), *splits}))
    return _one_kind(chosen)


def _in_folder(wanted: Wanted, data: list[str]) -> list[str]:
    """The files in the folder that is called like the wanted configuration."""
    inside = [name for name in data if name.startswith(f"{wanted.config}/")]
    if not inside:
        folders = sorted({name.partition("/")[0] for name in data if "/" in name})
        raise _unknown(wanted, "configuration", wanted.config, folders)
    return inside


def _named_splits(data: list[str]) -> dict[str, list[str]]:
    """The splits that `datasets` sees in files' names, with two rules more for what is trained on:
    `train_sft` is no part of `train`, and where nothing is called train, it is what has no name."""
    splits: dict[str, list[str]] = {}
    for split, names in _splits(data).items():
        for name in names:
            named = split_of(name)
            splits.setdefault(split if named in ("", *SPLITS) else named, []).append(name)
    unnamed = set(data).difference(*splits.values())
    return splits if "train" in splits or not unnamed else {**splits, "train": sorted(unnamed)}


def _splits(
    data: Sequence[str], patterns: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """The files of each split, by a card's patterns or else by their names."""
    from datasets.data_files import get_data_patterns

    with _tree(data) as tree:
        try:
            patterns = patterns or get_data_patterns(tree)
        except ValueError:  # a name that `datasets` does not allow for a split
            patterns = {stem: [f"**/{glob.escape(stem)}*"] for stem in map(_stem, data)}
        return {
            str(split): [path for pattern in several for path in _matching(str(pattern), tree)]
            for split, several in patterns.items()
        }


def _matching(pattern: str, tree: str) -> list[str]:
    """The files of a tree that fit a pattern; none for one that leads out of it, to this disk or
    another address."""
    from datasets.data_files import resolve_pattern
    from datasets.utils.file_utils import is_relative_path

    if "::" in pattern or ".." in pattern.split("/") or not is_relative_path(pattern):
        return []
    try:
        paths = resolve_pattern(pattern, tree)
    except FileNotFoundError:
        return []
    return [path.partition(f"{Path(tree).name}/")[2] for path in paths]


@contextmanager
def _tree(names: Sequence[str]) -> Iterator[str]:
    """Files as an empty tree in memory, in which `datasets` looks as it does in a repository."""
    import fsspec

    memory, root = fsspec.filesystem("memory"), uuid.uuid4().hex
    for name in names:
        memory.pipe_file(f"/{root}/{name}", b"")
    try:
        yield f"memory://{root}"
    finally:
        memory.rm(f"/{root}", recursive=True)


def _default_folder(wanted: Wanted, data: list[str]) -> list[str]:
    """Without a configuration, folders that are neither `data` nor splits must not be mixed."""
    folders = sorted({name.rpartition("/")[0] for name in data})
    tops = {folder.partition("/")[0] for folder in folders}
    if len(tops) == 1 or all(top in ("", "data", *SPLITS) for top in tops):
        return data
    inner = [top for top in sorted(tops) if top and top not in ("data", *SPLITS)]
    if {"", "data"} & tops:
        return [name for name in data if name.partition("/")[0] not in inner]
    top = _default_config(wanted, inner, [])
    return [name for name in data if name.startswith(f"{top}/")]


def _stem(name: str) -> str:
    """A file's name without its ending and its shard number, which for most sets is the split."""
    last = name.rpartition("/")[2]
    ending = max((end for end in ENDINGS if last.lower().endswith(end)), key=len, default="")
    return SHARD.sub("", last[: len(last) - len(ending)])


def split_of(name: str) -> str:
    """The split that a file or its folder is named for: the known one, or with more behind it.

    `train` and `train-00000-of-00002` are `train`, but `train_sft` is a split of its own.
    """
    stem = _stem(name)
    for split in SPLITS:
        if re.fullmatch(rf"{split}[-_]?\d*", stem):
            return split
        if re.fullmatch(rf"{split}_\w+", stem):
            return stem
    words = re.split(r"[^A-Za-z]+", stem.lower())
    folders = name.lower().split("/")[:-1]
    return next((split for split in SPLITS if split in words or split in folders), "")


def _one_kind(names: list[str]) -> list[str]:
    """Files of the best kind alone, so that a set that offers two does not count its rows twice."""
    for ending in ENDINGS:
        chosen = sorted({name for name in names if name.lower().endswith(ending)})
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
