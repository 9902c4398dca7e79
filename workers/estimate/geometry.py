"""The sizes of a model, from its config.json: what every figure for memory is counted from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec

from workers.protocol.assets import assets_folder

BUILTIN = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Models that come with the program, as the hub calls them."""


class Family(NamedTuple):
    """What the sizes alone do not say of a `model_type`."""

    query_norm: Literal["", "head", "all"] = ""
    """Whether queries and keys are normalized, one head at a time or all heads together."""
    norms: int = 2
    """In a layer, each as wide as the model."""
    fused: bool = False
    """Whether queries, keys and values are one projection, and gate and up another."""
    query_bias: bool = False
    defaults: Mapping[str, Any] = {}
    """What its config.json may leave out."""


GEMMA = {
    "head_dim": 256, "tie_word_embeddings": True, "vocab_size": 262_208, "num_attention_heads": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
MINISTRAL = {"head_dim": 128, "num_key_value_heads": 8, "vocab_size": 131_072}
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "ministral3": Family(defaults=MINISTRAL),
    "smollm3": Family(defaults={"tie_word_embeddings": True}),
    "granite": Family(),
    "qwen2": Family(query_bias=True),
    "qwen3": Family(query_norm="head", defaults={"head_dim": 128}),
    "qwen3_moe": Family(query_norm="head"),
    "mixtral": Family(),
    "phi3": Family(fused=True),
    "gemma": Family(defaults={**GEMMA, "vocab_size": 256_000}),
    "gemma2": Family(norms=4, defaults={**GEMMA, "vocab_size": 256_000}),
    "gemma3_text": Family(query_norm="head", norms=4, defaults=GEMMA),
    "olmo2": Family(query_norm="all"),
    "olmo3": Family(query_norm="all"),
}
"""By `model_type`, as Transformers 5.17 builds them. Others are unknown here and are simulated."""
WHOLE = {"gemma3": "gemma3_text", "mistral3": "mistral"}
"""Models with a tower for pictures, and the language model in them where they do not name it."""


class Geometry(msgspec.Struct, kw_only=True, frozen=True):
    """One model's sizes, as its weights have them."""

    model_type: str
    hidden: int
    intermediate: int
    """Width of the feed-forward part; of a mixture, of one expert."""
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool
    """Whether the output layer is the embedding."""
    experts: int = 0
    experts_per_token: int = 0
    attention_bias: bool = False
    tower: int = 0
    """Parameters of what reads pictures; text does not reach them."""

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def query(self) -> int:
        """Width of all heads' queries."""
        return self.heads * self.head_width

    @property
    def key(self) -> int:
        """Width of all heads' keys, and of their values."""
        return self.kv_heads * self.head_width

    @property
    def attention(self) -> tuple[Linear, ...]:
        """The projections of a layer's attention."""
        out = Linear("o_proj", self.query, self.hidden)
        if self.family.fused:
            return Linear("qkv_proj", self.hidden, self.query + 2 * self.key), out
        widths = {"q_proj": self.query, "k_proj": self.key, "v_proj": self.key}
        return (*(Linear(name, self.hidden, width) for name, width in widths.items()), out)

    @property
    def feed_forward(self) -> tuple[Linear, ...]:
        """The projections of a dense layer's feed-forward part; a mixture has experts instead."""
        if self.experts:
            return ()
        wide, narrow = self.intermediate, self.hidden
        down = Linear("down_proj", wide, narrow)
        if self.family.fused:
            return Linear("gate_up_proj", narrow, 2 * wide), down
        return Linear("gate_proj", narrow, wide), Linear("up_proj", narrow, wide), down

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one layer of the model, without routers."""
        return self.attention + self.feed_forward

    @property
    def expert_tensors(self) -> tuple[Linear, ...]:
        """The experts of a layer, which are one tensor for what goes in and one for what comes
        out; (experts, in, out) each."""
        if not self.experts:
            return ()
        return (
            Linear("gate_up_proj", self.hidden, 2 * self.intermediate),
            Linear("down_proj", self.intermediate, self.hidden),
        )

    @property
    def linear_weights(self) -> int:
        """Of one layer: those that bitsandbytes packs into four bits."""
        return sum(one.inputs * one.outputs for one in self.linears)

    @property
    def expert_weights(self) -> int:
        """Of one layer: those that stay in 16 bits always."""
        return self.experts * sum(one.inputs * one.outputs for one in self.expert_tensors)

    @property
    def embedding(self) -> int:
        """Weights of the embedding, which are those of an untied output layer too."""
        return self.vocabulary * self.hidden

    @property
    def small_weights(self) -> int:
        """Of one layer: norms, biases, and what chooses experts."""
        family = self.family
        norms = family.norms * self.hidden
        norms += {"": 0, "head": 2 * self.head_width, "all": self.query + self.key}[
            family.query_norm
        ]
        biases = (self.query + 2 * self.key) * (family.query_bias or self.attention_bias)
        biases += self.hidden * self.attention_bias
        router = self.experts * self.hidden
        return norms + biases + router

    @property
    def body(self) -> int:
        """Parameters of the language model without its output layer."""
        layer = self.linear_weights + self.expert_weights + self.small_weights
        return self.layers * layer + self.hidden + self.embedding

    @property
    def head(self) -> int:
        """Parameters of an output layer of its own."""
        return 0 if self.tied else self.embedding

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.body + self.head + self.tower

    def with_layers(self, layers: int) -> Geometry:
        return msgspec.structs.replace(self, layers=layers)


class Linear(NamedTuple):
    """A linear layer by the last part of its name, with its widths."""

    name: str
    inputs: int
    outputs: int


def geometry_of(config: Mapping[str, Any]) -> Geometry | None:
    """The sizes in a config.json; None for a family that is not known here, or that lacks some."""
    kind = config.get("model_type", "")
    text = config.get("text_config") or (config if kind in FAMILIES else None)
    if text is None:
        return None
    name = text.get("model_type", WHOLE.get(kind, ""))
    if name not in FAMILIES:
        return None
    tower = _tower(config.get("vision_config"), text, kind) if kind in WHOLE else 0
    family = FAMILIES[name]
    known = {**family.defaults, **_given(text), "model_type": name}
    tied = config.get("tie_word_embeddings", known.get("tie_word_embeddings", False))
    try:
        return _geometry(known, tied=bool(tied), tower=tower)
    except KeyError:
        return None


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}


def _geometry(known: Mapping[str, Any], *, tied: bool, tower: int) -> Geometry:
    heads = known["num_attention_heads"]
    experts = known.get("num_experts") or known.get("num_local_experts") or 0  # Mixtral's name
    return Geometry(
        model_type=known["model_type"],
        hidden=known["hidden_size"],
        intermediate=known.get("moe_intermediate_size") or known["intermediate_size"],
        layers=known["num_hidden_layers"],
        heads=heads,
        kv_heads=known.get("num_key_value_heads", heads),
        head_width=known.get("head_dim") or known["hidden_size"] // heads,
        vocabulary=known["vocab_size"],
        tied=tied,
        experts=experts,
        experts_per_token=known.get("num_experts_per_tok", 2) if experts else 0,
        attention_bias=bool(known.get("attention_bias")),
        tower=tower,
    )


def _tower(vision: Mapping[str, Any] | None, text: Mapping[str, Any], kind: str) -> int:
    """Parameters of SigLIP or Pixtral, and of what joins them to the language model."""
    if vision is None:
        return 0
    width, wide = vision["hidden_size"], vision["intermediate_size"]
    patch, layers, joined = vision["patch_size"], vision["num_hidden_layers"], text["hidden_size"]
    pixels = 3 * patch * patch * width
    if kind == "gemma3":
        layer = 4 * (width * width + width) + 2 * width * wide + wide + width + 4 * width
        places = (vision["image_size"] // patch) ** 2 * width
        outside = pixels + width + places + 2 * width
        return layers * layer + outside + width * joined + width
    layer = 4 * width * width + 3 * width * wide + 2 * width
    merged = 4 * width * width  # two by two patches become one
    joining = width + merged + width * joined + joined * joined
    return layers * layer + pixels + width + joining


@cache
def _published() -> dict[str, dict[str, Any]]:
    path = assets_folder() / "catalogue" / "geometries.json"
    return json.loads(path.read_bytes())


def known_models() -> list[str]:
    """The hub ids whose sizes are known here."""
    return list(_published())


def known_config(model: str) -> dict[str, Any] | None:
    """The published sizes of a hub id, or of a model that comes with the program."""
    if model == "starter":
        path = assets_folder() / "starter" / "model" / "config.json"
        return json.loads(path.read_bytes())
    return _published().get(BUILTIN.get(model, model))


def known_geometry(model: str) -> Geometry | None:
    """Of a hub id that the catalogue has, or of a model that comes with the program."""
    config = known_config(model)
    return geometry_of(config) if config else None
