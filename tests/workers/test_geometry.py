"""Sizes of models: what follows from their config.json is what was published."""

from __future__ import annotations

import pytest

from workers.estimate.geometry import geometry_of, known_config, known_geometry, known_models
from workers.protocol.catalogue import read_catalogue
from workers.protocol.stages import PARAMETERS

PUBLISHED = {
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "google/gemma-3-4b-it": 4_300_079_472,
    "google/gemma-2-9b": 9_241_705_984,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "microsoft/phi-4": 14_659_507_200,
    "ibm-granite/granite-3.3-8b-instruct": 8_170_864_640,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
}
"""Parameters as the hub counts them in the published weights, a tied output layer once."""
CATALOGUED = {
    entry.id: entry.parameters_billion * 1e9
    for entry in read_catalogue().models
    if known_geometry(entry.id) is not None
}


def test_most_of_the_catalogue_has_its_sizes() -> None:
    assert len(CATALOGUED) >= 60
    unknown = {name for name in known_models() if known_geometry(name) is None}
    assert {name.partition("/")[0] for name in unknown} == {"openai", "swiss-ai"}  # simulated


@pytest.mark.parametrize("model", PUBLISHED)
def test_parameters_are_counted_to_the_last(model: str) -> None:
    geometry = known_geometry(model)
    assert geometry is not None
    assert geometry.parameters == PUBLISHED[model]


@pytest.mark.parametrize("model", CATALOGUED)
def test_sizes_give_the_parameters_that_the_catalogue_states(model: str) -> None:
    geometry = known_geometry(model)
    assert geometry is not None
    assert geometry.parameters == pytest.approx(CATALOGUED[model], rel=0.01)


@pytest.mark.parametrize("model", PARAMETERS)
def test_models_that_come_with_the_program_are_counted_too(model: str) -> None:
    geometry = known_geometry(model)
    assert geometry is not None
    assert geometry.parameters == PARAMETERS[model]


def test_what_a_config_leaves_out_is_the_familys_own() -> None:
    """As google/gemma-3-4b-it writes it: heads, their width and the vocabulary are not there."""
    whole = known_config("google/gemma-3-4b-it")
    assert whole is not None
    told = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "sliding_window")
    text = {name: whole["text_config"][name] for name in told}
    short = {"model_type": "gemma3", "text_config": text, "vision_config": whole["vision_config"]}
    assert geometry_of(short) == geometry_of(whole)


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "rwkv7"}, {"model_type": "llama", "hidden_size": 64}]
)
def test_a_family_that_is_not_known_or_not_told_has_no_sizes(config: dict[str, object]) -> None:
    assert geometry_of(config) is None


def test_a_model_that_nobody_catalogued_has_no_sizes() -> None:
    assert known_geometry("somebody/something-7B") is None
