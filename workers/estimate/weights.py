"""Weights, adapters and what an optimizer keeps of them: bytes by method."""

from __future__ import annotations

from workers.estimate.activations import HALF, SINGLE
from workers.estimate.geometry import Geometry, Linear
from workers.protocol.recipe import Recipe

BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in NF4, and scales that share one (Dettmers et al. 2023)."""
ALL_LINEAR = ("all-linear", "all-linear+vision")
OPTIMIZER_BYTES = {
    "adamw_8bit": 2 * (1 + SINGLE / NESTED_BLOCK),
    "paged_adamw_8bit": 2 * (1 + SINGLE / NESTED_BLOCK),
    "muon": SINGLE,
}
"""A trained weight, by training.optimizer; others keep two moments in 32 bits."""


def four_bit_bytes(weights: int) -> int:
    """Of linear layers in NF4 with nested scales: half a byte a weight, a byte to each block of
    them, four bytes to each block of those."""
    blocks = -(-weights // BLOCK)
    return -(-weights // 2) + blocks + SINGLE * -(-blocks // NESTED_BLOCK)


def number_bytes(recipe: Recipe) -> int:
    """Of one weight that is neither trained nor packed: 16 bits, if 32 are not asked for."""
    return SINGLE if recipe.training.precision == "fp32" else HALF


def weight_bytes(geometry: Geometry, method: str, number: int = HALF) -> int:
    """All weights as they lie in memory while nothing is computed; `number`: bytes of one that is
    neither trained nor packed."""
    if method == "full":
        return SINGLE * geometry.parameters
    if method != "qlora":
        return number * geometry.parameters
    packed = geometry.layers * geometry.linear_weights
    tower = int(geometry.tower * TOWER_LINEAR)
    rest = geometry.parameters - packed - tower
    return number * rest + four_bit_bytes(packed) + four_bit_bytes(tower)


TOWER_LINEAR = 0.98
"""Of a tower's weights, those of linear layers, which are packed as well."""


def adapted(geometry: Geometry, targets: str) -> list[Linear]:
    """The linear layers of one layer that get an adapter."""
    if targets in ALL_LINEAR:
        return list(geometry.linears)
    named = {name.strip() for name in targets.split(",")}
    return [one for one in geometry.linears if one.name in named]


def adapter_weights(geometry: Geometry, recipe: Recipe) -> int:
    """Trained weights of an adapter."""
    lora = recipe.lora
    found = adapted(geometry, lora.targets)
    layer = lora.rank * sum(one.inputs + one.outputs for one in found)
    if recipe.model.method == "dora":
        layer += sum(one.outputs for one in found)
    if experts_adapted(recipe, geometry):
        pairs = sum(one.inputs + one.outputs for one in geometry.expert_tensors)
        layer += lora.rank * geometry.experts * pairs
    return geometry.layers * layer


def experts_adapted(recipe: Recipe, geometry: Geometry) -> bool:
    """Whether a mixture's experts get an adapter, which is added to them in a copy."""
    lora = recipe.lora
    if (
        not geometry.experts
        or recipe.model.method == "full"
        or lora.dropout
        or recipe.model.method == "dora"
        or lora.experts == "off"
    ):
        return False
    return lora.experts == "on" or lora.targets in ALL_LINEAR


def whole_weights(geometry: Geometry, recipe: Recipe) -> int:
    """Weights that are trained whole beside an adapter, in a copy: the embedding and the output
    layer, which stay one where they are one."""
    named = {name.strip() for name in recipe.lora.modules_to_save.split(",")}
    found = named & {"embed_tokens", "lm_head"}
    return geometry.embedding * (min(len(found), 1) if geometry.tied else len(found))


def trained_weights(geometry: Geometry, recipe: Recipe) -> int:
    """Weights that get gradients: an adapter's, or all but those of towers."""
    if recipe.model.method == "full":
        return geometry.parameters - geometry.tower
    return adapter_weights(geometry, recipe) + whole_weights(geometry, recipe)


def optimizer_bytes(trained: int, optimizer: str) -> int:
    """What the optimizer keeps of so many trained weights."""
    return int(trained * OPTIMIZER_BYTES.get(optimizer, 2 * SINGLE))
