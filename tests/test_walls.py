"""The walls between the rooms hold, and the window's start stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.allowed_imports import AllowedImportsContract

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "llama_cpp")


def _fresh(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return ended.stdout.strip()


def test_the_import_contracts_hold() -> None:
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout


def test_a_new_module_stands_inside_the_walls_without_a_line_being_added() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("studio.jobs", "os"), ("studio.new.part", "workers.protocol.wire")):
        graph.add_import(importer=importer, imported=imported)
    wall = AllowedImportsContract(
        "wall", {}, {"packages": ["studio"], "allowed": ["workers.protocol"]}
    )
    assert wall.check(graph, verbose=False).kept
    graph.add_import(importer="studio.new.part", imported="workers.new")
    found = wall.check(graph, verbose=False)
    assert not found.kept
    assert found.metadata["illegal"] == [("studio.new.part", "workers.new")]


def test_style_and_format_hold() -> None:
    for arguments in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout


def test_the_window_loads_nothing_heavy() -> None:
    loaded = _fresh(f"import sys, studio.app; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_the_headless_twin_loads_no_toolkit() -> None:
    toolkits = (*HEAVY, "PySide6", "pyqtgraph")
    loaded = _fresh(f"import sys, studio.cli; print([m for m in {toolkits} if m in sys.modules])")
    assert loaded == "[]"


def test_the_worker_loads_nothing_heavy_before_it_knows_its_job() -> None:
    loaded = _fresh(
        f"import sys, workers.__main__; print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_importing_does_nothing(tmp_path: Path) -> None:
    code = (
        "import os; os.environ['FINETUNE_STUDIO_HOME'] = " + repr(str(tmp_path / "h")) + "\n"
        "import studio.app, studio.cli, workers.__main__, threading\n"
        "print(threading.active_count())"
    )
    assert _fresh(code) == "1"
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "workers/protocol").rglob("*.py")), ids=str)
def test_the_protocol_imports_msgspec_and_the_standard_library_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            own = name.startswith("workers.protocol")
            assert own or top == "msgspec" or top in sys.stdlib_module_names, (path, name)


def test_packaging_never_becomes_a_package() -> None:
    assert not (ROOT / "packaging" / "__init__.py").exists()


def test_no_thread_is_started_in_the_studio() -> None:
    for path in (ROOT / "studio").rglob("*.py"):
        text = path.read_text()
        assert "threading" not in text, path
        assert "QThread" not in text, path
