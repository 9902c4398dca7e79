"""Folds a run's adapters into its base model and writes 16-bit safetensors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedModel

from workers.device import free_memory
from workers.engines import Loaded
from workers.engines.adapters import earlier_adapter
from workers.engines.classes import Tell
from workers.engines.shards import UNUSUAL, stored_shards
from workers.engines.streamed import OutOfRange, Stream, Unstreamable, open_stream
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


def _silent(_text: str) -> None:
    """For what has been told already."""


class Merged(NamedTuple):
    """A model as it is about to be written; its adapters are folded in on the way, or are
    already."""

    located: Located
    tokenizer: PreTrainedTokenizerBase
    stream: Stream | None
    """Takes one weight at a time."""
    model: PreTrainedModel
    """Whole in memory, or without weights where there is a stream."""


def open_merged(located: Located, tell: Tell) -> Merged:
    """The model with its adapters, ready to be written.

    W' = W + (alpha / r) B A (Hu et al. 2021) is computed in 32 bits, so that the sum is rounded
    once; of models that have to be loaded in the base's own 16 bits where memory is short.

    Args:
        located: the model.
        tell: told, in the user's words, when the model has to be loaded whole.
    """
    tokenizer = load_tokenizer(located)
    try:
        stream = open_stream(located)
    except Unstreamable as cause:
        model = merge(located, tell, str(cause)).model
        return Merged(located, tokenizer, None, model)
    stop_at_end(stream.model, tokenizer)
    return Merged(located, tokenizer, stream, stream.model)


def merge(located: Located, tell: Tell = _silent, cause: str = "") -> Loaded:
    """The model with its adapters folded in, whole in memory, on the CPU."""
    roomy = free_memory("cpu") > 3 * bytes_in_16_bits(located.folder)
    if cause:
        size = bytes_in_16_bits(located.folder) * (2 if roomy else 1) / 1e9
        tell(f"The model is loaded whole, which takes {size:.1f} GB of RAM, since {cause}.")
    dtype = torch.float32 if roomy else torch.bfloat16
    model, tokenizer = load_weights(located, dtype).eval(), load_tokenizer(located)
    stop_at_end(model, tokenizer)
    return Loaded(model, tokenizer, "cpu", dtype)


def bytes_in_16_bits(folder: Path) -> int:
    """Of a model's weights; of packed ones at most."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if is_packed(folder):
        return 4 * size
    try:
        return 2 * sum(one.weights for shard in stored_shards(folder) for one in shard.values())
    except UNUSUAL:
        return size


def load_reference(located: Located) -> Loaded:
    """The model as it was trained, on the CPU, its last adapter unmerged.

    No merged copy is made: in its own 16 bits the base is read from its files as it is needed. In
    32 bits where there is memory for them.
    """
    roomy = free_memory("cpu") > 3 * bytes_in_16_bits(located.folder)
    dtype = torch.float32 if roomy else torch.bfloat16
    model = load_weights(Located(located.base, located.folder, located.adapters[:-1]), dtype)
    for last in located.adapters[-1:]:
        model = earlier_adapter(model, last).get_base_model()
    tokenizer = load_tokenizer(located)
    stop_at_end(model, tokenizer)
    return Loaded(model.eval(), tokenizer, "cpu", dtype)


def save(
    merged: Loaded | Merged, folder: Path, dtype: torch.dtype, base: Path | None = None
) -> Path:
    """Writes the merged model in a 16-bit type with its tokenizer and chat template.

    Args:
        merged: what to write.
        folder: where to.
        dtype: of the weights.
        base: the folder of the base model, for what Transformers does not write out again.

    Raises:
        OutOfRange: `dtype` is float16 and a weight of a stream is beyond it.
    """

    def fill(target: Path) -> None:
        if isinstance(merged, Merged) and merged.stream:
            merged.stream.write(target, dtype)
        else:
            save_weights(merged.model, target, dtype)
        _name_dtype(target / "config.json", str(dtype).removeprefix("torch."))
        merged.tokenizer.save_pretrained(target)
        if base is not None:
            _carry_vocabulary(merged.tokenizer, base, target)
        _drop_code(target)

    return write_folder(folder, fill)


def save_finest(merged: Merged, folder: Path, base: Path | None = None) -> Path:
    """Writes float16, which of the two 16-bit types keeps three bits more of an update, or bfloat16
    where a weight is beyond float16."""
    largest = 0.0
    if merged.stream is None:
        largest = max(float(w.detach().abs().max()) for w in merged.model.parameters())
    try:
        if largest > torch.finfo(torch.float16).max:
            raise OutOfRange
        return save(merged, folder, torch.float16, base)
    except OutOfRange:
        return save(merged, folder, torch.bfloat16, base)


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
