"""What PyTorch sees of two cards within a turn, and what it says of a card that it does not see."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import TrainingArguments

from studio.jobs import Jobs
from studio.records import JobRow
from tests.torch.test_sft import learner
from workers import probe, turns
from workers.cards import VISIBLE
from workers.cuda_check import fault_of_cuda, torch_build, unused_card
from workers.hardware import look_at_hardware
from workers.host import Host
from workers.protocol import wire
from workers.protocol.cards import Card, Hardware
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe
from workers.train import report
from workers.train.temperature import Thermometer

TWO = [Card(key="GPU-1", memory_bytes=8), Card(key="GPU-2", index=1, memory_bytes=24)]


def visible_count() -> int:
    """What torch.cuda.device_count gives on a machine with two cards."""
    named = torch.cuda._parse_visible_devices()  # type: ignore[attr-defined]
    return sum(1 for one in named if one in (0, 1))


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
        assert torch.cuda._parse_visible_devices() == [1]  # type: ignore[attr-defined]
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


def test_a_run_rests_when_its_card_gets_too_hot_and_goes_on_when_it_is_resumed(
    real: Jobs, tiny: Path, follow: Callable[..., JobRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = iter((70, 84, 85, 86))
    looks = itertools.count(0, 10)
    monkeypatch.setattr(
        report, "open_thermometer",
        lambda limit, closing: Thermometer(limit, lambda: next(heat, 60), lambda: next(looks)),
    )  # fmt: skip
    real.settings = msgspec.structs.replace(real.settings, pause_above_celsius=85)
    run = real.train(learner(tiny, training={"max_steps": 6}, evaluation={"holdout": 0.0}))
    row = follow(real, run)
    assert (row.status, row.steps) == ("paused", 4)
    assert row.cause == (
        "Paused at step 4: the GPU is at 86 °C, and the settings pause training at 85 °C. Resume "
        "it when the GPU has cooled."
    )
    real.settings = msgspec.structs.replace(real.settings, pause_above_celsius=0)
    assert real.resume(run) == 4
    assert wire.read_job(real.folder(run)).pause_above_celsius == 0
    assert follow(real, run).status == "finished"


def test_the_doctor_fails_where_a_card_is_there_and_pytorch_does_not_see_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    card = Card(key="GPU-1", name="NVIDIA GeForce GTX 1080", driver="470.256.02", cuda="11.4")
    monkeypatch.setattr(probe, "find_cards", lambda: ([card], ""))
    monkeypatch.setattr(probe, "usable_cards", lambda: [card])
    monkeypatch.setattr(probe, "unused_card", partial(unused_card, try_cuda=lambda: "boom"))
    found = probe.checked("graphics card", probe.CHECKS["graphics card"])
    assert not found.passed
    assert "GTX 1080" in found.detail
    assert found.remedy

    monkeypatch.setenv(VISIBLE, "-1")
    hidden = probe.checked("graphics card", probe.CHECKS["graphics card"])
    assert hidden.passed
    assert hidden.detail.endswith("hidden by CUDA_VISIBLE_DEVICES=-1")
