"""A checkpoint without its manifest does not exist."""

from __future__ import annotations

import json
from pathlib import Path

from workers.folders import size_of, write_folder
from workers.train.checkpoints import STATE, last_whole, read_as_trainer_state, seal


def _make(root: Path, step: int, *, sealed: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"x" * step)
    if sealed:
        seal(folder, step)
    return folder


def test_the_newest_whole_one_is_found_by_step_not_by_name(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        _make(tmp_path, step)
    assert last_whole(tmp_path) == (tmp_path / "checkpoint-100", 100)


def test_broken_ones_are_removed(tmp_path: Path) -> None:
    whole = _make(tmp_path, 5)
    unsealed = _make(tmp_path, 10, sealed=False)
    cut = _make(tmp_path, 15)
    (cut / "optimizer.pt").write_bytes(b"x")
    gone = _make(tmp_path, 20)
    (gone / "optimizer.pt").unlink()
    assert last_whole(tmp_path) == (whole, 5)
    assert not any(folder.exists() for folder in (unsealed, cut, gone))


def test_the_state_that_trls_ppo_kept_becomes_the_trainers(tmp_path: Path) -> None:
    folder = _make(tmp_path, 7, sealed=False)
    kept = {"episode": 28, "global_step": 7, "max_steps": 9, "train_batch_size": None}
    (folder / STATE).write_text(json.dumps(kept, indent=2))
    seal(folder, 7)
    read_as_trainer_state(folder, 4)
    read = {"global_step": 7, "max_steps": 9, "train_batch_size": 4}
    assert json.loads((folder / STATE).read_text()) == read
    assert last_whole(tmp_path) == (folder, 7), "its manifest still holds"
    read_as_trainer_state(folder, 8)
    assert json.loads((folder / STATE).read_text()) == read, "the Trainer's own state stays"


def test_none_is_none(tmp_path: Path) -> None:
    assert last_whole(tmp_path) is None
    assert last_whole(tmp_path / "none") is None


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    write_folder(target, lambda to: (to / "a").write_bytes(b"12"))
    write_folder(target, lambda to: (to / "b").write_bytes(b"123"))
    assert [path.name for path in target.iterdir()] == ["b"]
    assert size_of(target) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
