"""What foreign chat templates train, held to the row's own words: see tests/template_table.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.templates import template_paths
from tests.template_table import KINDS, PAGE, cells_of, page, table

SOME = {
    "trl:qwen3": "",
    "trl:qwen3_5_think": "",
    "trl:gemma4": "",
    "trl:gptoss": "",
    "trl:deepseek_r1_distill": "tools pair",
    "trl:nemotron_3_nano": "",
    "trl:phi3_5": "tools",
    "trl:gemma": "tools",
    "trl:glm4moe": "",
    "trl:lfm2_2_5": "",
    "trl:llama3_2": "",
    "trl:idefics3": "tools",
}
"""One of each sort, and which kinds of row are not exact: those that the template cannot write, or
tells of."""
EXACT = 0.95
"""Share of cells, those of `beside` apart."""


@pytest.mark.parametrize("name", SOME)
def test_answers_are_trained_word_for_word_behind_the_prompt_of_inference(name: str) -> None:
    found = cells_of(name, template_paths(Path())[name].read_text())
    known = SOME[name].split()
    assert {kind: found[kind] for kind in KINDS if found[kind].verdict != "exact"}.keys() == {
        *known
    }
    assert all(found[kind].verdict in ("told", "refused") for kind in known)


@pytest.mark.slow
def test_no_template_is_trained_wrong_in_silence(llama_models: Path) -> None:
    found = table(llama_models, [])
    cells = {(name, kind): cell for name, kinds in found.items() for kind, cell in kinds.items()}
    assert {at: cell for at, cell in cells.items() if cell.verdict in ("wrong", "raw")} == {}
    assert all(cell.differences for cell in cells.values() if cell.verdict == "told")
    asked = [cell for (_, kind), cell in cells.items() if kind != "beside"]
    assert sum(cell.trains_exactly for cell in asked) >= EXACT * len(asked)
    assert page(found) == PAGE.read_text()
