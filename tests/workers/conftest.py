"""Datasets opened in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.audited import Rows
from tests.workers.opened import Look, Open, lines
from workers.data.audit.audit import Audit, Audited
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Source, Stage


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    looks: list[Look] = []

    def make(rows: Any, name: str = "d.jsonl", **more: Any) -> Look:
        source = rows
        if not isinstance(rows, str):
            path = tmp_path / name
            data = rows if isinstance(rows, bytes) else lines(rows)
            path.write_bytes(data)
            source = str(path)
        looks.append(Look(tmp_path / f"job{len(looks)}", Source(source=source, **more)))
        return looks[-1]

    yield make
    for look in looks:
        look.close()


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets_folder() / "starter" / "model")


@pytest.fixture
def audit(tokenizer: Any) -> Callable[..., Audited]:
    def run(rows: Rows, stage: Stage = "sft", max_length: int = 1024, **more: Any) -> Audited:
        return Audit(rows, more.pop("tokenizer", tokenizer), stage, max_length, **more).run()

    return run
