"""The catalogue of real models and datasets that users of one GPU reach for: facts with sources."""

from __future__ import annotations

import msgspec

from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Source
from workers.protocol.sources import BUILTIN
from workers.protocol.stages import Field, spec_of


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


class BuiltinEntry(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A set that comes with the program."""

    name: str
    fields: list[Field]
    """What its rows hold."""
    test: bool = False
    """Whether it is kept for measuring."""
    licence: str


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: list[ModelEntry] = []
    datasets: list[DatasetEntry] = []
    builtin: list[BuiltinEntry] = []


def read_catalogue() -> Catalogue:
    """The catalogue that comes with the program."""
    folder = assets_folder() / "catalogue"
    models, datasets, builtin = (
        msgspec.toml.decode((folder / f"{name}.toml").read_bytes(), type=Catalogue)
        for name in ("models", "datasets", "builtin")
    )
    return Catalogue(models=models.models, datasets=datasets.datasets, builtin=builtin.builtin)


def known_dataset(source: Source) -> DatasetEntry | None:
    """The entry of a recipe's source, if it names one."""
    name = source.source.partition(":")[0]
    return next((entry for entry in read_catalogue().datasets if entry.id == name), None)


def builtin_sets(stage: str, *, test: bool = False) -> list[str]:
    """Names of the built-in sets that a stage can learn from, or be measured on."""
    wanted = set(spec_of(stage).fields)
    return [
        entry.name
        for entry in read_catalogue().builtin
        if entry.test is test and wanted & set(entry.fields)
    ]


def catalogued_licence(source: Source) -> str:
    """A dataset's licence by the catalogue; empty where it does not know it."""
    if source.source.startswith(BUILTIN):
        name = source.source.removeprefix(BUILTIN)
        known = (entry.licence for entry in read_catalogue().builtin if entry.name == name)
        return next(known, "")
    entry = known_dataset(source)
    return entry.licence if entry else ""
