"""Four bits on a card: fp16's scaled gradients, straight loading, and speaking."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from tests.torch.test_four_bits import qlora
from tests.torch.test_loss_check import opened
from tests.torch.test_streamed import peft_adapter
from workers.engines.transformers import load_for_speaking, load_weights
from workers.fetch import Located
from workers.train import _stage
from workers.train.loss_check import build_checked


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_adapters_over_four_bits_learn_in_either_precision(precision: str, tmp_path: Path) -> None:
    """GradScaler cannot unscale gradients of bf16, which TRL gives these adapters."""
    recipe = qlora("sft", "starter", "builtin:arithmetic", learning_rate=1e-3, max_steps=4)
    training = msgspec.structs.replace(recipe.training, precision=precision)
    with opened(msgspec.structs.replace(recipe, training=training), tmp_path) as context:
        trainer = build_checked(context, _stage(recipe))
        assert trainer.model is not None
        trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
        assert {weight.dtype for weight in trained} == {torch.float32}
        before = [weight.detach().clone() for weight in trained]
        trainer.train()
        assert any(not torch.equal(*both) for both in zip(trained, before, strict=True))


def test_weights_are_read_straight_onto_the_card(tiny: Path) -> None:
    model = load_weights(Located("tiny", tiny), torch.bfloat16, device="cuda")
    assert {weight.device.type for weight in model.parameters()} == {"cuda"}


def test_a_run_over_four_bits_speaks_on_the_card(tiny: Path, tmp_path: Path) -> None:
    adapter = peft_adapter(tiny, tmp_path / "adapter")
    for path in tiny.glob("tok*"):
        (adapter / path.name).write_bytes(path.read_bytes())
    spoken = load_for_speaking(Located("tiny", tiny, (adapter,), four_bit=True))
    ids = torch.arange(3, 27, device="cuda").view(2, 12)
    with torch.no_grad():
        assert spoken.model(input_ids=ids).logits.isfinite().all()
    assert {weight.device.type for weight in spoken.model.parameters()} == {"cuda"}
