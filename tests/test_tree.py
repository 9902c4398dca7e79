"""README's tree: every name on every line is a file or folder of this checkout, at that place."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MADE = {"__pycache__", "build", "dist", ".venv"}
"""Folders that are no part of the sources."""
FILE = re.compile(r"[\w.-]+(?:\.(?:py|md|toml|txt)|/)(?![\w/])")
"""What reads as a name in the words of a line."""


class Line(NamedTuple):
    folder: PurePosixPath
    """That it stands under."""
    names: list[str]
    mentioned: list[str]
    """Names in its words, anywhere below its folder."""


def tracked() -> set[str]:
    """Files of this checkout, as git knows them; in a source distribution, all that were packed."""
    if (ROOT / ".git").exists():
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        ended = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
        return set(ended.stdout.splitlines())
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if not MADE & set(path.parts)}


def read_tree(text: str) -> list[Line]:
    """The lines of a tree: names, then their words after two spaces or more; deeper by two."""
    folders: list[str] = []
    lines: list[Line] = []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        named, _, words = line.strip().partition("  ")
        folders = folders[:depth]
        lines.append(Line(PurePosixPath(*folders), named.split(), FILE.findall(words)))
        folders.append(named.split()[0])
    return lines


def missing(lines: list[Line], files: set[str]) -> list[str]:
    """The names that stand for no file and no folder at their place."""
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    found: list[str] = []
    for line in lines:
        for name in (*line.names, *line.mentioned):
            path = str(line.folder / name)
            inside = line.folder / line.names[0] / name
            known = folders if name.endswith("/") else files
            places = [path, str(inside)] if name in line.mentioned else [path]
            if not any(place in known for place in places):
                found.append(path)
    return found


TREE = read_tree(README.partition("## The tree\n\n```\n")[2].partition("\n```")[0])


def test_every_name_in_the_tree_stands_where_it_says() -> None:
    assert len(TREE) > 50
    assert missing(TREE, tracked()) == []


def test_every_folder_of_the_checkout_is_in_the_tree() -> None:
    top = {file.partition("/")[0] for file in tracked() if "/" in file}
    named = {line.names[0].rstrip("/") for line in TREE if line.folder == PurePosixPath()}
    assert {folder for folder in top if not folder.startswith(".")} <= named


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a/\n  b.py   first\n  c.py d.py", ["a/d.py"]),
        ("a/   has e/\n  c.py", ["e"]),
        ("a/\n  b.py   as other.py does", ["a/other.py"]),
        ("a/\n  b.py\nc.py", ["c.py"]),
        ("a/\n  c/", ["a/c"]),
    ],
)
def test_a_name_that_is_not_there_is_found(text: str, wrong: list[str]) -> None:
    assert missing(read_tree(text), {"a/b.py", "a/c.py"}) == wrong
