"""The tokenizer that training, speaking and looking at data share; no weights, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.data.templates import dress
from workers.fetch import Located
from workers.protocol.recipe import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(located: Located, template: Template = "auto") -> PreTrainedTokenizerBase:
    """The newest tokenizer on the way, with the chat template asked for.

    `auto` takes the model's own, ChatML where it has none.
    """
    tokenizer = read_tokenizer(located)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    dress(tokenizer, template)
    return tokenizer


def read_tokenizer(located: Located) -> PreTrainedTokenizerBase:
    """The newest tokenizer on the way, as it lies in its folder."""
    from transformers import AutoTokenizer

    folders = [*reversed(located.adapters), located.folder]
    folder = next(f for f in folders if (f / "tokenizer_config.json").is_file())
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
