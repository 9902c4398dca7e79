"""What a layer keeps for its backward pass, and what that pass takes besides: bytes a token.

Counted from the operations of Transformers' layers under automatic mixed precision: bf16 for
products, 32 bits within norms. Attention is fused (flash or memory-efficient), so that scores are
never held; a family without such a kernel holds them.
"""

from __future__ import annotations

from typing import NamedTuple

from workers.estimate.geometry import Geometry, Linear

HALF, SINGLE = 2, 4
"""Bytes of a number in 16 and in 32 bits."""


class Trained(NamedTuple):
    """What of the layers is trained, as far as what they keep goes."""

    full: bool
    """All weights, in 32 bits, so that the stream between layers is too."""
    rank: int
    adapted: frozenset[str]
    """Names of the linear layers with an adapter."""
    dora: bool = False


def stream(geometry: Geometry, trained: Trained) -> int:
    """What passes from layer to layer: all that checkpointing keeps of each."""
    return (SINGLE if trained.full else HALF) * geometry.hidden


def kept_by_layer(geometry: Geometry, trained: Trained, *, longest: int, masked: bool) -> int:
    """Of one layer without checkpointing, a token."""
    return (
        sum(_kept_by_linear(one, trained) for one in geometry.linears)
        + _kept_by_norms(geometry, trained)
        + _kept_by_attention(geometry, longest, masked=masked)
        + _kept_by_feed_forward(geometry)
    )


def _kept_by_linear(linear: Linear, trained: Trained) -> int:
    """Its input, rounded to 16 bits for whatever of it is trained; an adapter's inner product; with
    DoRA both products, which are scaled."""
    if trained.full:
        return HALF * linear.inputs
    if linear.name not in trained.adapted:
        return 0
    doubled = 2 * HALF * linear.outputs if trained.dora else 0
    return HALF * (linear.inputs + trained.rank) + doubled


def _kept_by_norms(geometry: Geometry, trained: Trained) -> int:
    """Inputs in 32 bits; where weights are trained the normalized ones too."""
    family = geometry.family
    normed = {"": 0}.get(family.query_norm, geometry.query + geometry.key)
    wide = family.norms * geometry.hidden
    if not trained.full:
        return SINGLE * (wide + normed)
    return 2 * SINGLE * wide + (SINGLE + HALF) * normed


def _kept_by_attention(geometry: Geometry, longest: int, *, masked: bool) -> int:
    """Queries, keys, values and the output, and a sum to each row. A mask keeps keys from being
    shared among heads, and is turned into numbers by every layer."""
    query, key, heads = geometry.query, geometry.key, geometry.heads
    shared = key if not masked or geometry.kv_heads == 1 else query
    mask = HALF * longest if masked else 0
    return HALF * 2 * (query + shared) + SINGLE * heads + mask


def _kept_by_feed_forward(geometry: Geometry) -> int:
    """The gate, the gate after its function, and what it is multiplied with."""
    wide = geometry.intermediate
    if geometry.experts:
        used = geometry.experts_per_token
        return used * HALF * (2 * geometry.hidden + 4 * wide)
    return 3 * HALF * wide


def taken_by_backward(geometry: Geometry, trained: Trained) -> int:
    """Beside what a layer keeps, while its feed-forward part is gone through backward, a token: the
    gradients of its inner values, in 16 bits and in 32, and those of what it was given."""
    wide = geometry.intermediate * (geometry.experts_per_token or 1)
    norms = HALF * geometry.hidden if geometry.family.norms > 2 else 0
    return 3 * HALF * wide + (3 if trained.full else 2) * stream(geometry, trained) + norms
