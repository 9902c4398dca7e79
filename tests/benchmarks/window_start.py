"""How long until the window is painted, over a bare window of Qt with one pyqtgraph plot.

    python tests/benchmarks/window_start.py [ROUNDS]

Both are whole processes from launch to the first painted frame, offscreen, alternating.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

BARE = """
from PySide6.QtWidgets import QApplication, QMainWindow
import pyqtgraph
app = QApplication([])
window = QMainWindow()
window.setCentralWidget(pyqtgraph.PlotWidget())
window.resize(1280, 800)
window.show()
app.processEvents()
window.grab()
"""
OURS = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from studio.app import Studio
from studio.paths import Home
app = QApplication([])
studio = Studio(app, Home(Path(sys.argv[1])))
studio.window.show()
app.processEvents()
studio.window.grab()
studio.close()
"""


def seconds(code: str, home: str) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # from a user's second start on it is there
    subprocess.run([sys.executable, "-c", code, home], check=True, env=environment)
    return time.perf_counter() - began


def main(rounds: int) -> None:
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds + 1):  # the first round compiles, and warms the disk's cache
            bare.append(seconds(BARE, home))
            ours.append(seconds(OURS, home))
    best = {"bare_seconds": min(bare[1:]), "ours_seconds": min(ours[1:])}
    print(json.dumps({"ratio": best["ours_seconds"] / best["bare_seconds"], **best}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
