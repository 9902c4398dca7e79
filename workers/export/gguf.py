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

from workers.protocol.refusal import Refusal

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
    ended = subprocess.run(
        [sys.executable, str(CONVERTER), str(folder), "--outtype", "f16", "--outfile", str(target)],
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


def quantize(source: Path, target: Path, kind: str) -> Path:
    """Writes `source` (f16) as `kind`, for example Q4_K_M."""
    import llama_cpp

    types = {
        "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    }
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = types[kind]
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(options)
    )
    if code != 0:
        raise Refusal(
            f"llama.cpp could not write {kind} (code {code}).",
            "The disk may be full, or the model has a shape that this type cannot hold.",
            "Choose Q8_0 or f16; the log holds what llama.cpp said.",
        )
    return target
