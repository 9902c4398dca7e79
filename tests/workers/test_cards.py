"""NVIDIA's cards through NVML, played back: what they tell, and which of them are seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import Nvml
from workers import cards
from workers.cards import NoCards, find_cards, is_on_bus, open_nvml, read_cards, visible_cards
from workers.protocol.cards import Card

TWO = [Card(key="GPU-aaa1", index=0), Card(key="GPU-aab2", index=1)]


def test_a_card_is_told_of_whole() -> None:
    first, second = read_cards(Nvml())

    assert first == Card(
        key="GPU-11111111-2222-3333-4444-555555555555", name="NVIDIA GeForce RTX 4070",
        driver="580.95.05", cuda="13.0", capability="8.9", memory_bytes=12_878_610_432,
        used_bytes=1_073_741_824, celsius=64, watts=148.2, most_watts=200.0, busy_percent=97,
    )  # fmt: skip
    assert first.words == "NVIDIA GeForce RTX 4070 (12.0 GB, capability 8.9, driver 580.95.05)"
    assert second.name == "Quadro P620"


def test_what_a_card_does_not_tell_is_none() -> None:
    _, second = read_cards(Nvml())

    assert (second.watts, second.most_watts, second.busy_percent) == (None, None, None)
    assert second.celsius == 41


def test_a_lost_card_is_left_out() -> None:
    nvml = Nvml()
    nvml.lost = {0}

    assert [(card.index, card.name) for card in read_cards(nvml)] == [(1, "Quadro P620")]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (None, ["GPU-aaa1", "GPU-aab2"]),
        ("1", ["GPU-aab2"]),
        ("1,0", ["GPU-aab2", "GPU-aaa1"]),
        ("GPU-aab", ["GPU-aab2"]),
        ("GPU-aa", []),
        ("0,7,1", ["GPU-aaa1"]),
        ("", []),
        ("-1", []),
        ("MIG-5", []),
    ],
)
def test_cuda_visible_devices_is_heeded(asked: str | None, seen: list[str]) -> None:
    assert [card.key for card in visible_cards(TWO, asked)] == seen


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def none() -> Iterator[Any]:
        raise NoCards("no driver")
        yield

    monkeypatch.setattr(cards, "open_nvml", none)
    assert find_cards() == ([], "no driver")


def test_nvidia_s_own_library_says_why_there_is_none() -> None:
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        pytest.skip("there is a driver on this machine")
    with pytest.raises(NoCards, match="driver"), open_nvml():
        pass


def test_a_card_without_a_driver_is_seen_on_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "IN_CONTAINER", (tmp_path / "none",))
    for place, (vendor, kind) in {
        "0000:00:02.0": ("0x8086", "0x030000"), "0000:01:00.1": ("0x10de", "0x040300"),
    }.items():  # fmt: skip
        (tmp_path / place).mkdir()
        (tmp_path / place / "vendor").write_text(f"{vendor}\n")
        (tmp_path / place / "class").write_text(f"{kind}\n")
    assert not is_on_bus(tmp_path), "another maker's card, and NVIDIA's sound"

    (tmp_path / "0000:01:00.1" / "class").write_text("0x030200\n")
    assert is_on_bus(tmp_path)
    monkeypatch.setattr(cards, "IN_CONTAINER", (tmp_path,))
    assert not is_on_bus(tmp_path)
