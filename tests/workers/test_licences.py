"""Licences: what they are called, who tells them, and which do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.data.licences import of
from workers.data.read.files import DataFiles, find
from workers.protocol.browse import Version
from workers.protocol.catalogue import read_catalogue
from workers.protocol.licences import DUTIES, KNOWN, clashes, incompatible, known, normal, unsaid
from workers.protocol.recipe import Source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("apache-2.0", "Apache-2.0"), ("MIT", "MIT"), ("cc0-1.0", "CC0-1.0"),
        ("cc-by-sa-4.0", "CC-BY-SA-4.0"), ("CC-BY-NC-ND-4.0", "CC-BY-NC-ND-4.0"),
        ("odc-by", "ODC-By-1.0"), ("odbl", "ODbL-1.0"), ("pddl", "PDDL-1.0"),
        ("agpl-3.0", "AGPL-3.0"), ("GPL-3.0-or-later", "GPL-3.0"),
        ("bigscience-openrail-m", "OpenRAIL"), ("llama3.1", "Llama-3.1"),
        ("Llama 3.2 Community License", "Llama-3.2"), ("unknown", ""), (" ", ""),
        ("cc-by-sa-2.5", "CC-BY-SA-2.5"), ("My own terms", "My own terms"),
        ("mit AND cc-by-4.0 AND mit", "MIT AND CC-BY-4.0"),
    ],
)  # fmt: skip
def test_licences_are_called_as_spdx_calls_them(text: str, name: str) -> None:
    assert normal(text) == name
    assert normal(name) == name


def test_every_known_licence_tells_its_duties_and_their_source() -> None:
    for name, licence in KNOWN.items():
        assert licence.source.startswith("https://"), name
        assert set(licence.duties) <= set(DUTIES)
        assert normal(name) == normal(name.lower()) == name
    assert KNOWN["CC-BY-NC-SA-4.0"].source == (
        "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode"
    )
    assert [one.id for one in known("mit AND odbl")] == ["MIT", "ODbL-1.0"]
    assert known("mit AND terms of my own") == known("") == []


# Mixtures


@pytest.mark.parametrize(
    "free",
    [
        ["Apache-2.0", "MIT", "CC-BY-4.0", "CC0-1.0"],
        ["CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-4.0"],
        ["CC-BY-SA-4.0", "GPL-3.0"],
        ["GPL-3.0", "AGPL-3.0"],
        ["ODbL-1.0", "MIT"],
    ],
)
def test_what_goes_together_is_left_in_peace(free: list[str]) -> None:
    assert clashes([(f"set-{at}", one) for at, one in enumerate(free)]) == []


@pytest.mark.parametrize(
    ("licences", "words"),
    [
        (["CC-BY-SA-4.0", "ODbL-1.0"], ["each ask that what is made of them"]),
        (["CC-BY-SA-3.0", "GPL-3.0"], ["under their own licence alone"]),
        (["CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"], ["under their own licence alone", "no commercial"]),
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], ["be free for every use", "allows no commercial use"]),
        (["CC-BY-NC-SA-4.0", "CC-BY-NC-4.0"], ["allow no commercial use"]),
        (["MIT", "CC-BY-ND-4.0"], ["nothing made of it may be passed on"]),
        (["CC-BY-NC-ND-4.0"], ["nothing made of it", "allows no commercial use"]),
    ],
)
def test_what_does_not_go_together_is_named(licences: list[str], words: list[str]) -> None:
    named = [(f"set-{at}", one) for at, one in enumerate(licences)]
    for mixture in (named, named[::-1], [*named, named[0]]):
        found = incompatible(mixture)
        assert len(found) == len(words)
        for sentence, word in zip(found, words, strict=True):
            assert word in sentence
    assert unsaid(named) == []


def test_what_is_not_known_is_said_and_not_guessed() -> None:
    found = clashes([("a", ""), ("b", "Gemma Terms of Use"), ("c", "MIT"), ("d", "unknown")])
    assert len(found) == 2
    assert "What the licence of b asks is not known here (Gemma Terms of Use)" in found[0]
    assert "The licences of a and d are not known" in found[1]


# Who tells them


def _card(folder: Path, head: str) -> None:
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A set\n")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n')
    return path


def _told(source: str, **more: Any) -> tuple[str, str]:
    return of(Source(source=source, **more), find(source))


def test_nobody_may_tell(rows: Path) -> None:
    assert _told(str(rows)) == ("", "")


def test_the_recipe_comes_before_the_card(rows: Path) -> None:
    _card(rows.parent, "license: cc-by-sa-4.0")
    assert _told(str(rows)) == ("CC-BY-SA-4.0", "the dataset's card")
    assert _told(str(rows.parent)) == ("CC-BY-SA-4.0", "the dataset's card")
    assert _told(str(rows), licence="mit") == ("MIT", "the recipe")


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: [mit, cc-by-4.0]", "MIT AND CC-BY-4.0"),
        ("license: other\nlicense_name: house-rules", "house-rules"),
        ("license: [bsd-2-clause, gpl-2.0-or-later]", "BSD-2-Clause AND GPL-2.0-or-later"),
        ("license: other\nlicense_name: mit or eupl-1.2", "MIT OR EUPL-1.2"),
        ("license: gpl-3.0-or-later", "GPL-3.0"),
        ("license: unknown", ""),
        ("title: none of it", ""),
        ("license: 4.0", ""),
        ("license: !!python/object/apply:os.system ['true']", ""),
        ("license: [mit", ""),
        ("made: 2020-13-45\nlicense: mit", ""),
        ("- a list", ""),
    ],
)
def test_a_card_is_read_safely(rows: Path, head: str, licence: str) -> None:
    _card(rows.parent, head)
    assert _told(str(rows))[0] == licence


def test_a_version_has_the_licence_of_what_it_was_made_of(rows: Path) -> None:
    version = Version(
        source="org/name", source_sha256="", path=str(rows), sha256="", rows=1, changed=1,
        dropped=0, tagged=0, created="2026-01-01T00:00:00+00:00", licence="odc-by",
    )  # fmt: skip
    rows.with_suffix(".json").write_bytes(msgspec.json.encode(version))
    assert _told(str(rows)) == ("ODC-By-1.0", "the dataset that it is a version of")
    rows.with_suffix(".json").write_text('[{"text": "other rows"}]')
    assert _told(str(rows)) == ("", "")


def test_the_catalogue_tells_of_sets_on_the_hub(tmp_path: Path) -> None:
    source = Source(source="unsloth/OpenMathReasoning-mini:cot")
    found = DataFiles(source.source, tmp_path, ())
    assert of(source, found) == ("CC-BY-4.0", "the catalogue")


def test_the_built_in_sets_are_under_the_programs_own_licence() -> None:
    for entry in read_catalogue().builtin:
        assert _told(f"builtin:{entry.name}") == ("Apache-2.0", "the program")
    words = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "## Licence Apache-2.0, the starter model and the built-in sets included" in words
    assert "Version 2.0" in (ROOT / "LICENSE").read_text("utf-8")[:200]
