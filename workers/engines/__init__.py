"""One engine a file: from a recipe to a model and tokenizer, with the adapter on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Loaded(NamedTuple):
    """A model ready to train or to speak, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    """`cpu`, `cuda` or `mps`."""
    dtype: torch.dtype
    """In which it computes."""
