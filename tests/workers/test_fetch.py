"""Base models found, refused, or fetched from a hub: the real client against a small local one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hub import Hub, client_environment, serving
from workers.fetch import fingerprint, locate_model
from workers.folders import sha256_of
from workers.protocol.refusal import Refusal

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 100,
    "pytorch_model.bin": b"a pickle that must not be fetched",
    "run_me.py": b"raise SystemExit('code from the hub was run')",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving({"models/org/tiny": FILES}) as server:
        yield server


def _fetch(base: str, endpoint: str, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Locates a base in a process of its own, since the hub's client reads its endpoint once."""
    code = (
        "import sys, json, pathlib\n"
        "from workers.fetch import locate_model\n"
        "from workers.protocol.refusal import Refusal\n"
        "try:\n"
        "    found = locate_model(sys.argv[1], pathlib.Path(sys.argv[2]), lambda text: None)\n"
        "    print(json.dumps({'folder': str(found.folder)}))\n"
        "except Refusal as r:\n"
        "    print(json.dumps({'what': r.what, 'cause': r.cause, 'remedy': r.remedy}))\n"
    )
    environment = client_environment(endpoint, tmp_path / "hf")
    ended = subprocess.run(
        [sys.executable, "-c", code, base, str(tmp_path)], capture_output=True, text=True,
        env=environment, timeout=120, check=True,
    )  # fmt: skip
    return ended.stderr, json.loads(ended.stdout)


def test_a_hub_model_is_fetched_without_its_code_and_pickles(hub: Hub, tmp_path: Path) -> None:
    endpoint = hub.endpoint
    _, told = _fetch("org/tiny", endpoint, tmp_path)
    folder = Path(told["folder"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    asked = "\n".join(hub.asked)
    assert "run_me.py" not in asked
    assert ".bin" not in asked


def test_weights_that_lie_there_twice_are_fetched_once(tmp_path: Path) -> None:
    twice = FILES | {"consolidated.safetensors": b"weights" * 100}
    with serving({"models/org/twice": twice}) as hub:
        _, told = _fetch("org/twice", hub.endpoint, tmp_path)
        assert not any("consolidated" in path for path in hub.asked)
    assert (Path(told["folder"]) / "model.safetensors").is_file()


def test_a_fetched_model_is_found_again_offline(hub: Hub, tmp_path: Path) -> None:
    _fetch("org/tiny", hub.endpoint, tmp_path)
    _, told = _fetch("org/tiny", "http://127.0.0.1:9", tmp_path)
    assert "folder" in told, told


@pytest.mark.parametrize(
    ("base", "word", "remedy"),
    [("org/none", "no model called org/none", "Check the id"),
     ("gated/llama", "asks for consent", "Accept the licence")],
)  # fmt: skip
def test_what_the_hub_refuses_is_told(
    hub: Hub, tmp_path: Path, base: str, word: str, remedy: str
) -> None:
    _, told = _fetch(base, hub.endpoint, tmp_path)
    assert word in told["what"]
    assert remedy in told["remedy"]


def test_a_hub_out_of_reach_is_told(tmp_path: Path) -> None:
    _, told = _fetch("org/tiny", "http://127.0.0.1:9", tmp_path)
    assert "could not be fetched" in told["what"]
    assert "smollm2" in told["remedy"]


def test_a_folder_needs_a_configuration_and_safetensors(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"holds? no config|not a model folder"):
        locate_model(str(tmp_path), tmp_path, print)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Refusal, match=r"no \.safetensors") as caught:
        locate_model(str(tmp_path), tmp_path, print)
    assert "pickles" in caught.value.cause
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert locate_model(str(tmp_path), tmp_path, print).folder == tmp_path


QUANTIZED = {
    "config.json": b'{"model_type": "qwen3", "quantization_config": {"quant_method": "awq"}}',
    "README.md": b"---\nbase_model: org/whole\n---\n",
    "model.safetensors": b"gigabytes",
}


def test_quantized_weights_are_refused_before_they_are_fetched(tmp_path: Path) -> None:
    with serving({"models/org/small-AWQ": QUANTIZED, "models/org/x-GGUF": {"x.gguf": b"x"}}) as hub:
        _, told = _fetch("org/small-AWQ", hub.endpoint, tmp_path)
        assert "already quantized (AWQ)" in told["what"]
        assert "model.base = 'org/whole'" in told["remedy"]
        assert not any("safetensors" in path for path in hub.asked)
        _, told = _fetch("org/x-GGUF", hub.endpoint, tmp_path)
    assert "holds no config.json" in told["cause"]
    assert "perhaps org/x." in told["remedy"]


def test_the_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    one = fingerprint(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"y")
    two = fingerprint(tmp_path)
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert len({one, two, fingerprint(tmp_path)}) == 3


def test_weights_that_did_not_change_are_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"weights")
    os.utime(weights, (1, 1))
    first = fingerprint(folder, home)
    assert first == fingerprint(folder)

    read: list[Path] = []
    monkeypatch.setattr(
        "workers.folders.sha256_of", lambda path: read.append(path) or sha256_of(path)
    )
    assert fingerprint(folder, home) == first
    assert read == []
    weights.write_bytes(b"changed")
    os.utime(weights, (2, 2))
    assert fingerprint(folder, home) == fingerprint(folder) != first
    assert read == [weights]
    (home / "models" / "hashes.json").write_text("{")
    assert fingerprint(folder, home) == fingerprint(folder)
