"""Datasets fetched from a hub: the real client against a small local one, and what is chosen."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.fakes.hub import COMMIT, Hub, client_environment, serving
from workers.data.read.hub import Wanted, choose, parse
from workers.protocol.refusal import Refusal


def _parquet(*prompts: str) -> bytes:
    into = io.BytesIO()
    rows = [{"prompt": prompt, "completion": "yes"} for prompt in prompts]
    parquet.write_table(pa.Table.from_pylist(rows), into)
    return into.getvalue()


SETS: dict[str, dict[str, bytes]] = {
    "org/sharded": {
        "README.md": b"# Plain words, no header",
        "data/train-00000-of-00002.parquet": _parquet("a", "b"),
        "data/train-00001-of-00002.parquet": _parquet("c"),
        "data/test-00000-of-00001.parquet": _parquet("t"),
        "train.jsonl": b'{"prompt": "the same again", "completion": "yes"}\n',
        "loader.py": b"raise SystemExit('code from the hub was run')",
        "train.pkl": b"a pickle that must not be fetched",
    },
    "org/script": {"script.py": b"raise SystemExit('code from the hub was run')"},
    "unsloth/OpenMathReasoning-mini": {"data/cot-00000-of-00001.parquet": _parquet("a")},
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving({f"datasets/{name}": files for name, files in SETS.items()}) as server:
        yield server


def _read(source: str, endpoint: str, tmp_path: Path) -> dict[str, Any]:
    """Reads a dataset in a process of its own, since the hub's client reads its endpoint once."""
    code = (
        "import sys, json\n"
        "from workers.data.reader import read_table\n"
        "from workers.protocol.refusal import Refusal\n"
        "told = []\n"
        "try:\n"
        "    table = read_table(sys.argv[1], say=told.append)\n"
        "    print(json.dumps({'prompts': [r.prompt[0]['content'] for r in table.rows],\n"
        "                      'path': table.path, 'why': table.detected.why, 'told': told}))\n"
        "except Refusal as r:\n"
        "    print(json.dumps({'what': r.what, 'cause': r.cause, 'remedy': r.remedy}))\n"
    )
    environment = client_environment(endpoint, tmp_path / "hf")
    ended = subprocess.run(
        [sys.executable, "-c", code, source], capture_output=True, text=True, env=environment,
        timeout=120, check=True,
    )  # fmt: skip
    return json.loads(ended.stdout)


@pytest.fixture
def endpoint(hub: Hub) -> str:
    return hub.endpoint


def test_the_split_s_files_alone_are_fetched_and_never_code(
    hub: Hub, endpoint: str, tmp_path: Path
) -> None:
    found = _read("org/sharded", endpoint, tmp_path)
    assert found["prompts"] == ["a", "b", "c"]
    assert COMMIT in found["path"]
    assert found["told"] == ["Fetching the dataset org/sharded from the hub"]
    asked = "\n".join(hub.asked)
    for never in ("loader.py", ".pkl", "test-00000", "train.jsonl"):
        assert never not in asked
    assert _read("org/sharded:test", endpoint, tmp_path)["prompts"] == ["t"]


def test_what_was_fetched_is_read_again_offline_but_never_in_part(
    endpoint: str, tmp_path: Path
) -> None:
    _read("org/sharded", endpoint, tmp_path)
    assert _read("org/sharded", "http://127.0.0.1:9", tmp_path)["prompts"] == ["a", "b", "c"]
    missing = _read("org/sharded:test", "http://127.0.0.1:9", tmp_path)
    assert "could not be fetched" in missing["what"]


def test_a_download_that_broke_off_is_not_read_in_part(endpoint: str, tmp_path: Path) -> None:
    _read("org/sharded", endpoint, tmp_path)
    (shard,) = tmp_path.rglob("snapshots/*/data/train-00001-of-00002.parquet")
    shard.unlink()
    assert "could not be fetched" in _read("org/sharded", "http://127.0.0.1:9", tmp_path)["what"]


def test_offline_a_snapshot_without_its_listing_is_not_read(endpoint: str, tmp_path: Path) -> None:
    _read("org/sharded", endpoint, tmp_path)
    for listings in list(tmp_path.rglob("trees")):
        shutil.rmtree(listings)
    assert "could not be fetched" in _read("org/sharded", "http://127.0.0.1:9", tmp_path)["what"]
    assert _read("org/sharded", endpoint, tmp_path)["prompts"] == ["a", "b", "c"]


def test_the_catalogue_s_split_is_the_default(endpoint: str, tmp_path: Path) -> None:
    """Its mapping would be too, but does not fit what this small hub holds."""
    found = _read("unsloth/OpenMathReasoning-mini", endpoint, tmp_path)
    assert found["prompts"] == ["a"]
    assert "prompt is the prompt" in found["why"]


@pytest.mark.parametrize(
    ("source", "what", "remedy"),
    [
        ("org/none", "the hub has no dataset called so", "Check the name"),
        ("gated/set", "asks for consent", "Accept the licence"),
        ("org/script", "comes as a script", "Parquet"),
        ("org/sharded:trian", "no split called trian", "org/sharded:test"),
        ("org/sharded:de:train", "no configuration called de", "org/name:config:split"),
    ],
)
def test_what_the_hub_does_not_give_is_told(
    endpoint: str, tmp_path: Path, source: str, what: str, remedy: str
) -> None:
    told = _read(source, endpoint, tmp_path)
    assert what in told["what"]
    assert remedy in told["remedy"]


def test_a_hub_out_of_reach_is_told(tmp_path: Path) -> None:
    told = _read("org/sharded", "http://127.0.0.1:9", tmp_path)
    assert "could not be fetched" in told["what"]
    assert "no such file here" in told["cause"]


# What is chosen, by names as the sets have them


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("org/name", Wanted("org/name")),
        ("org/name:cot", Wanted("org/name", split="cot")),
        ("org/name:en:train", Wanted("org/name", "en", "train")),
        ("unsloth/OpenMathReasoning-mini", Wanted("unsloth/OpenMathReasoning-mini", split="cot")),
        ("../name", None),
        ("a/b/c", None),
        ("name", None),
    ],
)
def test_names_on_the_hub(source: str, wanted: Wanted | None) -> None:
    assert parse(source) == wanted


SHARDS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
CONFIGS = ["all/train-00000-of-00001.parquet", "cn/train-00000-of-00001.parquet"]


@pytest.mark.parametrize(
    ("wanted", "files", "chosen"),
    [
        (Wanted("o/n"), [*SHARDS, "data/test-00000-of-00001.parquet"], SHARDS),
        (Wanted("o/n"), ["MetaMathQA-395K.json"], ["MetaMathQA-395K.json"]),
        (Wanted("o/n"), ["alpaca_data_cleaned.json", "dataset_infos.json"],
         ["alpaca_data_cleaned.json"]),
        (Wanted("o/n"), ["data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"],
         ["data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"]),
        (Wanted("o/n", split="train_sft"),
         ["data/train_sft-00000-of-00001-abc.parquet", "data/train_gen-00000-of-00001.parquet"],
         ["data/train_sft-00000-of-00001-abc.parquet"]),
        (Wanted("o/n", split="train_1M"),
         [*SHARDS, "data/train_1M-00000-of-00001.parquet"],
         ["data/train_1M-00000-of-00001.parquet"]),
        (Wanted("o/n", split="train"), [*SHARDS, "data/train_1M-00000-of-00001.parquet"], SHARDS),
        (Wanted("o/n"), CONFIGS, CONFIGS[:1]),
        (Wanted("o/n", "cn", "train"), CONFIGS, CONFIGS[1:]),
        (Wanted("o/n", split="test"), ["train.jsonl.gz", "test.jsonl.gz"], ["test.jsonl.gz"]),
        (Wanted("o/n", split="validation"), ["train/a.csv", "validation/a.csv"],
         ["validation/a.csv"]),
        (Wanted("o/n"), ["training.csv", "testing.csv"], ["training.csv"]),
        (Wanted("o/n", split="dev"), ["train.csv", "dev.csv"], ["dev.csv"]),
        (Wanted("o/n"), ["alpaca.json", "eval.json"], ["alpaca.json"]),
        (Wanted("o/n", split="test-v1.1"),
         [f"data/{split}-v1.1-0000{at}-of-00002.parquet" for split in ("train", "test")
          for at in (0, 1)],
         ["data/test-v1.1-00000-of-00002.parquet", "data/test-v1.1-00001-of-00002.parquet"]),
    ],
)  # fmt: skip
def test_files_are_chosen_by_name(wanted: Wanted, files: list[str], chosen: list[str]) -> None:
    assert choose(wanted, files) == chosen


CARD = """---
license: mit
configs:
- config_name: en
  data_files:
  - split: train
    path: english/part-*
  - split: test
    path: english/held.parquet
- config_name: fr
  default: true
  data_files: french/*.parquet
---
# A card
"""
FILES = ["english/part-1.parquet", "english/part-2.parquet", "english/held.parquet",
         "french/x.parquet", "french/deep/y.parquet"]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (Wanted("o/n", "en", "train"), FILES[:2]),
        (Wanted("o/n", "en", "test"), FILES[2:3]),
        (Wanted("o/n"), FILES[3:4]),
    ],
)
def test_a_card_says_which_files_a_split_has(wanted: Wanted, chosen: list[str]) -> None:
    assert choose(wanted, FILES, CARD) == chosen


@pytest.mark.parametrize(
    "pattern",
    ["/etc/*", "/etc/passwd", "../*", "data/../../*", "https://127.0.0.1:9/x.csv", "file:///etc/*",
     "memory://*", "hf://datasets/other/set/x.csv", "data/x.csv::https://127.0.0.1:9/x.zip"],
)  # fmt: skip
def test_a_card_s_pattern_leads_nowhere_else(pattern: str) -> None:
    card = f"---\nconfigs:\n- config_name: default\n  data_files: '{pattern}'\n---\n"
    with pytest.raises(Refusal, match="no file called"):
        choose(Wanted("o/n"), ["train.csv", "data/x.csv"], card)


@pytest.mark.parametrize(
    "head", ["configs: [1]", "configs: {a: b}", "configs:\n- data_files: {a: [1]}",
             "configs:\n- {config_name: a, data_files: [{split: b, path: c}, {split: b, path: d}]}",
             "configs:\n- {config_name: a, data_files: [b.csv, {split: b, path: d}]}",
             "- a", "1: 2",
             "date: 2026-99-99", "[" * 5000],
)  # fmt: skip
def test_a_card_that_cannot_be_read_says_nothing(head: str) -> None:
    assert choose(Wanted("o/n"), ["train.csv", "test.csv"], f"---\n{head}\n---\n") == ["train.csv"]


@pytest.mark.parametrize(
    ("wanted", "files", "card", "what"),
    [
        (Wanted("o/n", "de", "train"), FILES, CARD, "no configuration called de"),
        (Wanted("o/n", "en", "dev"), FILES, CARD, "no split called dev"),
        (Wanted("o/n"), FILES, CARD.replace("  default: true\n", ""), "several configurations"),
        (Wanted("o/n"), ["de/train.csv", "en/train.csv"], "", "several configurations: de, en"),
        (Wanted("o/n"), ["x.zip"], "", "holds no Parquet, JSON or CSV"),
        (Wanted("o/n"), ["data/train_sft.csv", "data/train_gen.csv"], "", "no split called train"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_there_is(
    wanted: Wanted, files: list[str], card: str, what: str
) -> None:
    with pytest.raises(Refusal, match=what) as caught:
        choose(wanted, files, card)
    assert caught.value.cause
