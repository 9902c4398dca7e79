"""Adapters folded into their base as it is copied: file by file, one weight at a time.

The memory taken is that of the largest adapted weight in 32 bits, three times, and of the adapters.
The names in the files stay as they are. What Transformers builds of several stored tensors (experts
that it fuses) is copied as long as no adapter stands on it; where one does, and in a few other
cases, `open_stream` says that the model has to be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftConfig
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from workers.engines.adapters import earlier_adapter
from workers.engines.classes import Candidate, candidates_for
from workers.engines.shards import (
    PIECE,
    UNUSUAL,
    Planned,
    Stored,
    read,
    read_pieces,
    stored_shards,
    write_shards,
)
from workers.fetch import Located, is_packed

PLAIN_INITS = (True, False, "gaussian")
"""Ways to begin an adapter that leave the base's weights as they are; PEFT repeats the others on
loading, for which it needs the weights."""


class Unstreamable(Exception):
    """Why the weights cannot be taken one at a time."""


class OutOfRange(Exception):
    """A weight is beyond the largest number of the type to write."""


class Stream(NamedTuple):
    """A base with its adapters, ready to be written."""

    model: PreTrainedModel
    """Without weights (device `meta`), for its configuration."""
    shards: list[dict[str, Stored]]
    folds: dict[str, list[Fold]]
    """By stored name what changes a tensor, in order."""

    def write(self, folder: Path, dtype: torch.dtype) -> None:
        """Writes weights and configuration.

        Raises:
            OutOfRange: `dtype` is float16 and a weight is beyond it.
        """
        planned = [[self._planned(name, stored, dtype) for name, stored in shard.items()]
                   for shard in self.shards]  # fmt: skip
        write_shards(folder, planned)
        model: Any = self.model
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)

    def _planned(self, name: str, stored: Stored, dtype: torch.dtype) -> Planned:
        kept = dtype if stored.dtype.is_floating_point else stored.dtype

        def pieces() -> Iterator[torch.Tensor]:
            for piece in self._pieces(name, stored):
                cast = piece.to(kept)
                if kept == torch.float16 and not bool(cast.isfinite().all()):
                    raise OutOfRange(name)
                yield cast

        return Planned(name, kept, stored.shape, pieces)

    def _pieces(self, name: str, stored: Stored) -> Iterator[torch.Tensor]:
        if name not in self.folds:
            yield from read_pieces(stored)
            return
        weight = read(stored).float()
        for fold in self.folds[name]:
            weight = fold(weight)
        yield from weight.view(-1).split(PIECE)


Fold = Callable[[torch.Tensor], torch.Tensor]
"""What an adapter makes of a weight, in 32 bits."""


def open_stream(located: Located) -> Stream:
    """Looks at names and adapters; reads no weight of the base but such as may be there twice.

    Raises:
        Unstreamable: the model has to be loaded whole.
        Refusal: an adapter does not fit the base.
    """
    if is_packed(located.folder):
        raise Unstreamable("its weights are packed in less than 16 bits")
    try:
        shards = stored_shards(located.folder)
    except UNUSUAL as fault:
        raise Unstreamable(f"its files are not laid out as usual ({fault})") from fault
    stored = {name: place for shard in shards for name, place in shard.items()}
    candidate, places = _whole(located.folder, stored)
    folds: dict[str, list[Fold]] = {}
    for adapter in located.adapters:
        changed = _changes(_hollow(_without_weights(candidate, located.folder)), adapter)
        for name, fold in _by_stored_name(changed, places, stored).items():
            folds.setdefault(name, []).append(fold)
    kept = [{name: shard[name] for name in shard if name in places} for shard in shards]
    model = _without_weights(candidate, located.folder)
    return Stream(model, [shard for shard in kept if shard], folds)


def _whole(folder: Path, stored: dict[str, Stored]) -> tuple[Candidate, dict[str, Place]]:
    """The class for which the files hold every weight, and where they go in it."""
    for candidate in candidates_for(folder, lambda _: None):
        model = _without_weights(candidate, folder)
        places = _places(model, stored)
        tied: dict[str, str] = model.all_tied_weights_keys
        lacking = {*model.state_dict()} - {place.name for place in places.values()} - {*tied}
        if not lacking:
            return candidate, _once(places, stored, tied)
    raise Unstreamable("its files do not hold every weight of the model under its own name")


def _without_weights(candidate: Candidate, folder: Path) -> Any:
    """The model as Transformers opens the folder, on the device `meta`."""
    with torch.device("meta"):
        model = candidate.cls._from_config(deepcopy(candidate.config), dtype=torch.float32)
    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def _hollow(model: Any) -> Any:
    """With parameters of one number each, stretched to their shapes: PEFT puts an adapter where
    its layer is, and on `meta` it would be nowhere."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            stretched = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
            setattr(module, name, nn.Parameter(stretched, requires_grad=False))
    return model


class Place(NamedTuple):
    """Where a stored tensor goes in the model."""

    name: str
    """Of the parameter."""
    part: tuple[int, int] | None
    """Where several tensors are fused: of which expert it is, and the how manyth of those that
    are laid one after another; None where it is the whole parameter."""
    plain: bool = True
    """Fused by nothing but that."""


def _places(model: Any, stored: dict[str, Stored]) -> dict[str, Place]:
    """By stored name; without what the model has no place for, and would not be loaded."""
    conversions = get_model_conversion_mapping(model)
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    converters = [one for one in conversions if isinstance(one, WeightConverter)]
    own = model.state_dict()
    found: dict[str, Place] = {}
    for name in sorted(stored, key=dot_natural_key):
        renamed, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, own
        )
        if renamed in own and pattern is None:
            found[name] = Place(renamed, None)
        elif renamed in own:
            converter = next(one for one in converters if pattern in one.source_patterns)
            found[name] = _part(name, renamed, str(pattern), converter)
    return found


def _part(name: str, renamed: str, pattern: str, converter: WeightConverter) -> Place:
    """The place of a tensor that is fused with others."""
    kinds = [(type(one).__name__, getattr(one, "dim", None)) for one in converter.operations]
    number = re.search(r"\.experts\.(\d+)\.", name)
    plain = kinds in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)])
    if number is None or not plain:
        return Place(renamed, (0, 0), plain=False)
    return Place(renamed, (int(number[1]), converter.source_patterns.index(pattern)))


def _once(
    places: dict[str, Place], stored: dict[str, Stored], tied: dict[str, str]
) -> dict[str, Place]:
    """Without what is stored a second time though the model ties it to the first.

    Raises:
        Unstreamable: the two differ, or the first is not there.
    """
    names = {place.name: name for name, place in places.items()}
    for second, first in tied.items():
        if first not in names:
            raise Unstreamable(f"its files hold no {first}, only what is tied to it")
        if second in names and not _equal(stored[names[first]], stored[names[second]]):
            raise Unstreamable(f"{first} and {second} differ in its files, though they are tied")
    return {name: place for name, place in places.items() if place.name not in tied}


def _equal(one: Stored, other: Stored) -> bool:
    return one.shape == other.shape and all(
        torch.equal(*both) for both in zip(read_pieces(one), read_pieces(other), strict=True)
    )


def _by_stored_name(
    changed: dict[str, Change], places: dict[str, Place], stored: dict[str, Stored]
) -> dict[str, Fold]:
    """What an adapter changes, by the names in the files.

    Raises:
        Unstreamable: something that is tied, or fused in another way than experts are.
    """
    lost = {*changed} - {place.name for place in places.values()}
    if lost:
        raise Unstreamable(f"an adapter stands on {min(lost)}, which is tied to another weight")
    found: dict[str, Fold] = {}
    for name, place in places.items():
        if place.name not in changed:
            continue
        change = changed[place.name]
        if place.part is None:
            found[name] = change.whole
        elif place.plain and change.of_expert is not None:
            expert, at = place.part
            found[name] = change.of_expert(expert, at * stored[name].shape[0])
        else:
            raise Unstreamable(f"an adapter stands on {place.name}, which is put together of parts")
    return found


class Change(NamedTuple):
    """What an adapter makes of one parameter."""

    whole: Fold
    of_expert: Callable[[int, int], Fold] | None = None
    """Of fused experts, the same for the rows of one of them from a number on."""


def _changes(model: Any, adapter: Path) -> dict[str, Change]:
    """By the names of the parameters; the model is hollow, the adapter is read.

    Raises:
        Unstreamable: PEFT alone knows how the adapter is to be merged.
    """
    config: Any = PeftConfig.from_pretrained(str(adapter))
    if getattr(config, "init_lora_weights", None) not in PLAIN_INITS:
        raise Unstreamable("an adapter began from the base's own weights, which it changed")
    tied = {*model.all_tied_weights_keys} if config.ensure_weight_tying else set()
    bare = earlier_adapter(model, adapter, hollow=True).get_base_model()
    found: dict[str, Change] = {}
    for path, module in bare.named_modules():
        name = path.replace(".base_layer", "")
        if isinstance(module, ModulesToSaveWrapper):
            (kept,) = module.modules_to_save.values()
            found |= {f"{name}.{key}": _replaced(weight) for key, weight in kept.named_parameters()}
        elif isinstance(module, LoraLayer) and _incomplete(module):
            raise Unstreamable("an adapter does not hold all of its weights")
        elif isinstance(module, ParamWrapper):
            found[f"{name}.{module.parameter_name}"] = _merged_experts(module)
        elif isinstance(module, LoraLayer) and not any(module.lora_bias.values()):
            found[f"{name}.weight"] = Change(_merged(module, "weight"))
        elif isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            raise Unstreamable(f"an adapter holds a {type(module).__name__}")
    return {name: change for name, change in found.items() if name not in tied}


def _incomplete(layer: LoraLayer) -> bool:
    own = (getattr(layer, name) for name in layer.adapter_layer_names)
    return any(weight.is_meta for one in own for weight in one.parameters())


def _replaced(weight: nn.Parameter) -> Change:
    """Of a layer that was trained whole beside the adapter."""
    return Change(lambda _: weight.detach().float())


def _merged(layer: Any, name: str) -> Fold:
    """By PEFT's own merging of one layer (LoRA, rsLoRA, DoRA ...), which is given its weight for
    that moment."""

    def fold(weight: torch.Tensor) -> torch.Tensor:
        base = layer.get_base_layer()
        setattr(base, name, nn.Parameter(weight, requires_grad=False))
        layer.merged_adapters.clear()  # of an earlier weight: a stream can be written again
        layer.merge()
        merged: torch.Tensor = getattr(base, name).data
        setattr(base, name, nn.Parameter(torch.empty(0), requires_grad=False))
        return merged

    return fold


def _merged_experts(layer: ParamWrapper) -> Change:
    def of_expert(expert: int, begin: int) -> Fold:
        def fold(weight: torch.Tensor) -> torch.Tensor:
            left, right, scaling = layer.get_delta_factors(layer.active_adapters[0])
            delta = left[expert, begin : begin + len(weight)] @ right[expert]  # (out, in)
            return weight + delta * scaling

        return fold

    return Change(_merged(layer, layer.parameter_name), of_expert)
