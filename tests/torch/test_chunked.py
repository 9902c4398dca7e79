"""Losses by chunks: the same numbers and gradients as over the logits themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.torch.tiny_families import SIZE
from workers.protocol.options import options_of
from workers.protocol.recipe import Preference
from workers.train import chunked
from workers.train.tokenized import (
    CPOConfig,
    DPOConfig,
    KTOConfig,
    ORPOConfig,
    TokenizedCPO,
    TokenizedDPO,
    TokenizedKTO,
    TokenizedORPO,
)

CLOSE = 1e-5
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "gemma2": {"head_dim": 16, "final_logit_softcapping": 5.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "falcon_h1": {
        "head_dim": 16, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16,
        "mamba_chunk_size": 64, "mamba_d_ssm": 128, "lm_head_multiplier": 0.5,
    },
}  # fmt: skip
"""One that gives its head's output as it is, and those that scale, bound or multiply it."""
LOSSES = [
    choice for option in options_of(Preference) if option.key == "loss"
    for choice in option.choices or ()
]  # fmt: skip


def family(name: str, words: int = 61) -> PreTrainedModel:
    """A random model with large logits, and with an adapter's effect on every one of them."""
    from transformers import CONFIG_MAPPING

    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**SIZE | {"vocab_size": words} | FAMILIES[name])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    return model


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK", 7)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_its_own_logits_by_chunks(name: str) -> None:
    model = family(name)
    ids = torch.randint(3, 61, (3, 11))
    logits = model(input_ids=ids).logits[:, :-1] / 0.7
    expected = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    with chunked.deferred_logits([model]):
        deferred = model(input_ids=ids).logits[:, :-1] / 0.7
        assert isinstance(deferred, chunked.DeferredLogits)
        found = chunked.token_log_probabilities(deferred, ids[:, 1:])
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
    torch.testing.assert_close(deferred.tensor(), logits, atol=1e-4, rtol=0)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(chunked.token_entropies(deferred.detach()), entropy, atol=CLOSE,
                               rtol=0)  # fmt: skip
    assert torch.equal(deferred.argmax(-1), logits.argmax(-1))
    assert isinstance(model(input_ids=ids).logits, torch.Tensor)
    assert_same_gradients(model, found.square().sum(), expected.square().sum())


def assert_same_gradients(model: Any, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Of both losses, relative to the largest that the model has."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    both = [torch.autograd.grad(loss, weights, allow_unused=True) for loss in (found, expected)]
    largest = max(float(one.abs().max()) for one in both[1] if one is not None)
    assert largest > 0
    for mine, theirs in zip(*both, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine / largest, theirs / largest, atol=CLOSE, rtol=0)
