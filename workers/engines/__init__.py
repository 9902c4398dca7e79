"""One engine a file: from a recipe to a model and tokenizer, with the adapter on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workers.protocol.recipe import Engine, Recipe
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from workers.fetch import Located


class Loaded(NamedTuple):
    """A model ready to train or to speak, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    """`cpu`, `cuda` or `mps`."""
    dtype: torch.dtype
    """In which it computes."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Within, weights of 32 bits compute beside those of 16, as they do in training."""
        import torch

        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device, self.dtype)


class EngineModule(Protocol):
    """What an engine's module offers."""

    def load_for_training(
        self, recipe: Recipe, located: Located, tell: Callable[[str], None]
    ) -> Loaded: ...


def load_engine(name: Engine, home: Path) -> EngineModule:
    """The module of an engine; `auto` is the plain one, which runs everywhere.

    To be called before transformers or trl is imported: Unsloth replaces parts of both.

    Args:
        home: the studio's, in which Unsloth keeps the source that it generates; by itself it would
            write into the folder that the studio was started in.
    """
    if name == "unsloth":
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(home / "cache" / "unsloth"))
        try:
            from workers.engines import unsloth
        except ImportError as fault:
            raise Refusal(
                "Unsloth cannot be imported in this environment.",
                f"{fault}.",
                "Make its environment anew: python3 packaging/bootstrap.py unsloth. Or set "
                "model.engine = 'auto'.",
            ) from fault
        return unsloth
    from workers.engines import transformers

    return transformers
