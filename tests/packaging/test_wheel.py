"""The wheel that pip builds carries the assets; installed elsewhere, the studio finds them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")  # one process builds it

ROOT = Path(__file__).parents[2]
LOOK = """
from pathlib import Path
import studio, workers
from workers.fetch import locate_model
from workers.protocol.assets import assets_folder, builtin_datasets
from workers.protocol.catalogue import read_catalogue
from workers.protocol.pipeline import read_pipeline
from workers.rewards.sandbox import CHILD
here = Path(studio.__file__).parents[1]
assert here == Path(workers.__file__).parents[1]
assert assets_folder().is_relative_to(here), assets_folder()
assert locate_model("starter", here, print).folder.is_relative_to(here)
assert len(builtin_datasets()) == 8
assert read_catalogue().models
assert all(read_pipeline(path) for path in (assets_folder() / "recipes").glob("*.toml"))
assert CHILD.is_file()
print("found in", here)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout and unpacked where pip would put it."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    target = folder / "site-packages"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(target)
    return target


def test_the_assets_are_found_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    command = f"import sys; sys.path.insert(0, {str(installed)!r})\n{LOOK}"
    looked = subprocess.run(
        [sys.executable, "-I", "-c", command], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert str(installed) in looked.stdout


def test_only_what_belongs_is_packed(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"studio", "workers"}
    assert (installed / "workers" / "assets" / "starter" / "model" / "model.safetensors").is_file()
