"""The catalogue of real models and datasets that users of one GPU reach for: facts with sources."""

from __future__ import annotations

import msgspec

from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Source


class Entry(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One model or dataset on the hub."""

    id: str
    licence: str
    """SPDX identifier, or the licence's own name."""
    duties: str
    """What the licence asks of whoever passes a derivative on."""
    source: str
    """Where the facts come from."""
    verified: bool = False
    """Whether the facts were compared with the source when they were entered."""


class ModelEntry(Entry, kw_only=True, frozen=True):
    parameters_billion: float
    kind: str
    """base or instruct."""
    context: int
    """Tokens."""
    template: str
    """The chat template to train with: the model's own, or chatml where it has none."""
    gated: bool = False


class DatasetEntry(Entry, kw_only=True, frozen=True):
    rows: int
    format: str
    mapping: dict[str, str] = {}
    """Their columns to ours."""
    split: str = "train"
    stages: list[str]


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: list[ModelEntry] = []
    datasets: list[DatasetEntry] = []


def read_catalogue() -> Catalogue:
    """The catalogue that comes with the program."""
    folder = assets_folder() / "catalogue"
    models, datasets = (
        msgspec.toml.decode((folder / f"{name}.toml").read_bytes(), type=Catalogue)
        for name in ("models", "datasets")
    )
    return Catalogue(models=models.models, datasets=datasets.datasets)


def known_dataset(source: Source) -> DatasetEntry | None:
    """The entry of a recipe's source, if it names one."""
    name = source.source.partition(":")[0]
    return next((entry for entry in read_catalogue().datasets if entry.id == name), None)
