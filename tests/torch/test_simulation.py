"""Simulated steps: counted as torch counts, alike in every layer, still as they were recorded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from tests.torch import simulations
from workers.__main__ import run_folder
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Finished, StepSimulated
from workers.protocol.jobs import Job, Simulate
from workers.protocol.recipe import Model, Recipe, Training
from workers.protocol.refusal import Refusal
from workers.simulate import simulate
from workers.simulate.contents import Contents, masks_looked_at
from workers.simulate.models import speaking
from workers.simulate.storages import LiveStorages

SHAPE: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "tie_word_embeddings": False,
}  # fmt: skip


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def step_of(model: Any, optimizer: Any) -> None:
    """A whole step of training, on whatever tensors the model has."""
    ids = torch.ones(4, 128, dtype=torch.long)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def allocated(work: Callable[[], None]) -> int:
    """The most bytes that torch's allocator on the CPU gave out at one time, by its profiler."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    events: Any = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(itertools.accumulate(sizes))


def test_storages_are_counted_as_the_allocator_counts_them() -> None:
    model = llama()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    step_of(model, optimizer)  # the optimizer has its states from here on
    real = allocated(lambda: step_of(model, optimizer))

    alike = Contents(number=lambda _: True, count=torch.Tensor.numel)
    with FakeTensorMode(), alike, masks_looked_at(), LiveStorages(SHAPE["vocab_size"]) as counter:
        fake = llama()
        fakes = torch.optim.AdamW(fake.parameters(), foreach=False)
        step_of(fake, fakes)
        counter.name("there", [*fake.parameters(), *fake.buffers()])
        counter.name("there", (one for state in fakes.state.values() for one in state.values()))
        counter.restart()
        step_of(fake, fakes)
    assert counter.peak - counter.parts["there"] == pytest.approx(real, rel=0.02)
    assert counter.parts["logits"] >= 4 * 128 * SHAPE["vocab_size"] * 4


def test_a_storage_is_counted_once_and_while_it_lives() -> None:
    with LiveStorages() as counter:
        whole = torch.zeros(1000)
        part = whole[10:20].view(2, 5)
        assert counter.live == 4096
        del whole
        assert counter.live == 4096
        del part
    assert (counter.live, counter.peak, counter.parts) == (0, 4096, {"activations": 4096})


def peak_of(layers: int, **options: Any) -> int:
    recipe = Recipe(model=Model(method=options.pop("method", "lora")), training=Training())
    shape = SHAPE | {"num_hidden_layers": layers}
    return simulate(shape, recipe, longest=256, **options).peak


@pytest.mark.slow
def test_every_further_layer_takes_as_much_as_the_one_before() -> None:
    peaks = [peak_of(layers, micro=2, checkpointing=False) for layers in (2, 3, 5)]
    assert peaks[2] - peaks[1] == 2 * (peaks[1] - peaks[0]) > 0


def test_a_model_with_a_tower_for_pictures_is_made_and_tied() -> None:
    """Its tower's first weights are drawn until they lie within bounds, which no fake one does."""
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 1, "image_size": 28, "patch_size": 14,
             "model_type": "siglip_vision_model"}  # fmt: skip
    text = SHAPE | {"model_type": "gemma3_text"}
    fields = {"model_type": "gemma3", "text_config": text, "vision_config": tower}
    with FakeTensorMode(), Contents(number=lambda _: True, count=torch.Tensor.numel):
        model: Any = speaking(fields, torch.bfloat16)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_configuration_that_is_unknown_is_refused() -> None:
    with pytest.raises(Refusal, match="mistery"):
        simulate({"model_type": "mistery"}, Recipe(), micro=1, longest=8, checkpointing=True)


def test_the_record_is_of_the_published_shapes() -> None:
    shapes = json.loads((assets_folder() / "catalogue" / "geometries.json").read_text())
    record = simulations.read_record()
    assert len(record) >= 40
    for one in record:
        assert one.config == shapes[one.model]
        assert sum(one.parts.values()) == one.peak > one.parts["weights"]


def label(one: simulations.Combination) -> str:
    return f"{one.model} {one.recipe['stage']} {one.recipe['model']['method']}"


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.slow
@pytest.mark.parametrize(
    "one",
    [
        pytest.param(
            one,
            id=f"{label(one)} {one.micro}x{one.longest}{'' if one.checkpointing else ' kept'}",
        )
        for one in simulations.read_record()
    ],
)
def test_a_recorded_step_is_as_it_was(one: simulations.Combination) -> None:
    found = simulations.again(one)
    assert (found.peak, found.parts) == (one.peak, one.parts)


def test_a_job_tells_what_a_step_takes(tmp_path: Path) -> None:
    task = Simulate(recipe=Recipe(model=Model(base="starter")), longest=128)
    folder = tmp_path / "jobs" / "simulation"
    folder.mkdir(parents=True)
    job = Job(id="simulation", name="simulation", created="", home=str(tmp_path), task=task)
    wire.write_job(folder, job)
    assert run_folder(folder) == 0
    said = [line.event for line in wire.read_events(folder)]
    found = next(event for event in said if isinstance(event, StepSimulated))
    assert found.peak == sum(found.parts.values()) > 2 * 2_590_464
    assert isinstance(said[-1], Finished)
