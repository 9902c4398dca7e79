"""Exports through the real converter: what is kept, what is compared, and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workers.__main__ import run_folder
from workers.export import gguf, parity
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Artifact, Checked, Finished, Sampled
from workers.protocol.exports import EXPORTS, ExportSpec, read_parity
from workers.protocol.jobs import Export, Job, Train
from workers.protocol.recipe import Model, Recipe, Source

STARTER = assets_folder() / "starter" / "model"


def _job(folder: Path, home: Path, task: Any) -> Path:
    folder.mkdir(parents=True)
    created = "2026-01-01T00:00:00+00:00"
    job = Job(id=folder.name, name="x", created=created, home=str(home), task=task)
    wire.write_job(folder, job)
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    """A finished run on a base: an adapter that changes nothing yet, and a held-out prompt."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(base: Path, prompt: str = "What is 12 + 30?", *, full: bool = False) -> Path:
        recipe = Recipe(
            name="x", model=Model(base=str(base)), data=[Source(source="builtin:arithmetic")]
        )
        run = _job(tmp_path / "jobs" / "2026-01-01T00-00-00-x", tmp_path, Train(recipe=recipe))
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        learnt = run / ("model" if full else "adapter")
        lora = LoraConfig(r=2, target_modules="all-linear")
        (model if full else get_peft_model(model, lora)).save_pretrained(str(learnt))
        AutoTokenizer.from_pretrained(base).save_pretrained(learnt)
        sampled = Sampled(step=0, prompt=prompt, completion="42")
        (run / wire.EVENTS).write_bytes(wire.encode_event(1, sampled))
        return run

    return make


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., list[Any]]:
    """Exports a run within this process; returns what was said."""

    def run(trained: Path, *targets: str) -> list[Any]:
        task = Export(run_folder=str(trained), targets=list(targets))
        folder = _job(tmp_path / "jobs" / "2026-01-02T00-00-00-export", tmp_path, task)
        run_folder(folder)
        return [line.event for line in wire.read_events(folder)]

    return run


Trained = Callable[..., Path]
Exported = Callable[..., list[Any]]


def _all(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_long_held_out_prompt_loses_no_file(trained: Trained, export: Exported) -> None:
    run = trained(STARTER, prompt="What is 12 + 30? " * 400)
    events = export(run, "gguf:f16")
    assert [Path(made.path).is_file() for made in _all(events, Artifact)] == [True]
    checks = {check.check: check for check in _all(events, Checked)}
    assert all(check.passed for check in checks.values()), checks
    assert "last" in checks["f16: same words"].detail
    assert _all(events, Finished)[0].summary["parity"] == "passed"
    assert read_parity(run / "exports")["x-f16.gguf"] == list(checks.values())


def test_every_quantization_converts_loads_and_speaks_alike(
    trained: Trained, export: Exported
) -> None:
    files = [spec for spec in EXPORTS.values() if spec.quantization]
    run = trained(STARTER)

    events = export(run, *(spec.id for spec in files))

    made = {event.kind: Path(event.path) for event in _all(events, Artifact)}
    assert made == {spec.id: run / "exports" / f"x{spec.ending}" for spec in files}
    checks = _all(events, Checked)
    assert {check.check.partition(":")[0] for check in checks} == {f.quantization for f in files}
    assert not [check for check in checks if not check.passed]
    sizes = [made[spec.id].stat().st_size for spec in sorted(files, key=_size)]
    assert sizes == sorted(sizes)


def _size(spec: ExportSpec) -> float:
    return spec.bytes_per_weight


def test_a_comparison_that_breaks_is_a_failed_check(
    trained: Trained, export: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("llama_decode returned 1")

    monkeypatch.setattr(parity, "_same_words", breaks)
    run = trained(STARTER)
    events = export(run, "gguf:f16")
    assert Path(_all(events, Artifact)[0].path).is_file()
    failed = [check for check in _all(events, Checked) if not check.passed]
    assert [check.check for check in failed] == ["f16: compared"]
    assert "llama_decode returned 1" in failed[0].detail
    assert failed[0].remedy
    assert events[-1] == Finished(summary={"targets": ["gguf:f16"], "parity": "failed"})
    kept = read_parity(run / "exports")["x-f16.gguf"]
    assert [check.check for check in kept if not check.passed] == ["f16: compared"]


@pytest.mark.parametrize(
    ("spread", "theirs", "passed"),
    [(0.2, "same", True), (0.2, "other", False), (0.0, "same", False), (9.0, "same", True)],
)
def test_where_no_next_token_is_clear_the_probabilities_have_to_be_alike(
    monkeypatch: pytest.MonkeyPatch, spread: float, theirs: str, passed: bool
) -> None:
    """Of an untrained model 100 % of no clear tokens agreed, whatever the file said."""
    random = np.random.default_rng(0)
    logits = {name: spread * random.normal(size=(4, 1000)) for name in ("same", "other")}
    ours, found = (
        one - np.log(np.exp(one).sum(-1, keepdims=True)) for one in (logits["same"], logits[theirs])
    )
    monkeypatch.setattr(parity, "_log_probabilities", lambda *_: found)
    answer = ours.argmax(-1).tolist()
    spoken = parity.Spoken("?", [1], [1], answer, ours)
    llama: Any = None
    check = parity._same_words(llama, "f16", parity.Reference([spoken], "", 0))
    assert check.passed is passed
    assert ("no next token is clear" in check.detail) is (spread < 1)


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mistral with a SentencePiece vocabulary, its folder as a hub snapshot is."""
    import sentencepiece
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("mistral")
    words = [p.read_text() for p in sorted(Path(__file__).parents[2].glob("*.md"))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(words).splitlines()), vocab_size=800, model_type="bpe",
        model_prefix=str(folder / "tokenizer"), byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        control_symbols=["[INST]", "[/INST]"], minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
              "unk_token": "<unk>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=832, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
            initializer_range=0.5, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]"]})
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + '[/INST]' }}{% else %}"
        "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    named = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(named | {"tokenizer_class": "LlamaTokenizer"})
    )
    return folder


def test_a_sentencepiece_vocabulary_comes_along(
    trained: Trained, export: Exported, sentencepiece_model: Path
) -> None:
    run = trained(sentencepiece_model)
    events = export(run, "merged", "gguf:f16")
    failed = [check for check in _all(events, Checked) if not check.passed]
    assert not failed
    merged = run / "exports" / "merged-16bit"
    assert (merged / "tokenizer.model").is_file()
    named = json.loads((merged / "tokenizer_config.json").read_text())
    assert named["tokenizer_class"] == "LlamaTokenizer"


def test_a_run_in_full_finds_the_vocabulary_of_its_base(
    trained: Trained, export: Exported, sentencepiece_model: Path
) -> None:
    run = trained(sentencepiece_model, full=True)
    assert not (run / "model" / "tokenizer.model").exists()
    export(run, "merged")
    assert (run / "exports" / "merged-16bit" / "tokenizer.model").is_file()


def test_layers_that_training_dropped_are_not_promised(tmp_path: Path) -> None:
    """Qwen3.5's configuration counts a layer of multi-token prediction that Transformers drops."""
    config = {"num_hidden_layers": 2, "mtp_num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = {"model.layers.0.mlp.weight": torch.zeros(1)}
    save_file(own, tmp_path / "model.safetensors")
    assert gguf.options(tmp_path) == ["--no-mtp"]
    save_file(own | {"mtp.layers.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert gguf.options(tmp_path) == []
    (tmp_path / "config.json").write_text(json.dumps({"text_config": config}))
    save_file(own, tmp_path / "model.safetensors")
    assert gguf.options(tmp_path) == ["--no-mtp"]
    nested = {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(nested))
    assert gguf.options(tmp_path) == ["--no-mtp"]
    last = {"model.layers.2.mlp.weight": torch.zeros(1)}
    save_file(own | last, tmp_path / "model.safetensors")
    assert gguf.options(tmp_path) == []
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    assert gguf.options(tmp_path) == []


def test_kinds_of_layers_are_named_as_the_converter_reads_them(tmp_path: Path) -> None:
    """It takes Granite's "full_attention" for a recurrent layer, and the file does not load."""
    path = tmp_path / "config.json"
    layers = {"layer_types": ["linear_attention", "full_attention"]}
    path.write_text(json.dumps({"model_type": "granitemoehybrid", **layers}))
    gguf.name_layers(tmp_path)
    assert json.loads(path.read_text())["layer_types"] == ["mamba", "attention"]
    path.write_text(json.dumps({"model_type": "qwen3_5_text", **layers}))
    gguf.name_layers(tmp_path)
    assert json.loads(path.read_text())["layer_types"] == layers["layer_types"]
