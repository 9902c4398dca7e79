"""Merging by a stream writes what merging in memory writes, and takes little memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.torch.starters import STARTER
from tests.torch.test_families_opened import recipe_of, stirred
from tests.torch.tiny_families import rewrite_weights, snapshot
from workers.engines.adapters import with_adapter
from workers.engines.classes import open_speaking
from workers.engines.merge import merge, open_merged, save, save_finest
from workers.engines.streamed import Unstreamable, open_stream
from workers.fetch import Located
from workers.folders import size_of

FP32: dict[str, Any] = {"dtype": torch.float32}


def silent(_: str) -> None:
    pass


def adapter_of(base: Path, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """An adapter that does something, as a run saves it."""

    torch.manual_seed(seed)
    method = changes.pop("method", "lora")
    model = open_speaking(base, silent, **FP32)
    adapted = with_adapter(model, recipe_of(method, **changes), silent, four_bit=False)
    stirred(adapted).save_pretrained(str(folder))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for path in sorted(folder.glob("*.safetensors"))
            for name, weight in load_file(path).items()}  # fmt: skip


def assert_same(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    for name, weight in left.items():
        assert weight.dtype == right[name].dtype, name
        assert torch.equal(weight, right[name]), name
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in other.iterdir()} == names
    for name in names:
        if name.endswith(".json"):
            assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())


def both_ways(located: Located, folder: Path, dtype: torch.dtype = torch.float16) -> list[Path]:
    """What the stream writes, and what is written of the model merged in memory."""
    merged = open_merged(located, pytest.fail)
    assert merged.stream is not None
    streamed = save(merged, folder / "streamed", dtype, located.folder)
    return [streamed, save(merge(located), folder / "loaded", dtype, located.folder)]


@pytest.mark.parametrize(
    "name",
    ["mistral3", "gpt_oss", *(pytest.param(n, marks=pytest.mark.slow) for n in (
        "qwen3", "granite", "qwen3_5", "gemma4", "lfm2_vl", "llama4", "granitemoehybrid",
        "nemotron_h", "falcon_h1"))],
)  # fmt: skip
def test_a_stream_writes_what_merging_in_memory_writes(
    name: str, tmp_path: Path, tiny: Path
) -> None:
    """Of every kind of tensor: tied, fused, of towers, renamed on loading."""
    base = snapshot(name, tmp_path / "base", tiny)
    located = Located("base", base, (adapter_of(base, tmp_path / "adapter"),))
    assert_same(*both_ways(located, tmp_path))


@pytest.mark.parametrize(
    "name",
    ["qwen3_moe", *(pytest.param(n, marks=pytest.mark.slow) for n in ("glm4_moe", "lfm2_moe"))],
)
def test_experts_that_are_fused_on_loading_are_merged_one_by_one(
    name: str, tmp_path: Path, tiny: Path
) -> None:
    """Their adapter stands on the fused tensor, of which the files hold the parts."""
    base = snapshot(name, tmp_path / "base", tiny)
    located = Located("base", base, (adapter_of(base, tmp_path / "adapter"),))
    streamed, loaded = map(weights, both_ways(located, tmp_path, torch.float32))
    before = weights(base)
    assert streamed.keys() == loaded.keys() == before.keys()
    experts = [key for key in before if ".experts.0." in key]
    assert experts
    assert all((streamed[key] - before[key]).abs().max() > 0.01 for key in experts)
    for key, weight in streamed.items():
        torch.testing.assert_close(weight, loaded[key], atol=1e-6, rtol=1e-6)


def peft_adapter(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter of PEFT's own options, with weights that do something."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(len(folder.name))
    config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules="all-linear", **options)
    model = get_peft_model(open_speaking(base, silent, **FP32), config)
    stirred(model).save_pretrained(str(folder))
    return folder


def test_a_chain_of_every_kind_of_adapter_is_folded_in_order(tmp_path: Path, tiny: Path) -> None:
    """DoRA scales by the norm of what the adapters before it have made of a weight."""
    kinds: dict[str, dict[str, Any]] = {
        "plain": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True},
        "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 3}},
        "kept": {"modules_to_save": ["lm_head", "embed_tokens"]},
    }  # fmt: skip
    chain = tuple(peft_adapter(tiny, tmp_path / name, **kind) for name, kind in kinds.items())
    assert_same(*both_ways(Located("base", tiny, chain), tmp_path))


def test_embeddings_that_were_trained_whole_stay_tied(tmp_path: Path) -> None:
    options = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    adapter = peft_adapter(STARTER, tmp_path / "adapter", **options)
    streamed, loaded = both_ways(Located("base", STARTER, (adapter,)), tmp_path)
    assert_same(streamed, loaded)
    assert "lm_head.weight" not in weights(streamed)
    assert not torch.equal(*(weights(folder)["model.embed_tokens.weight"].half()
                             for folder in (streamed, STARTER)))  # fmt: skip


def test_files_stay_divided_as_they_are(tmp_path: Path, tiny: Path) -> None:
    base = tmp_path / "base"
    model = open_speaking(tiny, silent, dtype=torch.bfloat16)
    model.save_pretrained(base, max_shard_size="60KB")
    for path in tiny.glob("tok*"):
        shutil.copy(path, base)
    adapter = peft_adapter(base, tmp_path / "adapter")
    streamed, loaded = both_ways(Located("base", base, (adapter,)), tmp_path, torch.bfloat16)
    assert sorted(p.name for p in streamed.glob("*.safetensors")) == sorted(
        p.name for p in base.glob("*.safetensors")
    )
    left, right = weights(streamed), weights(loaded)
    assert left.keys() == right.keys()
    assert all(torch.equal(weight, right[name]) for name, weight in left.items())
    index = "model.safetensors.index.json"
    assert json.loads((streamed / index).read_text()) == json.loads((base / index).read_text())
    open_speaking(streamed, pytest.fail, dtype=torch.bfloat16)


def test_a_tied_weight_that_is_stored_twice_is_written_once(tmp_path: Path) -> None:
    base = snapshot("granite", tmp_path / "base")
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    rewrite_weights(base, lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
    tied = open_stream(Located("base", base))
    assert "lm_head.weight" not in tied.shards[0]
    rewrite_weights(base, lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    assert [*open_stream(Located("base", base)).shards[0]] == [*tied.shards[0]]
    rewrite_weights(base, lambda w: w | {"lm_head.weight": w["lm_head.weight"] + 1})
    with pytest.raises(Unstreamable, match="differ"):
        open_stream(Located("base", base))


def test_what_cannot_be_streamed_is_loaded_and_says_why(tmp_path: Path, tiny: Path) -> None:
    """PiSSA takes the adapter's beginning out of the base, which PEFT does again on loading."""
    adapter = peft_adapter(tiny, tmp_path / "adapter", init_lora_weights="pissa")
    told: list[str] = []
    merged = open_merged(Located("base", tiny, (adapter,)), told.append)
    assert merged.stream is None
    assert "GB of RAM, since an adapter began from" in told[0]


def test_a_weight_beyond_float16_is_written_in_bfloat16(tmp_path: Path, tiny: Path) -> None:
    """The last of the files' weights: the others have been written by then, and are again."""
    base = shutil.copytree(tiny, tmp_path / "base")
    rewrite_weights(base, lambda w: w | {"model.norm.weight": w["model.norm.weight"] * 1e5})
    located = Located("base", base, (peft_adapter(base, tmp_path / "adapter"),))
    folder = save_finest(open_merged(located, pytest.fail), tmp_path / "out", base)
    assert_same(folder, save(merge(located), tmp_path / "loaded", torch.bfloat16, base))


MEASURE = """
import sys
from pathlib import Path
from workers.engines.merge import open_merged, save_finest
from workers.fetch import Located
from workers.folders import size_of

def told(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(li.split()[1]) * 1024 for li in lines if li.startswith(name))

small, large, out = map(Path, sys.argv[1:])
for at, base in enumerate((small, large)):  # the first brings what every process holds
    before = told("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    merged = open_merged(Located("base", base, (base / "adapter",)), print)
    assert merged.stream is not None
    save_finest(merged, out / str(at), base)
print(told("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_a_stream_takes_less_memory_than_a_file(tmp_path: Path, tiny: Path) -> None:
    """Of 1.1 GB in files of 300 MB, with an adapter on every layer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    large = tmp_path / "large"
    shape = LlamaConfig(hidden_size=2048, intermediate_size=8192, num_hidden_layers=6,
                        num_attention_heads=16, vocab_size=32000)  # fmt: skip
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(shape)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for weight in model.parameters():
        weight.data.fill_(0.01)
    model.save_pretrained(large, max_shard_size="300MB")
    del model
    small = shutil.copytree(tiny, tmp_path / "small")
    for base in (small, large):
        for path in tiny.glob("tok*"):
            shutil.copy(path, base)
        peft_adapter(base, base / "adapter")
    files = sorted(path.stat().st_size for path in large.glob("*.safetensors"))
    assert len(files) >= 4
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large), str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    peak, adapter = int(ran.stdout.split()[-1]), size_of(large / "adapter")
    print(f"files of {files[-1] / 1e6:.0f} MB, adapter {adapter / 1e6:.0f} MB, "
          f"peak {peak / 1e6:.0f} MB")  # fmt: skip
    assert peak <= 1.2 * files[-1] + adapter
