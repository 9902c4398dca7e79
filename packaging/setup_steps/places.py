"""Where the set-up finds and leaves things; all that it makes lies in .venv."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMPS = VENV / ".bootstrap"
LOG = VENV / "bootstrap.log"
LOCK = VENV / ".bootstrap.lock"
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
OVERLAYS = VENV / "overlays"
CONVERTER = VENV / "share" / "finetune-studio" / "llama.cpp"
DRIVER_SEEN = STAMPS / "driver"
APT_FAILED = STAMPS / "apt-failed"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
GB = 10**9
