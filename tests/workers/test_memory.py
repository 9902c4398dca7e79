"""How many completions fit at once, and half of them where the memory runs out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workers import memory
from workers.estimate import known_config
from workers.memory import at_once, cache_bytes, halving, in_parts

GIB = 2**30


def config_of(model: str) -> Any:
    found = known_config(model)
    assert found is not None
    return SimpleNamespace(**found)


@pytest.mark.parametrize(
    ("model", "kept"), [("Qwen/Qwen3-0.6B", 114_688), ("Qwen/Qwen3-4B", 147_456)]
)
def test_the_cache_of_a_token_is_as_published(model: str, kept: int) -> None:
    """Keys and values: 2 x layers x heads of keys x width of a head x 2 bytes."""
    assert cache_bytes(config_of(model), 2) == kept


@pytest.mark.parametrize(
    ("model", "free", "longest", "fits"),
    [
        ("Qwen/Qwen3-0.6B", 6.5, 256, 30),  # 64 at once would take 11 GB: more than an 8 GB card
        ("Qwen/Qwen3-4B", 3, 2048, 4),
        ("Qwen/Qwen3-4B", 0.1, 2048, 1),
        ("Qwen/Qwen3-0.6B", 80, 256, 64),
    ],
)
def test_as_many_are_sampled_at_once_as_the_free_memory_holds(
    monkeypatch: pytest.MonkeyPatch, model: str, free: float, longest: int, fits: int
) -> None:
    config = config_of(model)
    config.get_text_config = lambda: config
    there = SimpleNamespace(config=config, dtype=SimpleNamespace(itemsize=2))
    monkeypatch.setattr(memory, "free_memory", lambda device: int(free * GIB))
    assert at_once(there, "cuda", 1024, longest, 64) == fits


def test_a_model_that_says_nothing_of_its_attention_is_asked_for_all() -> None:
    config = SimpleNamespace(vocab_size=9)
    config.get_text_config = lambda: config
    there = SimpleNamespace(config=config, dtype=SimpleNamespace(itemsize=2))
    assert at_once(there, "cpu", 10, 10, 64) == 64


def _fits(most: int) -> Any:
    def work(size: int) -> int:
        if size > most:
            raise RuntimeError("CUDA error: out of memory")
        return size

    return work


def test_half_as_many_are_tried_until_they_fit() -> None:
    assert halving(_fits(3), 16) == (2, 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        halving(_fits(0), 16)
    with pytest.raises(RuntimeError, match="out of memory"):
        halving(_fits(1), 16, least=2)


def test_another_fault_is_not_tried_again() -> None:
    tried: list[int] = []

    def work(size: int) -> None:
        tried.append(size)
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        halving(work, 16)
    assert tried == [16]


def test_all_is_done_in_order_and_the_smaller_size_is_kept() -> None:
    sizes: list[int] = []

    def work(begin: int, end: int) -> range:
        sizes.append(end - begin)
        if end - begin > 3:
            raise MemoryError
        return range(begin, end)

    assert in_parts(work, 10, 8) == (list(range(10)), 2)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert in_parts(work, 0, 8) == ([], 8)
