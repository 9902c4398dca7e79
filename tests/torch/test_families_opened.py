"""Every family is opened by its own class, whole; adapters stand on its language model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tests.torch.test_loss_check import STAGES, learner
from tests.torch.tiny_families import (
    OPTIONS,
    WHOLE,
    configuration,
    random_model,
    rewrite_weights,
    snapshot,
    without_weights,
)
from workers.engines.adapters import (
    WITH_TOWERS,
    experts,
    linear_layers,
    merged_adapter,
    target_modules,
    target_parameters,
    with_adapter,
)
from workers.engines.classes import open_scoring, open_speaking, scoring_class, set_padding
from workers.engines.merge import merge, save
from workers.engines.merged import merged_base
from workers.engines.tokenizer import read_tokenizer
from workers.engines.transformers import load_for_training
from workers.fetch import Located
from workers.protocol.events import Failed, Finished
from workers.protocol.recipe import Lora, Model, Recipe, Training
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel

IDS = torch.arange(3, 27).view(2, 12)
FP32: dict[str, Any] = {"dtype": torch.float32}


def silent(_: str) -> None:
    pass


def recipe_of(method: Any = "lora", **lora: Any) -> Recipe:
    return Recipe(data=[], model=Model(method=method), lora=Lora(rank=4, alpha=8, **lora),
                  training=Training(precision="fp32"))  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def stirred(model: Any) -> Any:
    """With an adapter that does something."""
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


def without_tower(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if "visual" not in name}


@pytest.mark.parametrize(
    "name",
    ["mistral3", "gpt_oss", *map(slow, ("qwen3_5", "gemma4", "lfm2_vl", "qwen3_moe", "lfm2_moe",
     "glm4_moe", "granitemoehybrid", "nemotron_h", "falcon_h1"))],
)  # fmt: skip
def test_what_an_adapter_learns_is_in_the_merged_model(name: str, tmp_path: Path) -> None:
    """Opened, adapted, switched off (DPO's reference), saved, merged, written, opened again."""
    base = snapshot(name, tmp_path / "base")
    model = with_adapter(open_speaking(base, silent, **FP32), recipe_of(), silent, four_bit=False)
    on = logits(stirred(model))
    with model.disable_adapter():  # type: ignore[operator]
        torch.testing.assert_close(logits(model), logits(open_speaking(base, silent, **FP32)))
    assert (on - logits(open_speaking(base, silent, **FP32))).abs().max() > 0.01
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = merged_adapter(open_speaking(base, silent, **FP32), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), on, atol=1e-5, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    again = open_speaking(tmp_path / "merged", pytest.fail, **FP32)
    torch.testing.assert_close(logits(again), on, atol=1e-5, rtol=1e-4)
    before, after = open_speaking(base, silent, **FP32).state_dict(), again.state_dict()
    changed = {key for key, weight in before.items() if not torch.equal(weight, after[key])}
    assert {key for key in before if key.endswith(tuple(experts(again)))} <= changed
    if name in WHOLE:
        assert json.loads((tmp_path / "merged" / "config.json").read_text())["vision_config"]
        assert {key.split(".")[1] for key in changed} == {"language_model"}
    assert len(changed) >= len(target_modules(Lora(), again, silent))


@pytest.mark.parametrize("name", [*OPTIONS, *WHOLE])
def test_all_linear_is_the_language_model_without_what_adapters_do_not_reach(name: str) -> None:
    model = without_weights(name)
    told: list[str] = []
    found = target_modules(Lora(), model, told.append)
    assert found
    for layer in found:
        kind = type(model.get_submodule(layer))
        assert kind is torch.nn.Linear
        assert not {"vision_tower", "visual", "multi_modal_projector", "vision_model", "lm_head",
                    "router"} & set(layer.split(".")), layer  # fmt: skip
    past = [layer for layer in found if ".mamba." in layer or ".mixer.out_proj" in layer]
    assert {layer.rpartition(".")[2] for layer in past} <= {"in_proj"}
    assert any("kernels of Mamba" in text for text in told) == (
        name in ("granitemoehybrid", "nemotron_h", "falcon_h1")
    )


def test_towers_are_adapted_when_asked() -> None:
    model = without_weights("mistral3")
    every = linear_layers(model, towers=True)
    assert {layer.split(".")[1] for layer in every} == {
        "vision_tower", "multi_modal_projector", "language_model",
    }  # fmt: skip
    assert target_modules(Lora(targets="all-linear+vision"), model, silent) == every


def test_names_that_peft_takes_for_experts_are_told() -> None:
    told: list[str] = []
    found = target_modules(Lora(), without_weights("glm4_moe"), told.append)
    assert {layer.rpartition(".")[2] for layer in found} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert any("shared_experts" in text and "experts" in text for text in told)


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        ("qwen3", []),
        ("gpt_oss", ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]),
        ("granitemoehybrid", ["block_sparse_moe.experts.down_proj",
                              "block_sparse_moe.experts.gate_up_proj"]),
        ("nemotron_h", ["mixer.experts.down_proj", "mixer.experts.up_proj"]),
    ],
)  # fmt: skip
def test_experts_are_found_by_their_shape(name: str, fused: list[str]) -> None:
    model = without_weights(name)
    assert experts(model) == fused
    assert (target_parameters(recipe_of(), model, silent) or []) == fused
    assert (target_parameters(recipe_of(targets=WITH_TOWERS), model, silent) or []) == fused
    assert target_parameters(recipe_of(experts="off"), model, silent) is None
    assert target_parameters(recipe_of(targets="q_proj"), model, silent) is None


def test_experts_without_an_adapter_are_told_or_refused() -> None:
    model = without_weights("gpt_oss")
    for recipe in (recipe_of(dropout=0.1), recipe_of("dora")):
        told: list[str] = []
        assert target_parameters(recipe, model, told.append) is None
        assert "experts get no adapter" in told[0]
    with pytest.raises(Refusal, match="experts cannot get an adapter"):
        target_parameters(recipe_of(dropout=0.1, experts="on"), model, silent)
    with pytest.raises(Refusal, match="no fused experts"):
        target_parameters(recipe_of(experts="on"), without_weights("qwen3"), silent)


def test_targets_that_fit_no_layer_are_answered_with_those_that_do() -> None:
    with pytest.raises(Refusal) as refused:
        with_adapter(random_model("granite"), recipe_of(targets="no_proj"), silent, four_bit=False)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in refused.value.remedy


@pytest.mark.parametrize("name", ["granite", *map(slow, ("mistral3", "gemma4", "lfm2_moe",
                                                         "gpt_oss"))])  # fmt: skip
def test_a_family_without_a_class_of_its_own_becomes_a_reward_model(
    name: str, tmp_path: Path
) -> None:
    def scorer() -> Any:
        model = open_scoring(base, pytest.fail, **FP32)
        set_padding(model, 0)
        return model

    base = snapshot(name, tmp_path / "base")
    model = with_adapter(scorer(), recipe_of(), silent, four_bit=False, task="SEQ_CLS")
    scores = logits(stirred(model))
    assert scores.shape == (2, 1)
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = merged_adapter(scorer(), tmp_path / "adapter", scoring=True)
    torch.testing.assert_close(logits(merged), scores, atol=1e-5, rtol=1e-4)
    merged.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(open_scoring(tmp_path / "whole", pytest.fail, **FP32)),
                               scores, atol=1e-5, rtol=1e-4)  # fmt: skip


def test_a_model_without_a_body_of_its_own_scores_nothing() -> None:
    with pytest.raises(Refusal, match="cannot become a reward model"):
        scoring_class(configuration("llama4"))


def test_a_tower_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Transformers would begin it at random and write it out as if it were the model's."""
    folder, told = snapshot("qwen3_5", tmp_path / "base"), []
    rewrite_weights(folder, without_tower)
    model = open_speaking(folder, told.append, **FP32)
    assert type(model).__name__ == "Qwen3_5ForCausalLM"
    assert "no vision or audio tower" in told[0]


def test_missing_weights_are_refused_and_others_told(tmp_path: Path) -> None:
    folder, told = snapshot("granite", tmp_path / "base"), []
    rewrite_weights(folder, lambda all_of: {**all_of, "talker.a": torch.ones(1)})
    open_speaking(folder, told.append, **FP32)
    assert "talker.a" in told[0]
    rewrite_weights(folder, lambda all_of: {k: v for k, v in all_of.items() if "1.mlp" not in k})
    with pytest.raises(Refusal, match="3 weights of the model in base are missing") as refused:
        open_speaking(folder, silent, **FP32)
    assert "model.layers.1.mlp.down_proj.weight" in refused.value.cause


def test_a_folder_that_cannot_be_opened_is_told_in_a_sentence(tmp_path: Path) -> None:
    folder = snapshot("granite", tmp_path / "base")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(Refusal, match="could not be opened") as refused:
        open_speaking(folder, silent, **FP32)
    assert len(str(refused.value)) < 450
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(Refusal, match="does not continue a text") as refused:
        open_speaking(folder, silent, **FP32)
    assert len(str(refused.value)) < 450


def test_an_adapter_of_the_language_model_alone_fits_the_whole_one(tmp_path: Path) -> None:
    """Runs from before a family was opened whole; others, whose layers have no place, are refused:
    PEFT would merge nothing, without a word."""
    base = snapshot("qwen3_5", tmp_path / "base")
    rewrite_weights(shutil.copytree(base, tmp_path / "text"), without_tower)
    text = open_speaking(tmp_path / "text", silent, **FP32)
    model = stirred(with_adapter(text, recipe_of(), silent, four_bit=False))
    folder = tmp_path / "run" / "adapter"
    model.save_pretrained(str(folder))
    merged = merged_adapter(open_speaking(base, silent, **FP32), folder)
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-4)
    with pytest.raises(Refusal, match="adapter in run does not fit its base model"):
        merged_adapter(random_model("granite"), folder)


NIBBLES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The sixteen values of FP4 (E2M1)."""


def packed_to_mxfp4(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """gpt-oss' way: 32 values share a scale of 8 bits; two values a byte."""
    made = {}
    for name, weight in weights.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            made[name] = weight
            continue
        many, wide, out = weight.shape
        made[f"{name}_blocks"] = torch.randint(
            0, 256, (many, out, wide // 32, 16), dtype=torch.uint8
        )
        made[f"{name}_scales"] = torch.randint(118, 124, (many, out, wide // 32), dtype=torch.uint8)
    return made


def packed_to_fp8(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Ministral's way: one scale a tensor."""
    made = dict(weights)
    for name, weight in weights.items():
        if "language_model" in name and name.endswith("_proj.weight"):
            scale = weight.abs().max() / 448
            made[name] = (weight / scale).to(torch.float8_e4m3fn)
            made[f"{name}_scale_inv"] = scale
    return made


def packed(name: str, folder: Path, stored: dict[str, Any]) -> Path:
    snapshot(name, folder)
    rewrite_weights(folder, packed_to_mxfp4 if name == "gpt_oss" else packed_to_fp8)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": stored}))
    return folder


def test_mxfp4_is_read_as_what_it_stands_for_and_saved_as_sixteen_bits(tmp_path: Path) -> None:
    folder = packed("gpt_oss", tmp_path / "base", {"quant_method": "mxfp4"})
    told: list[str] = []
    model = open_speaking(folder, told.append, dtype=torch.bfloat16)
    assert "stored in mxfp4" in told[0]
    stored = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    blocks = stored[f"{name}_blocks"].long()
    values = torch.stack([NIBBLES[blocks & 15], NIBBLES[blocks >> 4]], -1).flatten(-2)
    scales = 2.0 ** (stored[f"{name}_scales"].float() - 127)
    by_hand = (values * scales[..., None]).flatten(-2).transpose(1, 2)
    torch.testing.assert_close(model.state_dict()[name].float(), by_hand)
    _saved_alike(model, tmp_path)


def test_fp8_is_read_as_what_it_stands_for_and_saved_as_sixteen_bits(tmp_path: Path) -> None:
    stored = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
    model = open_speaking(packed("mistral3", tmp_path / "base", stored), silent, **FP32)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    whole = random_model("mistral3").state_dict()[name]
    got = model.state_dict()[name]
    assert (got - whole).abs().max() < whole.abs().max() / 16  # three bits behind the first
    assert (got - whole).abs().max() > 0
    _saved_alike(model, tmp_path)


def _saved_alike(model: Any, tmp_path: Path) -> None:
    """Transformers alone writes the scales of packed weights again, under names nothing reads."""
    model.save_pretrained(tmp_path / "again")
    assert "quantization_config" not in (tmp_path / "again" / "config.json").read_text()
    again = open_speaking(tmp_path / "again", pytest.fail, dtype=model.dtype)
    torch.testing.assert_close(logits(again), logits(model))


@pytest.mark.slow
def test_four_bits_begin_from_the_packed_weights_sixteen_bit_form(
    tmp_path: Path, tiny: Path
) -> None:
    folder = packed("gpt_oss", tmp_path / "base", {"quant_method": "mxfp4"})
    read_tokenizer(Located("tiny", tiny)).save_pretrained(folder)
    found = merged_base(Located("base", folder), tmp_path, silent)
    assert found.folder.name.startswith("merged-")
    assert merged_base(found, tmp_path, pytest.fail) == found
    whole, packed_ = (open_speaking(f, silent, dtype=torch.bfloat16)
                      for f in (found.folder, folder))  # fmt: skip
    torch.testing.assert_close(logits(whole), logits(packed_))


@pytest.mark.slow
def test_four_bits_leave_experts_in_sixteen_and_say_so(tmp_path: Path, tiny: Path) -> None:
    folder = snapshot("gpt_oss", tmp_path / "base", tiny)
    recipe = recipe_of("qlora")
    recipe = Recipe(data=[], model=recipe.model, lora=recipe.lora)  # 16 bits
    told: list[str] = []
    loaded = load_for_training(recipe, Located("base", folder), told.append)
    assert any("experts stay in 16 bits" in text for text in told)
    kinds = {weight.dtype for name, weight in loaded.model.named_parameters()
             if name.endswith(("experts.base_layer.gate_up_proj", "experts.gate_up_proj"))
             or "original" in name}  # fmt: skip
    assert kinds <= {loaded.dtype}
    assert any(weight.dtype == torch.uint8 for weight in loaded.model.parameters())


def test_full_training_leaves_the_tower_as_it_is(tmp_path: Path, tiny: Path) -> None:
    folder = snapshot("mistral3", tmp_path / "base", tiny)
    model = load_for_training(recipe_of("full"), Located("base", folder)).model
    still = {name.split(".")[1] for name, weight in model.named_parameters()
             if not weight.requires_grad}  # fmt: skip
    assert still == {"vision_tower", "multi_modal_projector"}


def test_text_is_split_as_tokenizer_json_says(tiny: Path, tmp_path: Path) -> None:
    """DeepSeek-R1-Distill-Llama names LlamaTokenizerFast over a byte-level vocabulary, of which
    Transformers 5 makes a tokenizer that loses every space; nor is the name carried into what is
    exported."""
    folder = shutil.copytree(tiny, tmp_path / "base")
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "LlamaTokenizerFast"})
    )
    tokenizer: Any = read_tokenizer(Located("base", folder))
    text = "What is 12 + 34?  It is 46.\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token == "<|im_end|>"
    out = save(merge(Located("base", folder)), tmp_path / "out", torch.float16, folder)
    named = json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"]
    assert named != "LlamaTokenizerFast"


def run_of(stage: str, base: Path, data: str = "") -> Recipe:
    return learner(stage, str(base), data or STAGES[stage], max_length=128)


def ended(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, Failed | Finished)]


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("mistral3", "sft"),
        *(pytest.param(name, stage, marks=pytest.mark.slow)
          for name in ("mistral3", "gpt_oss", "qwen3_5", "granitemoehybrid")
          for stage in ("dpo", "grpo", "kto")),
    ],
)  # fmt: skip
def test_a_run_trains_it(
    name: str, stage: str, tmp_path: Path, tiny: Path, train_here: Callable[..., list[Any]]
) -> None:
    base = snapshot(name, tmp_path / "base", tiny)
    data = str(tiny / "sums.jsonl") if stage == "sft" else ""
    assert [type(event) for event in ended(train_here(run_of(stage, base, data)))] == [Finished]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["granite", "mistral3", "gpt_oss"])
def test_its_reward_model_teaches_it(
    name: str, tmp_path: Path, tiny: Path, train_here: Callable[..., list[Any]]
) -> None:
    """By RLOO and by PPO, whose value model begins as the reward model."""
    base = snapshot(name, tmp_path / "base", tiny)
    assert [type(event) for event in ended(train_here(run_of("reward", base)))] == [Finished]
    scored_by = RewardModel(model=f"run:{next(tmp_path.glob('jobs/reward-*')).name}")
    for algorithm in ("rloo", "ppo"):
        recipe = msgspec.structs.replace(run_of("rlhf", base), rewards=[scored_by])
        how = msgspec.structs.replace(recipe.rl, algorithm=algorithm, group_size=4)
        events = train_here(msgspec.structs.replace(recipe, rl=how, name=algorithm))
        assert [type(event) for event in ended(events)] == [Finished]
