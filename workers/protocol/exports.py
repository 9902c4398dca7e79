"""What a run can be exported to, declared once, and which of the files speak like the model.

The window, the command line, the conversion and the comparison follow from `EXPORTS`. To add a
quantization of llama.cpp: its entry.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.protocol.events import Checked
from workers.protocol.wire import write_atomically


class ExportSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of file."""

    id: str
    """As it is asked for."""
    title: str
    words: str
    """What it is and whom it suits."""
    icon: str
    ending: str
    """How the file's name ends; the whole name of a folder."""
    bytes_per_weight: float
    """Upper estimate, embeddings included, to see before the work whether the disk has room."""
    quantization: str = ""
    """llama.cpp's type; empty for what is no GGUF file."""
    least_agreement: float | None = None
    """Share of clear next tokens that must be the trained model's; None is not asked any."""


def _gguf(quantization: str, words: str, icon: str, size: float, agreement: float) -> ExportSpec:
    return ExportSpec(
        id=f"gguf:{quantization}", title=f"GGUF {quantization}", words=words, icon=icon,
        ending=f"-{quantization}.gguf", bytes_per_weight=size, quantization=quantization,
        least_agreement=agreement,
    )  # fmt: skip


FULL = "f16"
"""The type of a GGUF file that holds the weights as they are; the others are made from it."""
_DECLARED = (
    _gguf("Q4_K_M", "About 5 bits a weight. Smallest; a small loss of quality. The usual choice "
          "for llama.cpp and Ollama.", "leaf", 0.7, 0.85),
    _gguf("Q5_K_M", "Between 5 and 6 bits a weight. Nearly as small, and nearer to the original.",
          "stack", 0.8, 0.88),
    _gguf("Q6_K", "Between 6 and 7 bits a weight. Close to the original.", "circle-half", 0.9,
          0.93),
    _gguf("Q8_0", "8 bits a weight. Hardly to be told from the original.", "scales", 1.1, 0.97),
    _gguf(FULL, "16 bits a weight. The trained model as it is, for llama.cpp.", "diamond", 2.0,
          0.99),
    ExportSpec(
        id="merged", title="Merged 16-bit", ending="merged-16bit", bytes_per_weight=2.0,
        words="A folder of safetensors, for Transformers, vLLM or the hub.", icon="package",
    ),
)  # fmt: skip
EXPORTS: dict[str, ExportSpec] = {spec.id: spec for spec in _DECLARED}
"""Every kind by its id, in the order in which they are offered."""
USUAL = "gguf:Q4_K_M"
"""What is made where nothing else is asked for."""
PARITY = "parity.json"
"""In a run's `exports`: a file's name to the checks that compared it."""


def read_parity(exports: Path) -> dict[str, list[Checked]]:
    """The record; empty where there is none, or none that can be read."""
    try:
        return msgspec.json.decode((exports / PARITY).read_bytes(), type=dict[str, list[Checked]])
    except (OSError, msgspec.DecodeError):
        return {}


def record_parity(exports: Path, name: str, checks: list[Checked] | None) -> None:
    """Writes what the comparison of one file found.

    No checks stand for a comparison that was begun and has not ended; None takes the file out of
    the record.
    """
    record = read_parity(exports)
    record.pop(name, None)
    if checks is not None:
        record[name] = checks
    write_atomically(exports / PARITY, msgspec.json.format(msgspec.json.encode(record), indent=2))


def differs(checks: list[Checked] | None) -> str:
    """Why a file cannot be taken for the trained model; empty where it can.

    A file without a record is from an older export, or was asked for without a comparison.
    """
    if checks is None:
        return ""
    if not checks:
        return "its comparison with the trained model never ended"
    return "; ".join(f"{one.check}: {one.detail}" for one in checks if not one.passed)
