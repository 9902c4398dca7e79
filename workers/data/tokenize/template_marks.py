"""Marks that chat templates put around turns: left-overs where they stand in a turn's own text.

The look begins with a plain substring search, which costs next to nothing on the many clean rows.
"""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "ChatML": ("<|im_start|>", "<|im_end|>"),
    "Llama 3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"),
    "Llama 2": ("[INST]", "[/INST]", "<<SYS>>"),
    "Gemma": ("<start_of_turn>", "<end_of_turn>"),
    "Phi": ("<|user|>", "<|assistant|>", "<|system|>"),
    "DeepSeek": ("<｜User｜>", "<｜Assistant｜>"),
    "Harmony": ("<|start|>assistant", "<|channel|>"),
    "Alpaca": ("### Instruction:", "### Response:"),
}
"""Marks that chat templates put around turns; in a turn's own text they are left-overs."""
_SPEAKERS = (("Human:", "Assistant:"), ("USER:", "ASSISTANT:"), ("User:", "Assistant:"))
_MARKS = [(mark, family) for family, marks in FAMILIES.items() for mark in marks]


def template_marks(text: str, own: str | None = None) -> str | None:
    """The family of chat template whose marks stand in a text.

    Args:
        own: the model's template, whose marks may stand in text that is rendered already.
    """
    if "<" in text or "[" in text or "###" in text:
        for mark, family in _MARKS:
            if mark in text and not (own and mark in own):
                return family
    if ":" in text:
        for user, assistant in _SPEAKERS:
            if user in text and assistant in text and _speaks(text, user, assistant):
                return f"{user} {assistant}"
    return None


def _speaks(text: str, user: str, assistant: str) -> bool:
    """Whether both speakers begin a line."""
    lines = [line.lstrip() for line in text.splitlines()]
    return all(any(line.startswith(who) for line in lines) for who in (user, assistant))
