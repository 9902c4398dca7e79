"""Memory that really runs out, on the card: the run finds what fits, and ends finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torch.test_out_of_memory import of, run
from workers.device import free_memory
from workers.protocol.events import Finished, Note, Retried
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training

LEFT = 3 * 2**30
"""Bytes of the card that the run finds free. Micro-batches of 64 rows with 400 tokens and more take
some ten times as much in eight layers of width 1,024, those of 4 take a third of it."""
LAYERS, WIDTH = 8, 1024


@pytest.fixture
def full_card() -> Iterator[None]:
    """A card of which another holds all but a little."""
    import torch

    held = torch.empty(max(free_memory("cuda") - LEFT, 0), dtype=torch.uint8, device="cuda")
    yield
    del held
    torch.cuda.empty_cache()


@pytest.fixture
def wide(tiny: Path, tmp_path: Path) -> Path:
    """A model of some 100 million weights that knows nothing, with the tiny one's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=16, max_position_embeddings=512,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    rows = [{"prompt": f"What is {n}?", "completion": "It is 46. " * 60} for n in range(256)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "wide"


@pytest.mark.usefixtures("full_card")
def test_the_longest_batch_is_made_to_fit_before_the_first_step(wide: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        name="wide",
        model=Model(base=str(wide), method="lora"),
        data=[Source(source=str(tmp_path / "rows.jsonl"))],
        training=Training(
            max_steps=3, batch_size=64, max_length=512, save_every_steps=0, too_long="cut",
            gradient_checkpointing=False,
        ),
        evaluation=Evaluation(max_rows=8),
    )  # fmt: skip
    events = run(recipe, tmp_path / "jobs" / "wide")
    assert isinstance(events[-1], Finished), events[-1]
    found = of(Retried, events)
    assert found
    assert all(event.dry for event in found)
    assert found[-1].settings["training.batch_size"][1] < 64
    assert any("The card held up to" in note.text for note in of(Note, events))
