"""The base model that a foreign config names: whether it speaks text, and its 16-bit weights."""

from __future__ import annotations

import re

from studio.importing.account import Account, Unfit
from studio.importing.datasets import found_beside
from workers.protocol.sources import HUB_MODEL

UNSLOTH_4BIT = re.compile(r"(unsloth/.+?)(?:-unsloth)?-bnb-4bit", re.IGNORECASE)
"""Unsloth's copies in 4 bits, which it keeps beside the original under its own name."""
QUANTIZED = re.compile(
    r"(?i)[-_](?:gptq|awq|aqlm|nvfp4|fp8|fp4|int8|int4|bnb(?:-\w+)*|[48]bit|gguf|prequantized)\b"
)
"""Endings by which quantised copies are called."""
WEIGHTS_LEFT = re.compile(r"(?i)bnb-nf4|prequantized")
OTHER_SENSES = re.compile(
    r"(?i)(?:^|[-_/.\d])(?:vl|vlm|vision|ocr|llava|pixtral|internvl|smolvlm\d?|whisper|tts|csm|"
    r"llasa|orpheus|outetts|voxtral|audio|omni|mllama|moss-vl)(?:$|[-_/.\d])"
)
"""Names of models that are made for pictures or sound."""
EMBEDS = re.compile(r"(?i)embed|(?:^|[-_/])(?:bge|gte|minilm|modernbert)|bert(?:$|[-_])")


def check_text(base: str) -> None:
    """Refuses models for pictures, sound and vectors, by their names."""
    if OTHER_SENSES.search(base):
        raise not_text(f"{base} is a model for pictures or sound.")
    if EMBEDS.search(base):
        raise not_text(f"{base} makes vectors, not text.")


def not_text(what: str) -> Unfit:
    return Unfit(
        "not text", what, "Only text can be learnt so far.",
        "Take a config for text, or import with --model and another base model.",
    )  # fmt: skip


def carry_base(account: Account, key: str) -> None:
    """The base model, in its 16-bit weights; refuses a quantised one whose original is not known.

    Args:
        key: where the config names it.
    """
    base = account.text(key)
    if not base:
        account.lack(
            "model", "The config names no base model.", "It is a set of settings for one.",
            "Choose one in the window, or import with --model and its id.",
        )  # fmt: skip
        return
    check_text(base)
    unsloth = UNSLOTH_4BIT.fullmatch(base)
    if unsloth:
        account.change(
            key, "the 16-bit original; it is held in 4 bits where the method is qlora",
            "model.base", unsloth[1],
        )  # fmt: skip
    elif QUANTIZED.search(base) or WEIGHTS_LEFT.search(base):
        account.lack(
            "quantised base", f"{base} holds quantised weights.",
            "A recipe starts from 16-bit weights and quantises them itself (method qlora).",
            "Choose the original in the window, or import with --model and its id.",
        )  # fmt: skip
        account.change(key, "holds quantised weights; name the 16-bit original")
    else:
        on_disk = base if HUB_MODEL.fullmatch(base) else found_beside(base, account.path)
        account.carry(key, "model.base", on_disk)
