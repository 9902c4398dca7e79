"""The memory of a step at its peak, part by part.

A step has phases that do not meet: completions are sampled, the loss is taken, each layer is gone
through backward. Weights and what belongs to them are there all the time; what else there is
differs, and the hungriest phase is what counts.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from workers.estimate.activations import (
    HALF,
    SINGLE,
    Trained,
    kept_by_layer,
    stream,
    taken_by_backward,
)
from workers.estimate.geometry import Geometry
from workers.estimate.weights import (
    adapted,
    adapter_weights,
    experts_adapted,
    number_bytes,
    optimizer_bytes,
    trained_weights,
    weight_bytes,
    whole_weights,
)
from workers.protocol.batches import effective_batch, is_one_row
from workers.protocol.cards import GIB
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of

CHUNK = 256
"""Tokens whose logits TRL's chunked loss holds at one time."""
LOGIT_BYTES = {"sft": 14}
USUAL_LOGIT_BYTES = 10
"""Of one logit in such a chunk, by the stage's trainer: in 16 bits, in 32, its gradient in both,
and its exponential, as far as they are there together. Other stages' chunks, of
workers/train/chunked.py, are half as long and hold twice as much of each."""
HEAD_COPIES = 3
"""Of an output layer that is trained, in 32 bits while its gradient is added up: the sum, what the
chunk adds, and their new sum."""
SAMPLING_WIDTHS = 6
"""Of a layer's width and of its feed-forward part's, how many times their 16 bits reading a prompt
holds together: the gate and what it is multiplied with, that of its adapter in 32 bits."""
DORA_BYTES = 5 * SINGLE
"""Of one weight while DoRA takes its norm: weight, update, their sum, its square and a gradient."""
IN_32_BITS = {"activations": 1.75, "generation_cache": 2.0}
"""How many times as much is kept at the most where the run computes in 32 bits: by simulation 1.4
to 1.75 times of activations, parts of which have 32 bits anyway."""
OFFLOADED = 5
"""Kept values that have not left for RAM yet (TRL's OffloadActivations, max_fwd_stash_size)."""
CONTEXT = (0.4, 0.7)
"""GiB that CUDA takes for itself with PyTorch's kernels: least on Turing, most on Blackwell."""
SLACK = (0.01, 0.06)
"""Share of what is allocated that the allocator loses between blocks, with expandable segments."""


class Beside(msgspec.Struct, frozen=True):
    """Other models that a stage holds beside the one that it trains."""

    teacher: Geometry | None = None
    reward: Geometry | None = None


class Estimate(msgspec.Struct, frozen=True):
    """Bytes on the device at the peak of a step."""

    parts: dict[str, int]
    """Those that are not zero, largest phase."""
    low: int
    high: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def counted(self) -> int:
        """Without what CUDA and its allocator take: what a simulation counts."""
        return self.total - self.parts["context"] - self.parts["fragmentation"]


class Shape(NamedTuple):
    """What a step works on."""

    rows: int
    """That pass through the model together; both completions of a pair."""
    longest: int
    masked: bool
    """Whether rows are padded, so that attention needs a mask."""
    checkpointing: bool

    @property
    def tokens(self) -> int:
        return self.rows * self.longest


def estimate(
    recipe: Recipe,
    geometry: Geometry,
    *,
    micro: int,
    longest: int,
    checkpointing: bool,
    teacher: Geometry | None = None,
    reward: Geometry | None = None,
) -> Estimate:
    """What a run takes on a GPU at its peak.

    Args:
        micro: examples at once; pairs in preference stages.
        longest: tokens of the longest row, prompt and completion.
        teacher: of stage `distill`.
        reward: the model that scores completions in stage `rlhf`.
    """
    shape = _shape(recipe, micro, longest, checkpointing=checkpointing)
    resident = Counter(_resident(recipe, geometry, Beside(teacher, reward)))
    gradients = resident.pop("gradients")
    added_up = effective_batch(recipe, geometry.parameters) > micro
    learning = {"gradients": gradients if added_up else 0}
    phases = [
        learning | _loss(recipe, geometry, shape, teacher),
        learning | _backward(recipe, geometry, shape),
        {"gradients": gradients, "logits": _tied_gradients(recipe, geometry)},
    ]
    if spec_of(recipe.stage).generates:
        phases += _sampling(recipe, geometry, micro, longest)
    if number_bytes(recipe) == SINGLE:
        phases = [
            {name: int(size * IN_32_BITS.get(name, 1)) for name, size in parts.items()}
            for parts in phases
        ]
    phase = max(phases, key=lambda parts: sum(parts.values()))
    counted = {name: size for name, size in (resident + Counter(phase)).items() if size}
    return with_overhead(counted)


def with_overhead(counted: dict[str, int]) -> Estimate:
    """Adds what a simulation does not see, between its least and its most."""
    subtotal = sum(counted.values())
    overheads = [
        (int(context * GIB), int(slack * subtotal))
        for context, slack in zip(CONTEXT, SLACK, strict=True)
    ]
    (context_low, slack_low), (context_high, slack_high) = overheads
    parts = counted | {
        "context": (context_low + context_high) // 2,
        "fragmentation": (slack_low + slack_high) // 2,
    }
    return Estimate(parts, subtotal + context_low + slack_low, subtotal + context_high + slack_high)


def _shape(recipe: Recipe, micro: int, longest: int, *, checkpointing: bool) -> Shape:
    sides = 2 if spec_of(recipe.stage).supervision == "pairs" else 1
    rows = micro * sides
    if is_one_row(recipe):
        return Shape(1, rows * longest, masked=True, checkpointing=checkpointing)
    return Shape(rows, longest, rows > 1, checkpointing)


def trained_of(recipe: Recipe, geometry: Geometry) -> Trained:
    """What of the model's layers is trained."""
    names = frozenset(one.name for one in adapted(geometry, recipe.lora.targets))
    method = recipe.model.method
    return Trained(method == "full", recipe.lora.rank, names, method == "dora")


def has_value_model(recipe: Recipe) -> bool:
    return spec_of(recipe.stage, recipe.rl.algorithm).value_model


def _resident(recipe: Recipe, geometry: Geometry, beside: Beside) -> dict[str, int]:
    """What is there all the time, once the optimizer has its states."""
    method, full = recipe.model.method, recipe.model.method == "full"
    trained = trained_weights(geometry, recipe)
    number = number_bytes(recipe)
    weights = weight_bytes(geometry, method, number)
    parts = {
        "weights": weights,
        "adapter": 0 if full else SINGLE * trained,
        "gradients": SINGLE * trained,
        "optimizer": optimizer_bytes(trained, recipe.training.optimizer),
        "reference": weights if full and _holds_reference(recipe) else 0,
    }
    if beside.teacher:
        four_bit = recipe.distill.teacher_four_bit or method == "qlora"
        parts["teacher"] = weight_bytes(beside.teacher, "qlora" if four_bit else "lora", number)
    if beside.reward:
        parts["reward_model"] = HALF * _scoring(beside.reward)
    if has_value_model(recipe):
        parts["value_model"] = _value_bytes(recipe, beside.reward or geometry)
    return parts


def _holds_reference(recipe: Recipe) -> bool:
    """Whether the stage asks where the model started; with an adapter that is the model without."""
    spec = spec_of(recipe.stage)
    return spec.reference and (spec.preference or bool(recipe.rl.kl_coefficient))


def _scoring(geometry: Geometry) -> int:
    """Parameters of a model with one output in place of its words."""
    return geometry.body + geometry.tower + geometry.hidden


def _value_bytes(recipe: Recipe, geometry: Geometry) -> int:
    """The value model with its adapter, gradients and optimizer."""
    trained = trained_weights(geometry, recipe)
    states = SINGLE * trained + optimizer_bytes(trained, recipe.training.optimizer)
    if recipe.model.method == "full":
        return SINGLE * _scoring(geometry) + states
    return number_bytes(recipe) * _scoring(geometry) + SINGLE * trained + states


def _kept(recipe: Recipe, geometry: Geometry, shape: Shape) -> int:
    """What the forward pass leaves for the backward pass, all layers."""
    trained = trained_of(recipe, geometry)
    layer = kept_by_layer(geometry, trained, longest=shape.longest, masked=shape.masked)
    each = stream(geometry, trained) if shape.checkpointing else layer
    last = (SINGLE + 2 * HALF) * geometry.hidden
    if recipe.training.activation_offloading:
        widest = each if shape.checkpointing else HALF * geometry.intermediate
        return shape.tokens * OFFLOADED * widest
    models = 2 if has_value_model(recipe) else 1
    copies = 0 if shape.checkpointing else geometry.layers * _expert_copy(recipe, geometry)
    return models * shape.tokens * (geometry.layers * each + last) + copies


def _expert_copy(recipe: Recipe, geometry: Geometry) -> int:
    """A layer's experts with what their adapter adds to them."""
    return HALF * geometry.expert_weights if experts_adapted(recipe, geometry) else 0


def _rounded(recipe: Recipe, geometry: Geometry) -> int:
    """Trained weights in 16 bits, which automatic precision keeps until the loss is there."""
    if recipe.model.method == "full":
        return HALF * (trained_weights(geometry, recipe) - geometry.embedding)
    return HALF * adapter_weights(geometry, recipe)


def _loss(
    recipe: Recipe, geometry: Geometry, shape: Shape, teacher: Geometry | None
) -> dict[str, int]:
    """While the loss is taken, chunk by chunk, and gone through backward."""
    kept = _kept(recipe, geometry, shape)
    if not spec_of(recipe.stage).talks:
        return {"activations": kept + _rounded(recipe, geometry)}
    trainer = spec_of(recipe.stage, recipe.rl.algorithm).trainer
    each = LOGIT_BYTES.get(trainer, USUAL_LOGIT_BYTES) * (2 if teacher else 1)
    logits = min(CHUNK, shape.tokens) * each * geometry.vocabulary
    rounded = _rounded(recipe, geometry)
    if recipe.model.method == "full" or whole_weights(geometry, recipe):
        head = HEAD_COPIES * SINGLE * geometry.embedding
        if head > logits + rounded:
            return {"activations": kept, "logits": head}
    return {"activations": kept + rounded, "logits": logits}


def _tied_gradients(recipe: Recipe, geometry: Geometry) -> int:
    """At the end of the backward pass, what a trained embedding that is the output layer too takes
    beside its gradient: that of the embedding, and their sum."""
    trained = recipe.model.method == "full" and spec_of(recipe.stage).talks
    return 2 * SINGLE * geometry.embedding if trained and geometry.tied else 0


def _backward(recipe: Recipe, geometry: Geometry, shape: Shape) -> dict[str, int]:
    """While the last layer is gone through backward, which is the first to be."""
    trained = trained_of(recipe, geometry)
    taken = taken_by_backward(geometry, trained)
    if shape.checkpointing:
        taken += kept_by_layer(geometry, trained, longest=shape.longest, masked=shape.masked)
    kept = _kept(recipe, geometry, shape) + shape.tokens * taken
    copy = _expert_copy(recipe, geometry)
    if shape.checkpointing:
        kept += copy
    else:
        kept += _rounded(recipe, geometry)
    gradient = copy * 2 // 3  # of the larger of their two tensors
    return {"activations": kept + gradient + _unpacked(recipe, geometry)}


def _unpacked(recipe: Recipe, geometry: Geometry) -> int:
    """What the largest of a layer's weights takes anew: a four-bit one in 16 bits for a product;
    with DoRA the norm of its sum with the adapter."""
    each = {"qlora": HALF, "dora": DORA_BYTES}.get(recipe.model.method, 0)
    return each * max((one.inputs * one.outputs for one in geometry.linears), default=0)


def _sampling(
    recipe: Recipe, geometry: Geometry, together: int, longest: int
) -> list[dict[str, int]]:
    """While prompts are read, a layer at a time; and while the last token is sampled, when keys and
    values of all tokens are there and the next logits. Adapters compute in 32 bits here.

    `together`: completions; a run samples more at once only where there is room.
    """
    prompt = max(1, longest - recipe.rl.max_completion_tokens)
    token = HALF * 2 * geometry.key * geometry.layers
    wide = geometry.intermediate * (geometry.experts_per_token or 1)
    read = SAMPLING_WIDTHS * HALF * (wide + geometry.hidden)
    logits = together * 3 * SINGLE * geometry.vocabulary
    return [
        {
            "generation_cache": together * prompt * token,
            "activations": together * prompt * read + _unpacked(recipe, geometry),
        },
        {"generation_cache": together * longest * token, "logits": logits},
    ]
