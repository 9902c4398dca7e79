"""What PyTorch sees of two cards within a turn, and what it says of a card that it does not see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import TrainingArguments

from workers import turns
from workers.cards import VISIBLE
from workers.cuda_check import fault_of_cuda, torch_build
from workers.hardware import look_at_hardware
from workers.host import Host
from workers.protocol import wire
from workers.protocol.cards import Card, Hardware
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe

TWO = [Card(key="GPU-11111111", memory_bytes=8), Card(key="GPU-22222222", memory_bytes=24)]


def visible_count() -> int:
    """What torch.cuda.device_count gives on a machine with two cards."""
    named = torch.cuda._parse_visible_devices()  # type: ignore[attr-defined]
    return sum(1 for one in named if one in (0, 1, TWO[0].key, TWO[1].key))


def test_no_trainer_spreads_over_two_cards(
    tmp_path: Path, runtime_folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", visible_count)
    monkeypatch.setattr(turns, "usable_cards", lambda: TWO)
    assert TrainingArguments(str(tmp_path), report_to="none").n_gpu == 2, "it would"

    folder = tmp_path / "job"
    folder.mkdir()
    wire.write_job(folder, Job(id="a", name="a", created="", home="", task=Train(recipe)))
    with Host(folder) as host, turns.turn(host):
        assert torch.cuda._parse_visible_devices() == [TWO[1].key]  # type: ignore[attr-defined]
        assert TrainingArguments(str(tmp_path), report_to="none").n_gpu == 1


def test_the_hardware_is_told_of_as_json(tmp_path: Path) -> None:
    seen = look_at_hardware(tmp_path)
    again = msgspec.json.decode(msgspec.json.encode(seen), type=Hardware)

    assert again == seen
    assert seen.torch["version"] == torch.__version__
    assert seen.cores >= 1
    assert 0 < seen.memory_free_bytes < seen.memory_bytes
    assert 0 < seen.disk_free_bytes < seen.disk_bytes
    assert bool(seen.cards) != bool(seen.no_cards)


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch computes on a card here")
def test_pytorch_says_itself_why_it_does_not_compute_on_a_card() -> None:
    assert fault_of_cuda()
    if torch_build().cuda is None:
        assert fault_of_cuda() == "AssertionError: Torch not compiled with CUDA enabled"


def test_settling_the_device_imports_no_torch() -> None:
    names = "workers.turns, workers.cards, workers.card_lock, workers.device, workers.cuda_check"
    code = f"import sys, {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
