"""Adapters that begin as a part of the model's weights, which is taken out of them: PiSSA (Meng et
al. 2024) and OLoRA (Büyükakyüz 2024).

Such an adapter fits no model but the rest that it left. So the start, A0 and B0, is kept beside the
run: a run that goes on takes the same part out again, and what is saved is the difference,
B A - B0 A0, as plain LoRA of twice the rank on the whole weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from workers.folders import write_folder

START = "start"
"""Of a run's folder the one with its adapter as it began."""
PARTS = ("pissa", "olora")
"""Values of lora.init that take a part out of the weights."""
INITS = {"default": True, "gaussian": "gaussian", "pissa": "pissa_niter_16", "olora": "olora"}
"""What PEFT calls them; PiSSA with a fast decomposition, 16 rounds of it."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def keep_start(model: Any, folder: Path) -> None:
    """Writes down the adapter as it begins."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    layers = {name: weight.contiguous() for name, weight in state.items() if ".lora_" in name}
    write_folder(folder, lambda target: save_file(layers, target / WEIGHTS))


@torch.no_grad()
def take_out(model: Any, folder: Path) -> None:
    """Gives a model with a fresh plain adapter the start that was kept, and takes it out of the
    weights under it."""
    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            base: Any = layer.get_base_layer()
            part = layer.get_delta_weight("default")  # type: ignore[operator]
            rest = base.weight.data.float() - part.float()
            base.weight.data = rest.to(base.weight.dtype)


def as_plain_lora(adapter: Path, start: Path) -> None:
    """Makes a saved adapter plain LoRA on the whole weights, where it began as a part of them.

    With A' = [A; A0] and B' = [B, -B0], B' A' = B A - B0 A0; alpha grows with the rank, so that
    the scale stays.
    """
    if not (start / WEIGHTS).is_file():
        return
    begun, weights = load_file(start / WEIGHTS), load_file(adapter / WEIGHTS)
    for name, first in begun.items():
        if "lora_A" in name:
            weights[name] = torch.cat([weights[name], first.to(weights[name])], dim=0)
        else:
            weights[name] = torch.cat([weights[name], -first.to(weights[name])], dim=1)
    save_file(weights, adapter / WEIGHTS, metadata={"format": "pt"})
    config = msgspec.json.decode((adapter / CONFIG).read_bytes())
    config["r"] *= 2
    config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
    (adapter / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
