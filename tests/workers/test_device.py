"""How much memory there is to take: control groups' limits, as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import psutil

from workers.device import Limit, free_memory, ram_limits, total_memory

GB = 1024**3


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_version_two_heeds_every_group_above_it(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    stat = f"anon 5\ninactive_file {GB}\n"
    group(root / "user" / "job", {
        "memory.max": "max\n", "memory.current": f"{2 * GB}\n", "memory.stat": stat,
    })  # fmt: skip
    group(root / "user", {
        "memory.max": f"{8 * GB}\n", "memory.current": f"{3 * GB}\n", "memory.stat": stat,
    })  # fmt: skip

    assert ram_limits(own(tmp_path, "0::/user/job\n"), root) == [Limit(8 * GB, 2 * GB)]


def test_version_one_has_other_files(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "memory" / "box", {
        "memory.limit_in_bytes": f"{4 * GB}\n", "memory.usage_in_bytes": f"{3 * GB}\n",
        "memory.stat": f"cache 7\ntotal_inactive_file {GB}\n",
    })  # fmt: skip
    lines = "5:devices:/box\n4:cpuacct,memory:/box\n9:name=systemd:/\n"

    assert ram_limits(own(tmp_path, lines), root) == [Limit(4 * GB, 2 * GB)]


def test_a_container_that_does_not_see_its_own_group_has_the_root_s(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root, {"memory.max": f"{GB}", "memory.current": "10", "memory.stat": ""})

    assert ram_limits(own(tmp_path, "0::/docker/abc\n"), root) == [Limit(GB, 10)]


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert ram_limits(tmp_path / "missing", tmp_path) == []


def test_this_machine_has_memory_and_some_of_it_is_free() -> None:
    free, total = free_memory("cpu"), total_memory("cpu")

    assert 0 < free < total <= psutil.virtual_memory().total
