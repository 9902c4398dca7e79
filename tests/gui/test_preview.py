"""The first rows of what was added in the wizard, as a worker reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication

from studio.app import Studio
from studio.pages.train.preview import Preview
from studio.paths import Home
from tests.conftest import end_all
from tests.gui.conftest import Driver, close


def _step(driver: Driver) -> Any:
    """The wizard's data step, shown."""
    driver.go("Train")
    train = driver.window.train
    train.go_to(train.data)
    return train.data


def _read(driver: Driver, path: Path | str) -> Preview:
    data = _step(driver)
    data.add(str(path))
    driver.wait(data.preview.rows.isVisible, 60_000)
    return data.preview


def _rows(count: int = 9) -> list[dict[str, str]]:
    return [{"prompt": f"Ask {n}", "completion": f"Say {n}"} for n in range(count)]


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_first_rows_come_without_halting_the_window(driver: Driver, tmp_path: Path) -> None:
    data = _step(driver)
    data.add(str(_write(tmp_path / "rows.jsonl", _rows())))
    assert data.preview.isVisible()
    assert data.preview.state.text().endswith("rows.jsonl: Reading…")
    assert not data.preview.rows.isVisible()
    driver.wait(data.preview.rows.isVisible)
    assert "prompt completion. It has a prompt." in data.preview.state.text()
    assert data.preview.rows.text() == "Ask 0\n→ Say 0\n\nAsk 1\n→ Say 1\n\nAsk 2\n→ Say 2"
    driver.wait(lambda: not driver.studio.store.jobs("browse"))  # read, and gone


def test_a_file_that_cannot_be_read_says_why(driver: Driver, tmp_path: Path) -> None:
    data = _step(driver)
    data.add(str(tmp_path / "gone.csv"))
    driver.wait(lambda: "It is gone." in data.preview.state.text())
    assert "Name it otherwise." in data.preview.state.text()
    assert data.preview.state.property("role") == "fault"
    assert not data.preview.rows.isVisible()
    driver.wait(lambda: not driver.studio.store.jobs("browse"))
    data.add(str(_write(tmp_path / "rows.jsonl", _rows())))
    driver.wait(data.preview.rows.isVisible)
    assert data.preview.state.property("role") == "muted"


def test_rows_of_no_known_shape_are_shown_with_what_is_missing(
    driver: Driver, tmp_path: Path
) -> None:
    path = _write(tmp_path / "odd.jsonl", [{"q": "Ask", "a": "Say"}, {"q": "x" * 999, "a": ""}])
    preview = _read(driver, path)
    assert "unknown shape. No column is a prompt." in preview.state.text()
    assert preview.state.property("role") == "fault"


def test_the_dataset_that_was_added_last_is_shown(driver: Driver, tmp_path: Path) -> None:
    one = _write(tmp_path / "one.jsonl", _rows())
    two = _write(tmp_path / "two.jsonl", [{"prompt": "Other", "completion": "Rows"}])
    preview = _read(driver, one)
    data = driver.window.train.data
    data.add(str(two))
    driver.wait(lambda: "Other" in preview.rows.text() and preview.rows.isVisible())
    data.lines[1].weight.setText("3")
    assert preview.rows.isVisible()
    driver.click(f"remove:{two}")
    driver.wait(lambda: "Ask 0" in preview.rows.text() and preview.rows.isVisible())
    driver.click(f"remove:{one}")
    assert not preview.isVisible()


def test_nothing_is_read_before_it_is_to_be_seen_or_from_the_hub(
    driver: Driver, tmp_path: Path
) -> None:
    data = driver.window.train.data
    data.add(str(_write(tmp_path / "rows.jsonl", _rows())))
    QApplication.processEvents()
    assert not driver.studio.store.jobs("browse")
    _step(driver)
    driver.wait(data.preview.rows.isVisible)
    data.add("org/name:train")
    driver.wait(lambda: not driver.studio.store.jobs("browse"))
    assert "It is on the hub" in data.preview.state.text()


# With the real worker


@pytest.fixture
def real(qtbot: Any, qapp: QApplication, home: Home) -> Iterator[Driver]:
    """A window whose workers are the real ones."""
    opened = Studio(qapp, home)
    opened.window.show()
    yield Driver(qtbot, opened)
    close(opened)
    end_all(home)


def _array(path: Path) -> None:
    rows = [{"instruction": f"Ask {n}", "output": f"Say {n}"} for n in range(999)]
    path.write_text(json.dumps(rows, indent=4))
    assert path.stat().st_size > 64 * 1024


def _csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "completion"), ("Ask 0", "Say 0")])


def _parquet(path: Path) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(_rows()), path)


def _lines(row: dict[str, Any]) -> Any:
    return lambda path: _write(path, [row] * 3)


FILES = {
    "alpaca.json": (_array, "alpaca"),
    "rows.csv": (_csv, "prompt completion"),
    "rows.parquet": (_parquet, "prompt completion"),
    "gsm8k.jsonl": (
        _lines({"question": "Ask 0", "answer": "Say 0\n#### 0"}), "prompt",
    ),
    "sharegpt.jsonl": (
        _lines({"conversations": [{"from": "human", "value": "Ask 0"},
                                  {"from": "gpt", "value": "Say 0"}]}), "chat",
    ),
    "hh-rlhf.jsonl": (
        _lines({"chosen": "\n\nHuman: Ask 0\n\nAssistant: Say 0",
                "rejected": "\n\nHuman: Ask 0\n\nAssistant: No"}), "preference",
    ),
    "math.jsonl": (_lines({"problem": "Ask 0", "solution": "Say 0"}), "prompt"),
}  # fmt: skip


def test_every_format_and_shape_is_shown_as_the_run_will_read_it(
    real: Driver, tmp_path: Path
) -> None:
    preview = real.window.train.data.preview
    for name, (write, shape) in FILES.items():
        write(tmp_path / name)
        _read(real, tmp_path / name)
        assert f"{name}: {shape}" in preview.state.text()
        assert "Ask 0" in preview.rows.text(), name
        assert "Say 0" in preview.rows.text(), name
    real.window.train.data.add(str(tmp_path / "none.csv"))
    real.wait(lambda: preview.state.property("role") == "fault", 60_000)
    assert str(tmp_path / "none.csv") in preview.state.text()


def test_the_review_says_what_share_of_the_rows_is_seen(driver: Driver, tmp_path: Path) -> None:
    data = _step(driver)
    data.add(str(_write(tmp_path / "rows.jsonl", _rows(4000))))
    train = driver.window.train
    train.go_to(train.review)
    words = train.review._words
    driver.wait(lambda: "rows to learn from" in words.text())
    assert "It sees 960 of 3,936 rows to learn from (24%, 0.24 epochs)" in words.text()
    driver.wait(lambda: not driver.studio.store.jobs("browse"))  # counted, and gone
