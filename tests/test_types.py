"""Types hold: pyright, set up in pyproject.toml, finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_types_hold() -> None:
    """Checked against this interpreter's libraries; pyright and its node come from wheels."""
    ended = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},  # asks no registry for its news
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
