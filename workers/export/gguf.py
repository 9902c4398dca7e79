"""GGUF through llama.cpp's own converter and quantizer, of the version that also runs the file.

The converter comes out of llama-cpp-python's source distribution; `packaging/bootstrap.py` puts it
into the environment.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from safetensors import safe_open

from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONVERTER = Path(sys.prefix) / "share" / "finetune-studio" / "llama.cpp" / "convert_hf_to_gguf.py"
TIME_LIMIT_S = 3 * 3600


def convert(folder: Path, target: Path) -> Path:
    """A merged model folder as one f16 GGUF file; raises `Refusal` where the model is not known."""
    if not CONVERTER.is_file():
        raise Refusal(
            "The GGUF converter is not in this environment.",
            f"{CONVERTER} is missing.",
            "Set the project up again: python3 packaging/bootstrap.py run",
        )
    asked = [str(folder), "--outtype", "f16", "--outfile", str(target), *options(folder)]
    ended = subprocess.run(
        [sys.executable, str(CONVERTER), *asked],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},  # all that it needs lies in the folder
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    print(ended.stdout, ended.stderr, sep="\n")  # to worker.log
    if ended.returncode != 0 or not target.is_file():
        last = next((li for li in reversed(ended.stderr.splitlines()) if li.strip()), "no message")
        raise Refusal(
            f"llama.cpp's converter could not convert the model: {last.strip()}",
            "This kind of model or tokenizer may not be known to it.",
            "Export to merged 16-bit instead; the log holds what the converter said.",
        )
    return target


def options(folder: Path) -> list[str]:
    """What the converter has to be told about a model beyond its folder.

    Transformers drops the layers for multi-token prediction (MTP, DeepSeek-V3) on loading, and the
    configuration still counts them: a file that promises them does not load. And llama.cpp knows by
    the model's name alone that Phi-3's special tokens take the blanks behind them along.
    """
    config = msgspec.json.decode((folder / "config.json").read_bytes())
    config |= config.get("text_config") or {}
    promised = config.get("mtp_num_hidden_layers") or config.get("num_nextn_predict_layers")
    told = ["--no-mtp"] if promised and not _holds_mtp(folder, config) else []
    if config.get("model_type") == "phi3" and _strips_blanks(folder):
        told += ["--model-name", "Phi3"]
    return told


LAYER_NAMES = {
    "granitemoehybrid": {"full_attention": "attention", "linear_attention": "mamba"},
}
"""Kinds of layers in `layer_types`: as Transformers 5 saves them, and as the converter reads them.
"""


def name_layers(folder: Path) -> None:
    """Writes the kinds of layers in a folder's configuration under the converter's names.

    It takes a layer of an unknown name for a recurrent one, and the file does not load.
    """
    path = folder / "config.json"
    config = msgspec.json.decode(path.read_bytes())
    names = LAYER_NAMES.get(config.get("model_type"), {})
    if names:
        config["layer_types"] = [names.get(one, one) for one in config["layer_types"]]
        path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))


def _strips_blanks(folder: Path) -> bool:
    fields = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes())
    return any(token["rstrip"] for token in fields.get("added_tokens_decoder", {}).values())


def tell_space_prefix(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Says in a SentencePiece folder whether text behind a special token gets a space before it.

    llama.cpp puts one there unless it is told otherwise; in a tokenizer.json that is up to its
    normalizer and pre-tokenizer.
    """
    if not (folder / "tokenizer.model").is_file():
        return
    ids = tokenizer(f"{tokenizer.all_special_tokens[0]}a", add_special_tokens=False)["input_ids"]
    behind = str(tokenizer.convert_ids_to_tokens(ids[1]))
    path = folder / "tokenizer_config.json"
    fields = msgspec.json.decode(path.read_bytes()) | {"add_prefix_space": behind[0] == "▁"}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2))


def _holds_mtp(folder: Path, config: dict[str, Any]) -> bool:
    """Whether there are weights under `mtp`, or layers behind the last one that is counted."""
    behind = f"layers.{config['num_hidden_layers']}."
    return any("mtp" in name or behind in name for name in _tensor_names(folder))


def _tensor_names(folder: Path) -> list[str]:
    names: list[str] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def quantize(source: Path, target: Path, kind: str) -> Path:
    """Writes `source` (f16) as `kind`, for example Q4_K_M."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.pointer(options)
    )
    if code != 0:
        raise Refusal(
            f"llama.cpp could not write {kind} (code {code}).",
            "The disk may be full, or the model has a shape that this type cannot hold.",
            "Choose Q8_0 or f16; the log holds what llama.cpp said.",
        )
    return target
