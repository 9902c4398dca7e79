"""Folds a run's adapters into its base model and writes 16-bit safetensors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from workers.engines import Loaded
from workers.engines.tokenizer import as_written
from workers.engines.transformers import (
    load_tokenizer,
    load_weights,
    save_weights,
    stop_at_end,
)
from workers.fetch import Located, is_packed
from workers.folders import write_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SENTENCEPIECE = "tokenizer.model"


def merge(located: Located) -> Loaded:
    """The model with its adapters folded in, on the CPU.

    W' = W + (alpha / r) B A (Hu et al. 2021) is computed in 32 bits when the memory allows it,
    so that the sum is rounded once, else in the base's own 16 bits.
    """
    size = sum(path.stat().st_size for path in located.folder.glob("*.safetensors"))
    unpacked = 4 * size if is_packed(located.folder) else size
    roomy = psutil.virtual_memory().available > 3 * unpacked
    dtype = torch.float32 if roomy else torch.bfloat16
    model, tokenizer = load_weights(located, dtype).eval(), load_tokenizer(located)
    stop_at_end(model, tokenizer)
    return Loaded(model, tokenizer, "cpu", dtype)


def save(merged: Loaded, folder: Path, dtype: torch.dtype, base: Path | None = None) -> Path:
    """Writes the merged model in a 16-bit type with its tokenizer and chat template.

    Args:
        merged: what to write.
        folder: where to.
        dtype: of the weights.
        base: the folder of the base model, for what Transformers does not write out again.
    """

    def fill(target: Path) -> None:
        save_weights(merged.model, target, dtype)
        _name_dtype(target / "config.json", str(dtype).removeprefix("torch."))
        merged.tokenizer.save_pretrained(target)
        if base is not None:
            _carry_vocabulary(merged.tokenizer, base, target)
        _drop_code(target)

    return write_folder(folder, fill)


def _carry_vocabulary(tokenizer: PreTrainedTokenizerBase, base: Path, target: Path) -> None:
    """Puts the base's tokenizer class and its SentencePiece model beside an unchanged vocabulary.

    Transformers 5 saves every tokenizer as `TokenizersBackend` in tokenizer.json alone. llama.cpp's
    converter goes by the class (Phi), and without tokenizer.model it refuses a vocabulary (Gemma,
    Phi) or takes it for another (Mistral). Added tokens have to stand in the configuration then:
    those that tokenizer.model does not know would be read as plain text.
    """
    theirs = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    changed = theirs.get_vocab() != tokenizer.get_vocab()
    if changed or not as_written(theirs, base / "tokenizer.json"):
        return
    path = target / "tokenizer_config.json"
    fields = msgspec.json.decode(path.read_bytes())
    named = msgspec.json.decode((base / path.name).read_bytes()).get("tokenizer_class")
    if named:
        fields["tokenizer_class"] = named
    if (base / SENTENCEPIECE).is_file():
        shutil.copyfile(base / SENTENCEPIECE, target / SENTENCEPIECE)
        fields["added_tokens_decoder"] = {
            str(at): {"content": token.content, "special": token.special,
                      "lstrip": token.lstrip, "rstrip": token.rstrip,
                      "normalized": token.normalized, "single_word": token.single_word}
            for at, token in tokenizer.added_tokens_decoder.items()
        }  # fmt: skip
    path.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2))


def _drop_code(folder: Path) -> None:
    """Takes out what would let a loader run code of a foreign model: llama.cpp's converter opens
    the folder with `trust_remote_code=True`."""
    for path in folder.glob("*.py"):
        path.unlink()
    for path in folder.glob("*.json"):
        fields = msgspec.json.decode(path.read_bytes())
        if isinstance(fields, dict) and fields.pop("auto_map", None) is not None:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2))


def _name_dtype(config: Path, dtype: str) -> None:
    """The configuration names the type in which the weights are stored, not computed."""
    fields = msgspec.json.decode(config.read_bytes())
    fields["dtype"] = dtype
    config.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2))


def stored_dtype(folder: Path) -> str:
    """The type of the first tensor in a folder of safetensors, for example BF16."""
    path = next(iter(sorted(folder.glob("*.safetensors"))))
    with safe_open(path, framework="pt") as file:
        return str(file.get_slice(next(iter(file.keys()))).get_dtype())
