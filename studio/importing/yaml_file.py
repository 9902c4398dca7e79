"""A YAML file by an unknown hand: its tables, or a refusal.

Read by PyYAML's safe loader, which makes plain values alone. Before anything is made, the file's
events are counted: aliases are counted as what they stand for, so that a small file cannot unfold
into a large one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from workers.protocol.refusal import Refusal

MOST_BYTES = 128 * 1024
MOST_NODES = 5_000
DEEPEST = 32
NO_CONFIG = "Give the YAML file that the other program trains by."


class YamlFile(NamedTuple):
    """What a file holds."""

    tables: dict[str, Any]
    repeated: list[str]
    """Keys that stand twice in one table; the last one counts."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which notes keys that stand twice; PyYAML passes over them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        again = {key for key, count in keys.items() if count > 1 and key != "<<"}
        self.repeated.extend(sorted(again.difference(self.repeated)))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> YamlFile:
    """The tables of a YAML file.

    Raises:
        Refusal: it cannot be read, is no YAML, is too large, too deep or unfolds into too much,
            makes other things than plain values, or is no table with names for keys.
    """
    text = _text_of(path)
    try:
        _measure(text, path)
        loader = _Loader(text)
        try:
            tables = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as fault:
        raise Refusal(
            f"{path} is not usable YAML.", f"{_one_line(fault)}.", "Mend that place and try again."
        ) from None
    if not isinstance(tables, dict) or not tables:
        raise Refusal(f"{path} holds no settings.", "Its top level is no table.", NO_CONFIG)
    _check_keys(tables, path)
    return YamlFile(tables, loader.repeated)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise Refusal(
            f"There is no file at {path}.", "The path may be misspelt.", NO_CONFIG
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise Refusal(f"{path} cannot be read.", f"{fault}.", "Save it as UTF-8 text.") from None
    if len(raw) > MOST_BYTES:
        raise Refusal(
            f"{path} is larger than {MOST_BYTES // 1024} KB.",
            "Configs of a training run have a few KB.",
            NO_CONFIG,
        )
    return text


def _measure(text: str, path: Path) -> None:
    """Refuses what is too deep or unfolds into too many nodes; looks at events alone."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _unfolds(path)  # it stands within itself
            nodes += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            open_nodes.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before + 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if nodes > MOST_NODES or len(open_nodes) > DEEPEST:
            raise _unfolds(path)


def _unfolds(path: Path) -> Refusal:
    return Refusal(
        f"{path} holds too many values or levels.",
        f"With its aliases unfolded it has more than {MOST_NODES:,} values or {DEEPEST} levels.",
        NO_CONFIG,
    )


def _check_keys(value: Any, path: Path) -> None:
    """Refuses keys that are no text, at any depth."""
    if isinstance(value, dict):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise Refusal(
                f"{path} has the key {wrong!r}.", "Keys of a config are names.",
                "Write it in quotes, or remove it.",
            )  # fmt: skip
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _check_keys(part, path)


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split()).rstrip(".")
