"""How a dataset or a model is named: built in, by a file's ending, or by an id on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Kind = Literal["json", "csv", "parquet", "arrow", "text"]
BUILTIN = "builtin:"
KINDS: dict[str, Kind] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
}
"""What a file holds, by its ending."""
PACKED = (".gz", ".zst")
ACCEPTED = f"{', '.join(KINDS)}, each also with {' or '.join(PACKED)}"
PATTERNS = " ".join(f"*{ending}" for ending in (*KINDS, *PACKED))
"""For a dialog that asks for a data file."""
HUB_DATASET = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?"
)
"""org/name, org/name:split or org/name:config:split."""
HUB_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def kind_of_file(path: Path) -> Kind | None:
    """What a file holds by its name; None where the name does not tell."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def short_name(source: str) -> str:
    """A dataset as a person calls it: of a path on this disk the last part alone."""
    return Path(source).name if Path(source).is_absolute() else source


def on_hub(source: str) -> bool:
    """Whether a dataset's name can only be one on the hub; nothing is fetched to find out."""
    path = Path(source).expanduser()
    return (
        not source.startswith(BUILTIN)
        and HUB_DATASET.fullmatch(source) is not None
        and kind_of_file(path) is None
        and not path.exists()
    )
