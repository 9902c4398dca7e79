"""Why PyTorch does not compute on a card that is here, and what is refused then."""

from __future__ import annotations

import json
import struct
from functools import partial
from pathlib import Path

import msgspec
import pytest

from workers import cuda_check
from workers.cards import VISIBLE
from workers.cuda_check import Build, check_device, reason_of, unused_card, weights_in
from workers.protocol.cards import Card
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

CARD = Card(
    key="GPU-a", name="NVIDIA GeForce RTX 4070", driver="580.95.05", cuda="13.0", capability="8.9"
)
CUDA13 = Build("2.13.0+cu130", "13.0")
replaced = msgspec.structs.replace


@pytest.mark.parametrize(
    ("card", "build", "cause", "remedy"),
    [
        (CARD, Build("2.13.0+cpu", None), "for the CPU alone", "bootstrap.py run"),
        (replaced(CARD, driver="535.183.01", cuda="12.2"), CUDA13,
         "driver 535.183.01 runs CUDA 12.2 at most", "driver to 580 or later"),
        (replaced(CARD, capability="6.1"), CUDA13, "6.1", "older cards"),
        (replaced(CARD, capability="6.1"), Build("2.13.0+cu126", "12.6"), "says: boom", "Restart"),
        (CARD, CUDA13, "says: boom", "Restart"),
        (Card(key="GPU-a"), Build("3.0", "14.1"), "says: boom", "Restart"),
    ],
)  # fmt: skip
def test_driver_card_and_build_tell_why(card: Card, build: Build, cause: str, remedy: str) -> None:
    told = reason_of(card, build, "boom")

    assert cause in told.cause
    assert remedy in told.remedy


def test_a_card_that_computes_or_is_not_there_needs_no_words() -> None:
    fine, faulty = (lambda: ""), (lambda: "boom")

    assert unused_card([CARD], try_cuda=fine) is None
    assert unused_card([], on_bus=lambda: True, try_cuda=fine) is None
    assert unused_card([], on_bus=lambda: False, try_cuda=faulty) is None
    none = unused_card([], "no driver", on_bus=lambda: True, try_cuda=faulty)
    assert none is not None
    assert none.cause == "no driver"
    told = unused_card([CARD], build=lambda: CUDA13, try_cuda=faulty)
    assert told is not None
    assert "RTX 4070" in told.what
    assert "driver 580.95.05" in told.what


def model_of(folder: Path, weights: int) -> Path:
    """Two files' headers, without the numbers that they speak of."""
    for name, share in (("a", 3), ("b", 1)):
        tensors = {"__metadata__": {"format": "pt"},
                   f"layer.{name}": {"dtype": "BF16", "shape": [share, weights // 4],
                                     "data_offsets": [0, 0]}}  # fmt: skip
        header = json.dumps(tensors).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that PyTorch, built for the CPU, does not see."""
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(cuda_check, "find_cards", lambda: ([CARD], ""))
    monkeypatch.setattr(cuda_check, "best_device", lambda: "cpu")
    blind = partial(unused_card, build=lambda: Build("2.13.0+cpu", None), try_cuda=lambda: "boom")
    monkeypatch.setattr(cuda_check, "unused_card", blind)


@pytest.mark.usefixtures("unseen")
def test_a_large_model_does_not_train_on_the_cpu_unasked(tmp_path: Path, recipe: Recipe) -> None:
    model = model_of(tmp_path, 8_000_000_000)
    told: list[str] = []

    with pytest.raises(Refusal) as refused:
        check_device(recipe, model, told.append)
    assert "8.0 billion weights" in refused.value.cause
    assert "training.device to 'cpu'" in refused.value.remedy

    training = replaced(recipe.training, device="cpu")
    check_device(replaced(recipe, training=training), model, told.append)
    assert told == []


@pytest.mark.usefixtures("unseen")
def test_a_small_one_does_and_says_so(tmp_path: Path, recipe: Recipe) -> None:
    told: list[str] = []
    check_device(recipe, model_of(tmp_path, 360_000_000), told.append)

    assert "trains on the CPU" in told[0]


@pytest.mark.usefixtures("unseen")
def test_who_hides_the_card_asks_for_the_cpu(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "-1")
    check_device(recipe, model_of(tmp_path, 8_000_000_000), pytest.fail)


@pytest.mark.usefixtures("unseen")
def test_a_card_that_is_seen_but_cannot_compute_stops_small_models_too(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_check, "best_device", lambda: "cuda")
    with pytest.raises(Refusal):
        check_device(recipe, model_of(tmp_path, 4_000), pytest.fail)


def test_weights_are_counted_by_the_files_headers(tmp_path: Path) -> None:
    assert weights_in(model_of(tmp_path, 400)) == 400
    assert weights_in(tmp_path / "gone") == 0
