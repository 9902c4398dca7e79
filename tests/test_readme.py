"""The README tells the truth about what is declared, and about the tree."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from workers.protocol.exports import EXPORTS
from workers.protocol.metrics import METRICS
from workers.protocol.options import options_of
from workers.protocol.recipe import sections
from workers.protocol.rewards import KINDS
from workers.protocol.stages import STAGES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_tables_are_written_from_the_declarations() -> None:
    """If this fails: python packaging/readme.py"""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "packaging" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    assert {place[2] for place in written.PLACE.finditer(README)} == set(written.TABLES)
    assert written.with_tables(README) == README


def test_rows_of_tables_have_as_many_cells_as_their_heads() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_all_that_is_declared_stands_in_a_table() -> None:
    options = [
        option.path
        for path, section in sections().items()
        for option in options_of(section, f"{path}." if path else "")
    ]
    for name in (*options, *KINDS, *STAGES, *METRICS, *EXPORTS):
        assert f"\n| `{name}`" in README, name
