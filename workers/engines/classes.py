"""Which class of Transformers opens a model folder: by its `model_type`, from Transformers' own
mappings, never by a list of ours.

A model with a vision or audio tower is opened whole, so that it keeps it through training and
merging; one whose weights hold no tower is opened as its language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification

from workers.protocol.refusal import Refusal
from workers.snapshot import DEQUANTIZED, quantized_by

Tell = Callable[[str], None]
HEADS = ("score.weight",)
"""What a body that was trained to speak lacks as a reward model: it begins at random."""
UNREADABLE = (
    AttributeError, ImportError, KeyError, OSError, RuntimeError, SafetensorError, TypeError,
    ValueError,
)  # fmt: skip
"""What Transformers raises over a folder that it cannot open."""


class Candidate(NamedTuple):
    """A class that may open a folder, and the configuration it is given."""

    cls: Any
    config: PreTrainedConfig


def open_speaking(folder: Path, tell: Tell, **options: Any) -> PreTrainedModel:
    """The language model in a folder, whole with its towers where it has some.

    Args:
        folder: config.json and safetensors.
        tell: told, in the user's words, what of the folder is not as it was stored.
        options: of `from_pretrained`, such as `dtype`.

    Raises:
        Refusal: no class writes text with this model, or weights are missing.
    """
    return _open(folder, candidates_for(folder, tell), tell, options)


def candidates_for(folder: Path, tell: Tell) -> list[Candidate]:
    """The classes that may open the language model in a folder, the whole one first.

    Raises:
        Refusal: no class writes text with this model.
    """
    config = _config(folder, tell)
    candidates = list(speaking_classes(config))
    if not candidates or getattr(config, "is_encoder_decoder", False):
        raise Refusal(
            f"The model in {folder.name} does not continue a text.",
            f"Its model_type is '{config.model_type}', which Transformers opens as another kind "
            "of model.",
            "Choose a model that answers in text.",
        )
    return candidates


def open_scoring(folder: Path, tell: Tell, **options: Any) -> PreTrainedModel:
    """The body of the model in a folder with one output per conversation on it: a reward model.

    Raises:
        Refusal: the folder cannot be opened so, or weights are missing.
    """
    config = _config(folder, tell)
    config.num_labels = 1
    return _open(folder, [Candidate(scoring_class(config), config)], tell, options)


def scoring_class(config: PreTrainedConfig) -> Any:
    """The family's class for sequence classification, or Transformers' generic head on its body."""
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    body: Any = MODEL_MAPPING.get(type(config), None)
    if body is None or body in (one.cls for one in speaking_classes(config)):
        raise Refusal(
            f"A model of type '{config.model_type}' cannot become a reward model.",
            "Transformers has no body of it without its output layer.",
            "Choose another base model for this stage.",
        )
    family = next(one for one in body.__mro__ if one.__name__.endswith("PreTrainedModel"))
    name = family.__name__.replace("PreTrainedModel", "ForSequenceClassification")
    prefix = family.base_model_prefix or "model"
    made = type(name, (GenericForSequenceClassification, family), {"base_model_prefix": prefix})
    made.__module__ = family.__module__
    return made


def set_padding(model: PreTrainedModel, token: Any) -> None:
    """Tells a reward model what padding is; its head reads the last token that is none."""
    model.config.pad_token_id = token
    model.config.get_text_config().pad_token_id = token


def _config(folder: Path, tell: Tell) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as fault:
        raise _unopened(folder, fault) from fault
    method = quantized_by(config.to_dict())
    if method in DEQUANTIZED:
        config.quantization_config = {**config.quantization_config, "dequantize": True}
        tell(
            f"The weights are stored in {method} and are read as 16-bit ones, which take "
            "two to four times the memory of the files."
        )
    return config


def speaking_classes(config: PreTrainedConfig) -> Iterator[Candidate]:
    """What may speak with this model, the whole one first; then its language model alone."""
    mappings = (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
    )
    whole = next((one[type(config)] for one in mappings if type(config) in one), None)
    if whole is not None:
        yield Candidate(whole, config)
    text = config.get_text_config()
    if text is not config and type(text) in MODEL_FOR_CAUSAL_LM_MAPPING:
        yield Candidate(MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text)


def _open(
    folder: Path, candidates: list[Candidate], tell: Tell, options: dict[str, Any]
) -> PreTrainedModel:
    """The first candidate for which the folder holds every weight."""
    missing: list[str] = []
    packed = quantized_by(candidates[0].config.to_dict()) in DEQUANTIZED
    for at, (cls, config) in enumerate(candidates):
        try:
            model, found = cls.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **options
            )
        except torch.OutOfMemoryError:
            raise
        except UNREADABLE as fault:
            raise _unopened(folder, fault) from fault
        lacking = [name for name in found["missing_keys"] if name not in HEADS]
        if not lacking:
            if at:
                tell("The files hold no vision or audio tower: the language model is opened alone.")
            _tell_left(found["unexpected_keys"], tell)
            if packed:
                _forget_packing(model)
            return model
        missing = missing or sorted(lacking)
        del model
    raise Refusal(
        f"{len(missing)} weights of the model in {folder.name} are missing.",
        f"The files hold no {', '.join(missing[:3])}{' and others' if missing[3:] else ''}; "
        "Transformers would begin them at random.",
        "Fetch the model again, or choose another copy of it.",
    )


def _tell_left(unexpected: set[str], tell: Tell) -> None:
    """Says which parts of the files no class reads, by the first words of their names; the output
    layer of a model that is to score is no loss."""
    parts = {".".join(name.split(".")[:2]) for name in unexpected} - {"lm_head.weight"}
    if parts:
        tell(
            f"{len(unexpected)} of the stored weights are not read and will not be in what is "
            f"exported: {', '.join(sorted(parts)[:5])}."
        )


def _forget_packing(model: PreTrainedModel) -> None:
    """Drops how packed weights were renamed on loading: saving would turn it round, and write
    scales again, under names that nothing reads."""
    vars(model).pop("_weight_conversions", None)


def _unopened(folder: Path, fault: BaseException) -> Refusal:
    """One sentence of the fault, which may list every class that Transformers has."""
    said = " ".join(str(fault).split())
    return Refusal(
        f"The model in {folder.name} could not be opened.",
        f"{said[:200]}{'…' if len(said) > 200 else ''}",
        "Fetch it again if its files may be damaged, or choose another model; the log holds the "
        "whole message.",
    )
