"""Four bits: what they take, how adapters learn over them, and that runs speak in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bitsandbytes.nn import Linear4bit

from tests.torch.test_families_opened import stirred
from tests.torch.test_loss_check import STAGES, learner, opened
from tests.torch.test_streamed import peft_adapter
from workers.engines.adapters import with_adapter
from workers.engines.merged import merged_base, spoken_base
from workers.engines.transformers import computing_dtype, load_for_speaking, load_for_training
from workers.fetch import Located, locate_model
from workers.protocol.recipe import Lora, Model, Recipe
from workers.protocol.refusal import Refusal
from workers.train import _stage
from workers.train.loss_check import build_checked


def silent(_: str) -> None:
    pass


def qlora(stage: str, base: Path | str, data: str, **training: Any) -> Recipe:
    recipe = learner(stage, str(base), data, precision="bf16", **training)
    return msgspec.structs.replace(recipe, model=Model(base=str(base), method="qlora"))


MORE_STAGES = ("dpo", "kto", "grpo", "rloo", "simpo", "orpo", "distill")


@pytest.mark.parametrize(
    "stage", ["sft", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_STAGES)]
)
def test_adapters_learn_in_32_bits_at_the_smallest_rates(stage: str, tmp_path: Path) -> None:
    """TRL casts them to bf16, in which lora_A moves 7 % of the way at this rate."""
    rate, data = 5e-7, (STAGES | {"rloo": STAGES["grpo"]})[stage]
    recipe = qlora(stage, "starter", data, learning_rate=rate, warmup_ratio=0.0, weight_decay=0.0)
    with opened(recipe, tmp_path) as context:
        trainer = build_checked(context, _stage(recipe))
        assert trainer.model is not None
        trained = {n: w for n, w in trainer.model.named_parameters() if w.requires_grad}
        assert {weight.dtype for weight in trained.values()} == {torch.float32}
        for name, weight in trained.items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        before = {name: weight.detach().clone() for name, weight in trained.items()}
        trainer.train()
        name = next(name for name in trained if "lora_A" in name)
        # Adam's first step is the rate itself wherever the gradient is more than its epsilon.
        went = (trained[name].detach() - before[name]).abs()
        assert float(went.median()) == pytest.approx(rate, rel=0.05)


def nf4_bytes(weights: int) -> int:
    """Of packed weights: four bits each, a byte to each 64 and four to each 256 of those bytes."""
    blocks = -(-weights // 64)
    return weights // 2 + blocks + 4 * -(-blocks // 256)


def resident_bytes(model: Any) -> int:
    """Of what is frozen, packed layers as they are once on the device."""
    layers = [one for one in model.modules() if isinstance(one, Linear4bit)]
    packed = {id(one.weight) for one in layers}
    others = [weight.nbytes for weight in model.parameters()
              if not weight.requires_grad and id(weight) not in packed]  # fmt: skip
    return sum(others) + sum(nf4_bytes(one.in_features * one.out_features) for one in layers)


def test_a_model_of_8b_takes_5_8_gb_in_four_bits() -> None:
    """Embeddings and norms stay in 16 bits; in 32 it would be 8.0."""
    from transformers import AutoModelForCausalLM, Qwen3Config
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.utils.quantization_config import BitsAndBytesConfig

    config = Qwen3Config(
        vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model = replace_with_bnb_linear(
            model, modules_to_not_convert=["lm_head"],
            quantization_config=BitsAndBytesConfig(load_in_4bit=True),
        )  # fmt: skip
        model.is_loaded_in_4bit = True
        recipe = Recipe(data=[], model=Model(method="qlora"), lora=Lora())
        adapted = with_adapter(model, recipe, silent, four_bit=True)
    assert model.num_parameters() > 8e9
    assert 5.5 < resident_bytes(adapted) / 2**30 <= 5.8


def test_four_bits_take_what_is_reckoned(tiny: Path) -> None:
    """Of a real model, its packed layers with what belongs to them."""
    recipe = Recipe(data=[], model=Model(method="qlora"), lora=Lora(rank=4))
    loaded = load_for_training(recipe, Located("tiny", tiny))
    model: Any = loaded.model
    layers = [one for one in model.modules() if isinstance(one, Linear4bit)]
    assert len(layers) == 2 * 7
    kept = [w for w in model.parameters() if not w.requires_grad
            and not any(w is layer.weight for layer in layers)]  # fmt: skip
    assert {weight.dtype for weight in kept} == {loaded.dtype}
    states: list[Any] = [vars(layer.weight)["quant_state"] for layer in layers]
    taken = sum(weight.nbytes for weight in kept) + sum(layer.weight.nbytes for layer in layers)
    taken += sum(state.absmax.nbytes + state.state2.absmax.nbytes for state in states)
    assert taken == resident_bytes(model)


@pytest.mark.parametrize(
    ("native", "kind", "dtype"),
    [(True, "gemma3", torch.bfloat16), (False, "qwen3", torch.float16),
     (False, "gemma3_text", torch.float32)],
)  # fmt: skip
def test_cards_that_emulate_bf16_compute_in_fp16_what_does_not_overflow(
    monkeypatch: pytest.MonkeyPatch, native: bool, kind: str, dtype: torch.dtype
) -> None:
    """Turing: `torch.cuda.is_bf16_supported()` says yes there, and means software."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert computing_dtype("auto", "cuda", kind) == dtype


def test_fp16_is_refused_where_a_family_overflows_in_it() -> None:
    assert computing_dtype("fp16", "cuda", "qwen3") == torch.float16
    with pytest.raises(Refusal, match="fp16"):
        computing_dtype("fp16", "cuda", "gemma2")


def test_a_run_over_four_bits_speaks_as_it_was_trained(tiny: Path, tmp_path: Path) -> None:
    """The third of a chain: the two before it merged in 16 bits, its own adapter unmerged."""
    earlier = [peft_adapter(tiny, tmp_path / name) for name in ("first", "second")]
    chain = Located("run:x", tiny, tuple(earlier))
    recipe = Recipe(data=[], model=Model(method="qlora"), lora=Lora(rank=4, alpha=8))
    trained = load_for_training(recipe, merged_base(chain, tmp_path, silent))
    learnt = tmp_path / "third"
    stirred(trained.model).save_pretrained(learnt)
    trained.tokenizer.save_pretrained(learnt)
    told: list[str] = []
    run = Located("run:x", tiny, (*earlier, learnt), four_bit=True)
    located = spoken_base(run, tmp_path, told.append)
    spoken = load_for_speaking(located)
    assert told == []  # what the training has merged is found again
    assert sum(isinstance(one, Linear4bit) for one in spoken.model.modules()) == 2 * 7
    ids = torch.arange(3, 27).view(2, 12)
    with torch.no_grad():
        ours, theirs = (one.model.eval()(input_ids=ids).logits.float() for one in (spoken, trained))
        whole = load_for_speaking(msgspec.structs.replace(run, four_bit=False)).model
        merged = whole(input_ids=ids).logits.float()
    # Packed for inference, bf16 is rounded elsewhere: far less than four bits are.
    assert float((ours - theirs).std()) < 0.1 * float((ours - merged).std())
    assert float((ours - merged).std()) < 0.3 * float(merged.std())


def test_bases_packed_in_four_bits_are_refused_by_name_of_the_original(
    tiny: Path, tmp_path: Path
) -> None:
    """LoRA broke on them with an error of Transformers, and QLoRA in its export."""
    folder = shutil.copytree(tiny, tmp_path / "Tiny-1B-unsloth-bnb-4bit")
    packed = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | packed))
    with pytest.raises(Refusal) as refused:
        locate_model(str(folder), tmp_path, silent)
    assert "model.base = 'Tiny-1B'" in refused.value.remedy
