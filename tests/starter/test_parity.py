"""The starter model says the same through transformers and llama.cpp: token ids and greedy answers.

Needs llama.cpp's converter, which `packaging/bootstrap.py` puts into the environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llama_cpp import Llama

ASSETS = Path(__file__).parents[2] / "assets"
MODEL = ASSETS / "starter" / "model"
CONVERTER = Path(sys.prefix) / "share" / "finetune-studio" / "llama.cpp" / "convert_hf_to_gguf.py"
TEXTS = 200
PROMPTS = 50
ANSWER_TOKENS = 64
LEAST_SAME_F16 = 48

# One process makes the fixtures.
pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("parity")]

PICKED = (
    "",
    " ",
    "  ",
    "\n",
    "\t",
    " \n \t ",
    "<|im_start|>user\nWhat is 47 + 85?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
    "<think>7+5=12, 4+8+1=13</think>\\boxed{132}<|im_end|>",
    "<think> <think></think></think >< think>",
    "<|im_end|><|im_end|> <|im_end|>\n<|pad|><unk>",
    "<|im_start|><|im_start|>assistants usersystem systems",
    "<|im_en", "|im_end|>", "<<think>>", "<|im_start|", "<0x0A> <0x41> <0xFF>",
    "Hello world 12345 67", "  leading", "trailing  ", "a   b    c     d",
    "HELLO World hELLO", "WhatIs TheCapital Of FranceParis", "don't I'll we've",
    "x=1024;\n\n  foo\tbar ", "naïve café façade Über straße", "日本語のテキスト", "한국어 텍스트",
    "中文字符，标点。", "Привет, мир!", "שלום עולם", "مرحبا بالعالم", "हिन्दी में", "ไทย",
    "🎉 🧑‍🚀 👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈", "e\u0301 a\u0300\u0301\u0302 \u0301", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "\u200b\u200d\ufeff\u00a0\u3000\u2028\u2029", "\x00\x01\x02\x1b[0m\x7f\x85", "\r\n\r\r\n",
    "▁ ▁▁ a▁b", "\\boxed{", "\\boxed {1}", "\\box\\boxe\\boxed\\boxed{", "C:\\boxed\\Users",
    "a" * 300,
    "…—“q”‘r’ £5 €6 2×3÷4", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ｆｕｌｌ ﬁ ﬂ ǅ", "\U0010ffff\ue000\ufffd\ufffe", "½ ² ₃ Ⅷ ٣ ५",
)  # fmt: skip
"""Tags whole and broken, spaces of all kinds, many scripts, control characters."""


def texts() -> list[str]:
    """The picked ones, chats of the built-in sets, and seeded scrambles of everything."""
    chats = [
        "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in row["messages"])
        for row in _rows("reasoning")[:30]
    ]
    draw = Random(11)
    found = [*PICKED, *chats, *(row["text"] for row in _rows("stories")[:10])]
    while len(found) < TEXTS:
        found.append("".join(_piece(draw) for _ in range(draw.randint(1, 30))))
    return found[:TEXTS]


BITS = (" ", "\n", "What", " the", "the", "answ", " Answer", "7", "+", ", ")


def _piece(draw: Random) -> str:
    return draw.choice((draw.choice(PICKED), draw.choice(BITS), _character(draw)))


def _character(draw: Random) -> str:
    """Any assigned or private character; surrogates are no characters."""
    while True:
        character = chr(draw.randrange(draw.choice((0x80, 0x800, 0x10000, 0x110000))))
        if unicodedata.category(character) != "Cs":
            return character


def _rows(name: str) -> list[dict[str, Any]]:
    path = ASSETS / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts() -> list[str]:
    talk = ["Hello!", "Who are you?", "What can you do?", "What is the capital of France?", "Bye!"]
    sums = [row["prompt"] for row in _rows("arithmetic-test")[:25]]
    others = [row["prompt"] for row in _rows("reasoning-test")[:20]]
    return [*talk, *sums, *others]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def asked(tokenizer: Any) -> list[list[int]]:
    """Each prompt in the chat template, as token ids."""
    return [
        tokenizer(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            ),
            add_special_tokens=False,
        )["input_ids"]
        for prompt in prompts()
    ]


@pytest.fixture(scope="module")
def spoken(tokenizer: Any, asked: list[list[int]]) -> list[list[int]]:
    """The greedy answers of transformers in 32 bits, end-of-turn token included."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    answers = []
    for ids in asked:
        output = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
        )
        answers.append(output[0, len(ids) :].tolist())
    return answers


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as GGUF, in 32 and in 16 bits."""
    if not CONVERTER.is_file():
        pytest.skip(f"llama.cpp's converter is not at {CONVERTER}")
    pytest.importorskip("llama_cpp")
    folder = tmp_path_factory.mktemp("gguf")
    return {kind: _convert(folder / f"starter-{kind}.gguf", kind) for kind in ("f32", "f16")}


def _convert(target: Path, kind: str) -> Path:
    command = [sys.executable, str(CONVERTER), str(MODEL), "--outtype", kind]
    ended = subprocess.run(
        [*command, "--outfile", str(target)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return target


def _open(path: Path, **options: Any) -> Llama:
    from llama_cpp import Llama

    return Llama(str(path), verbose=False, **options)


def _greedy(llama: Llama, ids: list[int]) -> list[int]:
    """llama.cpp's most probable tokens, up to and with the end of turn."""
    answer: list[int] = []
    for token in llama.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0):
        answer.append(token)
        if token == llama.token_eos() or len(answer) == ANSWER_TOKENS:
            break
    return answer


def test_ids_are_equal_on_200_texts(converted: dict[str, Path], tokenizer: Any) -> None:
    llama = _open(converted["f16"], vocab_only=True)
    asked = texts()
    assert len(asked) == TEXTS
    different = [
        text
        for text in asked
        if llama.tokenize(text.encode(), add_bos=False, special=True)
        != tokenizer(text, add_special_tokens=False)["input_ids"]
    ]
    llama.close()
    assert different == []


def test_text_survives_the_tokenizer(tokenizer: Any) -> None:
    for text in texts():
        if "▁" not in text:  # the tokenizer's own sign for a space
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(("kind", "least"), [("f32", PROMPTS), ("f16", LEAST_SAME_F16)])
def test_greedy_answers_agree(
    converted: dict[str, Path],
    asked: list[list[int]],
    spoken: list[list[int]],
    kind: str,
    least: int,
) -> None:
    llama = _open(converted[kind], n_ctx=512, n_batch=512, seed=0)
    same = [_greedy(llama, ids) == answer for ids, answer in zip(asked, spoken, strict=True)]
    llama.close()
    assert len(same) == PROMPTS
    assert sum(same) >= least, [at for at, equal in enumerate(same) if not equal]


def test_the_file_ends_its_turn_like_the_model(converted: dict[str, Path], tokenizer: Any) -> None:
    llama = _open(converted["f16"], vocab_only=True)
    assert llama.token_eos() == tokenizer.eos_token_id
    assert llama.metadata["tokenizer.chat_template"] == tokenizer.chat_template
    assert llama.metadata["tokenizer.ggml.add_bos_token"] == "false"
    llama.close()
