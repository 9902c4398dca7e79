"""What a model's config.json says before any weight of it is fetched or read; no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import runpy
from pathlib import Path
from typing import Any

from workers.protocol.refusal import Refusal

DEQUANTIZED = ("mxfp4", "fp8")
"""Ways of storing that Transformers turns into 16-bit weights on loading (`dequantize`)."""

WORDS = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "compressed-tensors": "compressed-tensors",
}
SUFFIX = re.compile(
    r"(?:[-_](?:unsloth|bnb|bitsandbytes|gguf|mlx|quantized|dynamic|(?:bnb|mlx)?[-_]?[348]bit|"
    r"gptq|awq|fp8|nvfp4|mxfp4|exl[23]|autoround|int[48]|w[48]a(?:8|16)|g\d+|128g))+$",
    re.IGNORECASE,
)
"""What hubs hang on a model's name for how it was quantized."""

BASE_MODEL = re.compile(r"^base_model:\s*(?:\n\s*-\s*)?[\"']?([\w.-]+/[\w.-]+)", re.MULTILINE)
"""Of what a model was made, in the head of its card."""


def quantized_by(config: dict[str, Any]) -> str:
    """By what method the weights are stored quantized; empty where they are not."""
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, dict) else None
    stored = config.get("quantization_config") or inner
    if not isinstance(stored, dict):
        return ""
    four_bit = stored.get("load_in_4bit") or stored.get("load_in_8bit")
    method = stored.get("quant_method") or ("bitsandbytes" if four_bit else "another way")
    return str(getattr(method, "value", method)).lower()


def original_of(name: str, card: str = "") -> str:
    """The 16-bit model that a quantized one was made of: as its card says, else its name without
    what tells the method; empty where neither tells."""
    head = card.split("\n---", 1)[0] if card.startswith("---") else ""
    if stated := BASE_MODEL.search(head):
        return stated.group(1)
    stripped = SUFFIX.sub("", name)
    return stripped if stripped != name else ""


def require_trainable(config: dict[str, Any], name: str, card: str = "") -> None:
    """Refuses a model that no engine can train, by its config.json alone.

    Args:
        config: what config.json holds.
        name: of the model, as a recipe names it.
        card: its README, empty where there is none.

    Raises:
        Refusal: its weights are quantized for good, it runs only by its own code, or this version
            of Transformers does not know it.
    """
    method = quantized_by(config)
    if method and method not in DEQUANTIZED:
        raise _quantized(name, WORDS.get(method, method), original_of(name, card))
    _require_class(config, name)


def _quantized(name: str, method: str, original: str) -> Refusal:
    instead = f"model.base = '{original}'" if original else "model.base to the 16-bit original"
    return Refusal(
        f"The weights of {name} are already quantized ({method}).",
        "What is learnt on rounded weights fits no other copy of the model and cannot be merged "
        "into it without loss.",
        f"Set {instead}; with model.method = 'qlora' it is rounded to 4 bits on loading and takes "
        "no more memory.",
    )


def _require_class(config: dict[str, Any], name: str) -> None:
    """Refuses a `model_type` for which the installed Transformers has no class."""
    kind = config.get("model_type")
    if _is_known(kind):
        return
    version = importlib.metadata.version("transformers")
    if config.get("auto_map"):
        raise Refusal(
            f"{name} comes with Python code of its own, which is never run.",
            f"Its config.json asks for it (auto_map), and Transformers {version} has no class for "
            f"model_type '{kind}'.",
            "Choose a model that Transformers knows, or a conversion of this one to such a class.",
        )
    raise Refusal(
        f"{name} is of a kind that Transformers {version} does not know.",
        f"Its model_type is '{kind}'." if kind else "Its config.json names no model_type.",
        "Choose another model; a newer version of this program may know it.",
    )


def _is_known(kind: Any) -> bool:
    """Whether Transformers has a configuration of that `model_type`. Its list is read as a file,
    since importing the package takes seconds; older names stand elsewhere."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    listed = runpy.run_path(str(Path(spec.origin).parent / "models/auto/auto_mappings.py"))
    if kind in listed["CONFIG_MAPPING_NAMES"]:
        return True
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return kind in CONFIG_MAPPING_NAMES
