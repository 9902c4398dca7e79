"""Every chat template that TRL and llama.cpp's package ship, and what is right about each of them.

What ends an answer was read off the templates and their models' cards by hand; nothing here comes
from the code that makes masks. A tiny byte-level tokenizer with a template's marks as tokens stands
in for the model's own.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ENDS = {
    "<|im_end|>": (
        "Bielik", "HuggingFaceTB-SmolLM3", "Kimi-K2", "LFM2", "MiMo", "NVIDIA-Nemotron-3",
        "NousResearch",
        "Qwen", "StepFun", "openbmb", "lfm2", "nemotron_3", "qwen", "moonshotai",
    ),
    "<|end_of_msg|>": ("Kimi-K3",),
    "<seed:eos>": ("ByteDance",),
    "<|END_OF_TURN_TOKEN|>": ("Cohere", "cohere"),
    "<|message_sep|>": ("GigaChat",),
    "<end_of_sentence>": ("MiniMax-M1",),
    "[e~[": ("MiniMax-M2", "MiniMax-M3"),
    "</s>": ("Mistral-Small", "mistralai", "unsloth-mistral", "llava_next"),
    "<SPECIAL_12>": ("NVIDIA-Nemotron-Nano-v2",),
    "<sep>": ("Reka",),
    "<｜end▁of▁sentence｜>": ("Spark", "deepseek", "llama-cpp-deepseek"),
    "<|eot_id|>": ("fireworks", "meetkai", "meta-llama", "llama3"),
    "<end_of_turn>": ("google-gemma-2", "gemma.", "gemma3."),
    "<turn|>": ("google-gemma-4", "gemma4", "diffusion_gemma"),
    "<|end_of_text|>": ("ibm-granite",),
    "<|role_end|>": ("inclusionai",),
    "<|end|>": (
        "microsoft-Phi", "phi3.", "phi3_5", "Apriel-1.6", "unsloth-Apriel", "upstage-Solar",
    ),
    "<|eot|>": ("muse",),
    "<|return|>": ("openai", "gptoss"),
    "</assistant>": ("poolside",),
    "<end_of_utterance>": ("idefics3",),
    "<|endoftext|>": ("GLM", "glm4moe", "llama-cpp-rwkv"),
    "<|assistant_end|>": ("Apertus",),
    "<｜hy_eos:opensource｜>": ("tencent",),
}  # fmt: skip
"""By the token that ends an answer: beginnings of templates' names. Of the last three lines the
template writes none, and generation stops at the model's end token."""
CALL_ENDS = {
    "Apertus": "<|tools_suffix|>",
    "meetkai-functionary-medium-v3.1": "<|eom_id|>",
    "google-gemma-4-31B-it.": "<|tool_response>",
    "gemma4": "<|tool_response>",
    "diffusion_gemma": "<|tool_response>",
    "openai": "<|call|>",
    "gptoss": "<|call|>",
    "upstage-Solar": "<|calls|>",
}
"""What ends a call of a tool instead."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer, and most since, splits text: line breaks stay together."""
MARK = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|>|<｜[^｜<>\s'\"{}]{1,40}｜>|</?[a-z_]+:?[a-z_]*>|\[/?[A-Z_]{3,}\]|<SPECIAL_\d+>"
    r"|<\|[a-z_]+>|<[a-z_]+\|>|\[e~\[|\]~!?b\[?\]?"
)
"""What looks like a token of its own in a template's text."""


def template_paths(models_folder: Path) -> dict[str, Path]:
    """Names and files of all templates for use, those rewritten for training left out."""
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    ours = sorted((Path(spec.origin).parent / "chat_templates").glob("*.jinja"))
    theirs = sorted((models_folder / "templates").glob("*.jinja"))
    named = {f"trl:{path.stem}": path for path in ours if not path.stem.endswith("_training")}
    return {path.stem: path for path in theirs} | named


def end_of(name: str) -> str:
    """The token that ends an answer in a template."""
    bare = name.removeprefix("trl:") + "."
    found = [end for end, starts in ENDS.items() if bare.startswith(starts)]
    assert len(found) == 1, (name, found)
    return found[0]


def call_end_of(name: str) -> str:
    """The token that ends a call of a tool."""
    bare = name.removeprefix("trl:") + "."
    found = (end for start, end in CALL_ENDS.items() if bare.startswith(start))
    return next(found, end_of(name))


def tokenizer_for(name: str, template: str) -> Any:
    """A byte-level tokenizer that has all of the template's marks as tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    newlines = [("Ċ", "Ċ"), ("Ġ", "Ġ")]
    ids = {letter: at for at, letter in enumerate([*letters, *map("".join, newlines)])}
    backend = Tokenizer(models.BPE(ids, newlines))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    end = end_of(name)
    marks = {*MARK.findall(template), end, call_end_of(name), "<think>", "</think>", "<bos>"}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token=end)
    made.add_special_tokens({"additional_special_tokens": sorted(marks)})
    made.chat_template = template
    return made
