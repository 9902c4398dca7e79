"""Which licence a dataset carries, and who tells so: the recipe, the catalogue, its card."""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.data.read.card import CARD, head_of
from workers.data.read.files import DataFiles
from workers.protocol.browse import Version
from workers.protocol.catalogue import catalogued_licence
from workers.protocol.licences import normal
from workers.protocol.recipe import Source
from workers.protocol.sources import BUILTIN

LONGEST_SIDECAR = 64 << 10
LONGEST_HEAD = 256 << 10
"""Bytes of a card that are looked at."""


def of(source: Source, found: DataFiles) -> tuple[str, str]:
    """A dataset's licence and where it is told; both empty where nobody tells it.

    Args:
        found: what the source stands for on this disk; a hub's card lies in the same folder.
    """
    if source.licence:
        return spelt(source.licence), "the recipe"
    if licence := spelt(catalogued_licence(source)):
        known_by = "the program" if source.source.startswith(BUILTIN) else "the catalogue"
        return licence, known_by
    if licence := _of_version(found.path):
        return licence, "the dataset that it is a version of"
    if licence := of_card((found.path if found.path.is_dir() else found.path.parent) / CARD):
        return licence, "the dataset's card"
    return "", ""


def spelt(text: str) -> str:
    """A licence as SPDX spells it, known here or not; what is no SPDX expression stays.

    The protocol, which the window loads, spells the licences that it knows; this goes to SPDX's
    whole list (packaging.licenses, 60 ms to import).
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    name = normal(text)
    try:
        return canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return name


def _of_version(path: Path) -> str:
    """The licence kept beside an edited copy of a dataset."""
    beside = path.with_suffix(".json")
    try:
        if beside == path or beside.stat().st_size > LONGEST_SIDECAR:
            return ""
        return spelt(msgspec.json.decode(beside.read_bytes(), type=Version).licence)
    except (OSError, msgspec.DecodeError):
        return ""


def of_card(path: Path) -> str:
    """The licence in the YAML head of a dataset's card, as the hub has it; empty where none is."""
    try:
        with path.open("rb") as file:
            head = head_of(file.read(LONGEST_HEAD).decode("utf-8-sig", "replace"))
    except OSError:
        return ""
    named = head.get("license", head.get("licence"))
    several = named if isinstance(named, list) else [named]
    names = [one for one in several if isinstance(one, str)]
    if names == ["other"] and isinstance(head.get("license_name"), str):
        names = [head["license_name"]]
    return spelt(" AND ".join(names))
