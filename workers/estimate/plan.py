"""Whether a recipe fits a card, what it would take, and the one change that makes it fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from workers.estimate.fit import largest_micro, largest_rank, longest_sequence
from workers.estimate.geometry import Geometry, known_geometry, known_models
from workers.estimate.step import GIB, Estimate, estimate, with_overhead
from workers.protocol.batches import Batches, checkpointing, divided, effective_batch
from workers.protocol.catalogue import CARDS_GB
from workers.protocol.exports import EXPORTS, FULL, USUAL
from workers.protocol.recipe import Recipe, problems
from workers.protocol.stages import spec_of

SHARD = 5 * GIB
"""Bytes of the largest file that hub models are usually stored in."""
EXPORT_BASE = GIB
"""What exporting takes besides: Python, PyTorch, the tokenizer."""
SHORTEST = 256
"""Tokens below which no shorter rows are suggested."""
LENGTH_STEP = 128
LEAST_RANK = 4
LENGTH, ANSWERS = "training.max_length", "rl.max_completion_tokens"


class Suggestion(msgspec.Struct, frozen=True):
    """A change that makes a recipe fit."""

    changes: dict[str, Any]
    """By key path."""
    words: str
    high_bytes: int
    """What the recipe takes at most with it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage takes on a GPU, and on the disk when its result is exported."""

    name: str
    stage: str
    model: str
    micro: int
    accumulation: int
    checkpointing: bool
    longest: int
    """Tokens of the longest row."""
    parts: dict[str, int]
    low_bytes: int
    high_bytes: int
    card_bytes: int | None
    """None where no card is asked about; `cards` says then which would do."""
    fits: bool | None
    cards: list[int]
    """Memory, in GB, of the usual cards that it fits."""
    suggestions: list[Suggestion]
    largest_micro: int
    longest_sequence: int
    """Tokens of the longest row that fits with the plan's micro-batch."""
    largest_rank: int
    """0 where there is no adapter."""
    ram_bytes: int
    """RAM that merging and exporting takes at most."""
    disk_bytes: int
    """Room that the merged model and the usual file take, with what is made on the way."""
    simulated: bool = False
    """Whether the parts were simulated, for a model whose sizes are not known: nothing is solved
    for then, and 0 where it would stand."""

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values())


class Subject(NamedTuple):
    """A recipe with the sizes of the models that it names."""

    recipe: Recipe
    geometry: Geometry
    teacher: Geometry | None = None
    reward: Geometry | None = None

    @property
    def beside(self) -> dict[str, Any]:
        return {"teacher": self.teacher, "reward": self.reward}

    def estimate(self, micro: int) -> Estimate:
        recipe = self.recipe
        return estimate(
            recipe,
            self.geometry,
            micro=micro,
            longest=longest_row(recipe),
            checkpointing=checkpointing(recipe, "cuda"),
            **self.beside,
        )

    def batches(self, card_bytes: int | None) -> Batches:
        """The micro-batch that fits the card; the least one where none is asked about, or where not
        even that fits."""
        return divided(self.recipe, self.largest_micro(card_bytes), self.geometry.parameters)

    def largest_micro(self, card_bytes: int | None) -> int:
        if card_bytes is None:
            return 1
        return largest_micro(
            self.recipe,
            self.geometry,
            card_bytes,
            longest_row(self.recipe),
            checkpointing=checkpointing(self.recipe, "cuda"),
            **self.beside,
        )

    def most(self, card_bytes: int) -> int:
        """What it takes at most on a card, with the micro-batch that fits there."""
        return self.estimate(self.batches(card_bytes).micro).high

    def changed(self, changes: dict[str, Any]) -> Subject:
        return self._replace(recipe=with_changes(self.recipe, changes))


def plan(
    recipe: Recipe,
    geometry: Geometry,
    card_bytes: int | None = None,
    *,
    teacher: Geometry | None = None,
    reward: Geometry | None = None,
) -> Plan:
    """What a recipe takes, on a card of so many bytes or on the smallest that would do.

    Args:
        teacher: of stage `distill`; where it is not known the student stands in for it.
        reward: the model that scores, in stage `rlhf`; likewise.
    """
    spec = spec_of(recipe.stage)
    teacher = (teacher or geometry) if spec.teacher else None
    reward = (reward or geometry) if spec.scored_by == "reward_model" else None
    subject = Subject(recipe, geometry, teacher, reward)
    batches = subject.batches(card_bytes)
    found = subject.estimate(batches.micro)
    fits = None if card_bytes is None else found.high <= card_bytes
    return Plan(
        name=recipe.name,
        stage=recipe.stage,
        model=recipe.model.base,
        micro=batches.micro,
        accumulation=batches.accumulation,
        checkpointing=checkpointing(recipe, "cuda"),
        longest=longest_row(recipe),
        parts=found.parts,
        low_bytes=found.low,
        high_bytes=found.high,
        card_bytes=card_bytes,
        fits=fits,
        cards=[card for card in CARDS_GB if subject.most(card * GIB) <= card * GIB],
        suggestions=[] if fits in (True, None) else suggestions(subject, card_bytes or 0),
        **_solved(subject, batches.micro, card_bytes or found.high),
        **_exported(geometry.parameters),
    )


def least_micro(recipe: Recipe) -> int:
    """The smallest micro-batch that a recipe can be trained with."""
    return divided(recipe, 1).micro


def plan_of_parts(recipe: Recipe, parts: dict[str, int], card_bytes: int | None = None) -> Plan:
    """The plan of a recipe whose parts were simulated, with its smallest micro-batch.

    Args:
        parts: bytes by name, without what CUDA and its allocator take.
    """
    found = with_overhead(parts)
    batches = divided(recipe, 1)
    parameters = parts.get("weights", 0) // (4 if recipe.model.method == "full" else 2)
    return Plan(
        name=recipe.name,
        stage=recipe.stage,
        model=recipe.model.base,
        micro=batches.micro,
        accumulation=batches.accumulation,
        checkpointing=checkpointing(recipe, "cuda"),
        longest=longest_row(recipe),
        parts=found.parts,
        low_bytes=found.low,
        high_bytes=found.high,
        card_bytes=card_bytes,
        fits=None if card_bytes is None else found.high <= card_bytes,
        cards=[card for card in CARDS_GB if found.high <= card * GIB],
        suggestions=[],
        largest_micro=0,
        longest_sequence=0,
        largest_rank=0,
        simulated=True,
        **_exported(0 if recipe.model.method == "qlora" else parameters),
    )


def _solved(subject: Subject, micro: int, budget: int) -> dict[str, int]:
    recipe, geometry, beside = subject.recipe, subject.geometry, subject.beside
    how = {"checkpointing": checkpointing(recipe, "cuda"), **beside}
    longest = longest_row(recipe)
    return {
        "largest_micro": largest_micro(recipe, geometry, budget, longest, **how),
        "longest_sequence": longest_sequence(recipe, geometry, budget, micro, **how),
        "largest_rank": largest_rank(recipe, geometry, budget, longest, micro, **how),
    }


def _exported(parameters: int) -> dict[str, Any]:
    """The merged weights are written shard by shard; the file for llama.cpp is made of them by way
    of one in 16 bits. Nothing is known where it is not known how many there are."""
    if not parameters:
        return {"ram_bytes": 0, "disk_bytes": 0}
    weights = 2 * parameters
    kinds = (EXPORTS[USUAL], EXPORTS[f"gguf:{FULL}"])
    files = sum(int(kind.bytes_per_weight * parameters) for kind in kinds)
    return {
        "ram_bytes": int(1.2 * min(weights, SHARD)) + EXPORT_BASE,
        "disk_bytes": weights + files,
    }


def longest_row(recipe: Recipe) -> int:
    """Tokens of the longest row: with the completion where completions are sampled."""
    samples = spec_of(recipe.stage).policy or (recipe.stage == "distill" and recipe.distill.lmbda)
    return recipe.training.max_length + (recipe.rl.max_completion_tokens if samples else 0)


def with_changes(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values at these key paths of its tables."""
    for path, value in changes.items():
        table, _, key = path.partition(".")
        changed = msgspec.structs.replace(getattr(recipe, table), **{key: value})
        recipe = msgspec.structs.replace(recipe, **{table: changed})
    return recipe


# What would make it fit


def suggestions(subject: Subject, card_bytes: int) -> list[Suggestion]:
    """Single changes that make it fit, the least costly first; where none of the same model does,
    several together before a smaller one."""
    found = [
        made
        for make in (*OWN_CHANGES, _smaller)
        if (change := _possible(make, subject, card_bytes)) is not None
        and (made := _suggestion(subject, *change, card_bytes)) is not None
    ]
    if all("model.base" in one.changes for one in found):
        found = [*_together(subject, card_bytes), *found]
    return found


def _suggestion(
    subject: Subject, changes: dict[str, Any], words: str, card_bytes: int
) -> Suggestion | None:
    """The change, if it is enough."""
    changed = subject.changed(changes)
    geometry = known_geometry(changes["model.base"]) if "model.base" in changes else None
    most = changed._replace(geometry=geometry or changed.geometry).most(card_bytes)
    return Suggestion(changes, words, most) if most <= card_bytes else None


def _together(subject: Subject, card_bytes: int) -> Iterator[Suggestion]:
    """The changes one upon the other, until it fits."""
    changes: dict[str, Any] = {}
    told: list[str] = []
    for make in OWN_CHANGES:
        made = _possible(make, subject.changed(changes), card_bytes)
        if made is None:
            continue
        changes |= made[0]
        told.append(made[1])
        words = "; ".join([told[0], *(one[:1].lower() + one[1:] for one in told[1:])])
        if (enough := _suggestion(subject, dict(changes), words, card_bytes)) is not None:
            yield enough
            return


Change = tuple[dict[str, Any], str]
Maker = Callable[[Subject, int], Change | None]


def _possible(make: Maker, subject: Subject, card_bytes: int) -> Change | None:
    """A change, where the recipe's check has nothing against it that it had not before."""
    change = make(subject, card_bytes)
    if change is None:
        return None
    after = set(problems(subject.changed(change[0]).recipe))
    return None if after - set(problems(subject.recipe)) else change


def _micro(subject: Subject, _card_bytes: int) -> Change | None:
    """A micro-batch that is found instead of given."""
    if subject.recipe.training.batch_size <= spec_of(subject.recipe.stage).smallest_batch:
        return None
    effective = effective_batch(subject.recipe, subject.geometry.parameters)
    changes = {
        "training.effective_batch_size": effective,
        "training.batch_size": 0,
        "training.gradient_accumulation": 0,
    }
    return changes, "Let the micro-batch be found: the same examples a step, fewer at once"


def _checkpointing(subject: Subject, _card_bytes: int) -> Change | None:
    if checkpointing(subject.recipe, "cuda"):
        return None
    return {"training.gradient_checkpointing": True}, "Switch gradient checkpointing on"


def _optimizer(subject: Subject, _card_bytes: int) -> Change | None:
    if "8bit" in subject.recipe.training.optimizer:
        return None
    return {"training.optimizer": "paged_adamw_8bit"}, "Keep the optimizer's state in 8 bits"


def _four_bits(subject: Subject, _card_bytes: int) -> Change | None:
    if subject.recipe.model.method == "qlora":
        return None
    return {"model.method": "qlora"}, "Train over 4-bit weights (QLoRA)"


def _shorter(subject: Subject, card_bytes: int) -> Change | None:
    """The longest rows that fit; of sampled completions their length is what counts."""
    path = ANSWERS if spec_of(subject.recipe.stage).policy else LENGTH
    table, _, key = path.partition(".")
    present = getattr(getattr(subject.recipe, table), key)
    for length in range(present - present % LENGTH_STEP, SHORTEST - 1, -LENGTH_STEP):
        if length < present and subject.changed({path: length}).most(card_bytes) <= card_bytes:
            what = "completions" if path == ANSWERS else "rows"
            return {path: length}, f"Take {what} of {length:,} tokens at most"
    return None


def _rank(subject: Subject, card_bytes: int) -> Change | None:
    if subject.recipe.model.method == "full" or subject.recipe.model.continue_adapter:
        return None
    rank = subject.recipe.lora.rank // 2
    while rank >= LEAST_RANK:
        if subject.changed({"lora.rank": rank}).most(card_bytes) <= card_bytes:
            return {"lora.rank": rank}, f"Lower the adapter's rank to {rank}"
        rank //= 2
    return None


def _smaller(subject: Subject, card_bytes: int) -> Change | None:
    """The largest smaller model of the family that fits."""
    base = subject.recipe.model.base
    for name, geometry in smaller_models(base, subject.geometry):
        if subject._replace(geometry=geometry).most(card_bytes) <= card_bytes:
            return {"model.base": name}, f"Take {name.rpartition('/')[2]} instead"
    return None


OWN_CHANGES = (_micro, _checkpointing, _optimizer, _four_bits, _shorter, _rank)
"""What can be changed without another model, the least costly first."""


def smaller_models(base: str, geometry: Geometry) -> list[tuple[str, Geometry]]:
    """Published models whose ids differ from this one's in the size alone, the larger first."""
    family = _without_size(base)
    found = [
        (name, other)
        for name in known_models()
        if _without_size(name) == family and (other := known_geometry(name)) is not None
        and other.parameters < geometry.parameters
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one[1].parameters)


def _without_size(name: str) -> str:
    return re.sub(r"(?<![a-z0-9])\d+(\.\d+)?[bm](?![a-z0-9])", "*", name, flags=re.IGNORECASE)
