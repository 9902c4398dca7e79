"""The catalogue of real models and datasets that users of one GPU reach for: facts with sources."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import msgspec

from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Source
from workers.protocol.sources import BUILTIN
from workers.protocol.stages import Field, spec_of


class Entry(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One model or dataset on the hub."""

    id: str
    licence: str
    """SPDX identifier, or the licence's own name; empty where no source told it."""
    duties: str
    """What the licence asks of whoever passes a derivative on."""
    source: str
    """Where the facts come from."""
    verified: bool = False
    """Whether the facts were compared with the source when they were entered."""


class ModelEntry(Entry, kw_only=True, frozen=True):
    parameters_billion: float
    """All of them: of a mixture of experts those that rest too."""
    active_billion: float = 0.0
    """Of a mixture of experts those that work on a token; 0 for other models."""
    kind: Literal["base", "instruct", "thinking"]
    """Pretrained only; answers; thinks before each answer."""
    context: int
    """Tokens, as the model's configuration or its card states them."""
    template: str
    """The chat template to train with: the model's own, or chatml where it has none."""
    model_type: str
    """As transformers calls the family."""
    tools: bool | None = None
    """Whether its chat template writes tools; None where no source told it."""
    thinking: Literal["", "no", "switch", "always"] = ""
    """Whether its chat template writes thinking; empty where no source told it."""
    gated: bool = False
    limits: str = ""
    """What cannot be done with the family here, in a sentence."""


Topic = Literal["chat", "math", "preferences", "thinking", "tools"]


class DatasetEntry(Entry, kw_only=True, frozen=True):
    rows: int
    """0 where no source told it."""
    format: str
    topics: list[Topic] = []
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


@cache
def _read(name: str) -> Catalogue:
    """One file of the catalogue; parsing the models' takes longer than a window may stand still."""
    path = assets_folder() / "catalogue" / f"{name}.toml"
    return msgspec.toml.decode(path.read_bytes(), type=Catalogue)


def read_catalogue() -> Catalogue:
    """The catalogue that comes with the program."""
    return Catalogue(
        models=_read("models").models,
        datasets=_read("datasets").datasets,
        builtin=_read("builtin").builtin,
    )


def known_model(base: str) -> ModelEntry | None:
    """The entry of a recipe's base model, if it is an id that the catalogue has."""
    return next((entry for entry in _read("models").models if entry.id == base), None)


class Memory(NamedTuple):
    """GPU memory that training a model takes at least, in GB."""

    qlora: float
    lora: float


PUBLISHED_MEMORY = (
    (3, 3.5, 8), (7, 5, 19), (8, 6, 22), (9, 6.5, 24), (14, 8.5, 33), (27, 22, 64), (32, 26, 76),
    (70, 41, 164),
)  # fmt: skip
"""Billions of parameters, GB for QLoRA and for 16-bit LoRA: Unsloth's documented minimum."""
CARDS_GB = (8, 12, 16, 24)
"""Memory of the GPUs that people have at home."""


def least_memory(entry: ModelEntry) -> Memory:
    """Interpolated between the published figures; below the smallest of them, that one.

    QLoRA does not shrink experts: bitsandbytes quantizes linear layers, and transformers keeps the
    experts of a layer as one tensor.
    """
    size = entry.parameters_billion
    qlora, lora = (_between(size, column) for column in (1, 2))
    return Memory(lora if entry.active_billion else qlora, lora)


def _between(size: float, column: int) -> float:
    before = PUBLISHED_MEMORY[0]
    for point in PUBLISHED_MEMORY:
        if size <= point[0]:
            share = (size - before[0]) / (point[0] - before[0]) if point is not before else 1.0
            return before[column] + share * (point[column] - before[column])
        before = point
    return before[column] * size / before[0]


def smallest_card(gigabytes: float) -> int | None:
    """The smallest of the usual GPUs with that much memory; None where it takes a larger one."""
    return next((card for card in CARDS_GB if gigabytes <= card), None)


def words_of(entry: ModelEntry, memory: Memory) -> str:
    """What is known of a model, in a line.

    Args:
        memory: what training it takes at least.
    """
    size = f"{entry.parameters_billion:g} billion parameters"
    if entry.active_billion:
        size += f", {entry.active_billion:g} of them active"
    thinking = {"switch": "thinking on or off", "always": "thinks before it answers"}
    kind = "only pretrained" if entry.kind == "base" else ""
    facts = [
        size, kind, f"{entry.context:,} tokens of context", thinking.get(entry.thinking, ""),
        "takes tools" if entry.tools else "", entry.licence,
        "asks for consent on its page" if entry.gated else "", _memory_words(entry, memory),
    ]  # fmt: skip
    return ", ".join(filter(None, facts)) + "."


def _memory_words(entry: ModelEntry, memory: Memory) -> str:
    cards = {"LoRA": smallest_card(memory.lora)}
    if not entry.active_billion:
        cards = {"QLoRA": smallest_card(memory.qlora)} | cards
    fits = [f"{method} from {card} GB" for method, card in cards.items() if card]
    return " and ".join(fits) or f"needs about {min(memory):.0f} GB of GPU memory"


def known_dataset(source: Source) -> DatasetEntry | None:
    """The entry of a recipe's source, if it names one."""
    name = source.source.partition(":")[0]
    if name.count("/") != 1 or name.startswith("/"):
        return None  # entries are org/name
    return next((entry for entry in _read("datasets").datasets if entry.id == name), None)


def source_of(entry: DatasetEntry) -> str:
    """A dataset as a recipe's source names it, with its split where that is not `train`."""
    return entry.id if entry.split == "train" else f"{entry.id}:{entry.split}"


def builtin_sets(stage: str, *, test: bool = False) -> list[str]:
    """Names of the built-in sets that a stage can learn from, or be measured on."""
    wanted = set(spec_of(stage).fields)
    return [
        entry.name
        for entry in _read("builtin").builtin
        if entry.test is test and wanted & set(entry.fields)
    ]


def catalogued_licence(source: Source) -> str:
    """A dataset's licence by the catalogue; empty where it does not know it."""
    if source.source.startswith(BUILTIN):
        name = source.source.removeprefix(BUILTIN)
        known = (entry.licence for entry in _read("builtin").builtin if entry.name == name)
        return next(known, "")
    entry = known_dataset(source)
    return entry.licence if entry else ""
