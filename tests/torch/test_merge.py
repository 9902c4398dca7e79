"""Merging: the sum is exact, tied weights stay tied, and no foreign code comes along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from workers.engines.merge import merge, save, stored_dtype
from workers.fetch import Located


def test_a_merged_adapter_is_the_sum(tiny: Path, tmp_path: Path) -> None:
    """W' = W + (alpha / r) B A, computed by hand from the files."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "adapter"))
    AutoTokenizer.from_pretrained(tiny).save_pretrained(str(tmp_path / "adapter"))
    merged = merge(Located("tiny", tiny, (tmp_path / "adapter",)))
    base = load_file(tiny / "model.safetensors")
    parts = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    a = parts[f"base_model.model.{name}.lora_A.weight"]
    b = parts[f"base_model.model.{name}.lora_B.weight"]
    by_hand = base[f"{name}.weight"] + 8 / 4 * b @ a
    torch.testing.assert_close(merged.model.state_dict()[f"{name}.weight"], by_hand)


def test_what_is_written_is_small_and_runs_no_code(tiny: Path, tmp_path: Path) -> None:
    merged = merge(Located("tiny", tiny))
    merged.model.config.auto_map = {"AutoModel": "evil--module.Class"}
    folder = save(merged, tmp_path / "out", torch.bfloat16)
    assert stored_dtype(folder) == "BF16"
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    for path in folder.glob("*.json"):
        assert "auto_map" not in path.read_text(), path
    assert not list(folder.glob("*.py"))


def test_a_changed_vocabulary_takes_nothing_of_the_base_along(tiny: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny, tmp_path / "base")
    (base / "tokenizer.model").write_bytes(b"of the base")
    merged = merge(Located("tiny", base))
    assert (save(merged, tmp_path / "same", torch.bfloat16, base) / "tokenizer.model").is_file()
    merged.tokenizer.add_tokens(["<new>"])
    changed = save(merged, tmp_path / "changed", torch.bfloat16, base)
    assert not (changed / "tokenizer.model").exists()
