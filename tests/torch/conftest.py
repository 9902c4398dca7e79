"""A tiny real model on the CPU, made from nothing in a second: Llama with a byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers.__main__ import run_folder
from workers.protocol import wire
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.torch)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a 2-layer Llama of about 100,000 weights, its tokenizer, and sums.jsonl."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["What is 12 + 34? It is 46. user assistant system"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, _sums())))
    return folder


def _sums() -> list[dict[str, str]]:
    pairs = [(a, 7 * a % 90 + 10) for a in range(10, 70)]
    return [{"prompt": f"What is {a} + {b}?", "completion": f"It is {a + b}."} for a, b in pairs]


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def train_here(tmp_path: Path) -> Callable[..., list[Any]]:
    """Runs a recipe's whole job within this process; returns what it said."""

    def run(recipe: Recipe, folder: Path | None = None) -> list[Any]:
        if folder is None:
            folder = tmp_path / "jobs" / f"{recipe.name}-{len(list(tmp_path.glob('jobs/*')))}"
            folder.mkdir(parents=True)
            job = Job(
                id=folder.name, name=recipe.name, created="2026-01-01T00:00:00+00:00",
                home=str(tmp_path), task=Train(recipe=recipe),
            )  # fmt: skip
            wire.write_job(folder, job)
        run_folder(folder)
        return [line.event for line in wire.read_events(folder)]

    return run


@pytest.fixture
def speaking(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny model with a template that TRL ships, and that template's marks as tokens."""

    def make(name: str, marks: list[str], end: str = "<|im_end|>") -> Path:
        import trl
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = tmp_path / name
        tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
        tokenizer.add_special_tokens({"additional_special_tokens": marks})
        tokenizer.eos_token, tokenizer.bos_token = end, "<|im_start|>"
        template = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
        tokenizer.chat_template = template.read_text()
        model: Any = AutoModelForCausalLM.from_pretrained(tiny)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make
