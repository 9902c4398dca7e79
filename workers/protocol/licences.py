"""The licences that datasets carry: what each asks, and which do not go together in one mixture.

A guide, no legal advice. Whether a trained model is an adaptation of its data is not settled by law
(Creative Commons, "Using CC-licensed works for AI training", 2025); what is told here takes it for
one, which is the careful reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

Duty = Literal["attribution", "share-alike", "non-commercial", "no-derivatives"]
DUTIES: dict[Duty, str] = {
    "attribution": "Name the source and its licence, and say what was changed.",
    "share-alike": "Pass what you make of it on under the same licence.",
    "non-commercial": "Use it, and what you make of it, for no commercial purpose.",
    "no-derivatives": "Pass on nothing that you made of it.",
}
"""What each duty asks, in a sentence. The source of each is that of the licence."""


class Licence(msgspec.Struct, frozen=True):
    """One licence and where its duties are stated."""

    id: str
    """The SPDX identifier, or where SPDX has none the licence's own name."""
    duties: tuple[Duty, ...]
    source: str
    more: str = ""
    """What it asks beyond its duties, in a sentence."""


def _cc(id: str, *duties: Duty) -> Licence:
    """A Creative Commons licence; its legal code tells the duties in sections 2(a) and 3."""
    kind, _, version = id.removeprefix("CC-").lower().rpartition("-")
    source = f"https://creativecommons.org/licenses/{kind}/{version}/legalcode"
    return Licence(id, ("attribution", *duties), source)


KNOWN: dict[str, Licence] = {
    licence.id: licence
    for licence in (
        Licence("Apache-2.0", ("attribution",),
                "https://www.apache.org/licenses/LICENSE-2.0, section 4"),
        Licence("MIT", ("attribution",), "https://spdx.org/licenses/MIT.html"),
        Licence("BSD-3-Clause", ("attribution",), "https://spdx.org/licenses/BSD-3-Clause.html"),
        Licence("CC0-1.0", (), "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
        _cc("CC-BY-4.0"),
        _cc("CC-BY-3.0"),
        _cc("CC-BY-SA-4.0", "share-alike"),
        _cc("CC-BY-SA-3.0", "share-alike"),
        _cc("CC-BY-NC-4.0", "non-commercial"),
        _cc("CC-BY-NC-3.0", "non-commercial"),
        _cc("CC-BY-NC-SA-4.0", "non-commercial", "share-alike"),
        _cc("CC-BY-NC-SA-3.0", "non-commercial", "share-alike"),
        _cc("CC-BY-ND-4.0", "no-derivatives"),
        _cc("CC-BY-NC-ND-4.0", "non-commercial", "no-derivatives"),
        Licence("ODC-By-1.0", ("attribution",),
                "https://opendatacommons.org/licenses/by/1-0/, section 4.2"),
        Licence("ODbL-1.0", ("attribution", "share-alike"),
                "https://opendatacommons.org/licenses/odbl/1-0/, sections 4.2 and 4.4"),
        Licence("PDDL-1.0", (), "https://opendatacommons.org/licenses/pddl/1-0/"),
        Licence("GPL-3.0", ("attribution", "share-alike"),
                "https://www.gnu.org/licenses/gpl-3.0.html, sections 4 and 5"),
        Licence("AGPL-3.0", ("attribution", "share-alike"),
                "https://www.gnu.org/licenses/agpl-3.0.html, sections 4, 5 and 13"),
        Licence("OpenRAIL", ("attribution",), "https://huggingface.co/blog/open_rail",
                "Pass its limits of use on to whoever gets what you make of it."),
        *(
            Licence(f"Llama-{version}", ("attribution",),
                    f"https://www.llama.com/{page}/license/, section 1.b",
                    "A model trained on what Llama wrote must bear a name that begins with Llama.")
            for version, page in (("3", "llama3"), ("3.1", "llama3_1"), ("3.2", "llama3_2"),
                                  ("3.3", "llama3_3"))
        ),
    )
}  # fmt: skip
"""Licences whose duties are known, by identifier."""

_ALIASES = {
    "cc0": "CC0-1.0", "cc-zero": "CC0-1.0", "odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0",
    "pddl": "PDDL-1.0", "apache2": "Apache-2.0", "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "mit license": "MIT",
    "gpl-3.0-only": "GPL-3.0", "gpl-3.0-or-later": "GPL-3.0", "agpl-3.0-only": "AGPL-3.0",
    "agpl-3.0-or-later": "AGPL-3.0", "bigscience-openrail-m": "OpenRAIL",
    "creativeml-openrail-m": "OpenRAIL", "openrail++": "OpenRAIL",
    "bigscience-bloom-rail-1.0": "OpenRAIL", "bigcode-openrail-m": "OpenRAIL",
    "unknown": "", "none": "", "other": "other",
}  # fmt: skip
"""Other spellings, the hub's card tags among them, in lower case."""
_LLAMA = re.compile(
    r"llama[- ]?(3(?:\.\d)?)(?:[- ]community)?(?:[- ]licen[sc]e)?(?:[- ]agreement)?"
)


def normal(text: str) -> str:
    """A licence as SPDX writes it, from that or from a hub's card tag; others stay as they are.

    Several licences of one dataset are joined by ` AND `: the duties of each are taken to hold.
    """
    return " AND ".join(dict.fromkeys(filter(None, map(_normal, text.split(" AND ")))))


def _normal(text: str) -> str:
    name = text.strip()
    low = name.lower()
    spelt = next((known for known in KNOWN if known.lower() == low), None)
    llama = _LLAMA.fullmatch(low)
    if llama is not None:
        return f"Llama-{llama[1]}"
    return spelt or _ALIASES.get(low, name.upper() if low.startswith("cc-") else name)


def known(text: str) -> list[Licence]:
    """The licences of a dataset; none where one of them is not known."""
    names = normal(text).split(" AND ")
    return [KNOWN[name] for name in names] if all(name in KNOWN for name in names) else []


# Mixtures

Told = tuple[str, str]
"""A dataset's source, and its licence; empty where nobody told it."""
_SAME = re.compile(r"^(CC-BY(?:-NC)?-SA)-[\d.]+$")
_COMPATIBLE = (
    {"CC-BY-SA-4.0", "GPL-3.0"},
    {"GPL-3.0", "AGPL-3.0"},
)
"""Share-alike licences that go together though they differ: Creative Commons' list of compatible
licences (https://creativecommons.org/compatiblelicenses), and section 13 of the GPL."""


def clashes(licences: Sequence[Told]) -> list[str]:
    """What speaks against a mixture, a sentence each; what is not known comes last."""
    return [*incompatible(licences), *unsaid(licences)]


def incompatible(licences: Sequence[Told]) -> list[str]:
    """Duties that nobody can meet together, and those that bind whatever is made of the mixture."""
    single = [(source, one) for source, text in dict(licences).items() for one in known(text)]
    return [*_closed(single), *_at_odds(single), *_unsold(single)]


def unsaid(licences: Sequence[Told]) -> list[str]:
    """Which datasets have no licence that is known here."""
    silent = [source for source, text in dict(licences).items() if not normal(text)]
    named = [(source, normal(text)) for source, text in dict(licences).items()
             if normal(text) and not known(text)]  # fmt: skip
    told = [
        f"What the licence of {source} asks is not known here ({text}). Read it before you pass "
        "the model on."
        for source, text in named
    ]
    if silent:
        of = "licence of" if len(silent) == 1 else "licences of"
        are = "is" if len(silent) == 1 else "are"
        told.append(f"The {of} {_listed(silent)} {are} not known. Look for it before you pass the "
                    "model on, and write it as data.licence.")  # fmt: skip
    return told


def _closed(single: Sequence[tuple[str, Licence]]) -> list[str]:
    return [
        f"{source} is {one.id}, under which nothing made of it may be passed on. Leave it out, or "
        "keep the model to yourself."
        for source, one in single
        if "no-derivatives" in one.duties
    ]


def _at_odds(single: Sequence[tuple[str, Licence]]) -> list[str]:
    shared = [(source, one) for source, one in single if "share-alike" in one.duties]
    told = [
        f"{source} ({one.id}) and {other} ({another.id}) each ask that what is made of them be "
        "passed on under their own licence alone. Leave one of them out."
        for at, (source, one) in enumerate(shared)
        for other, another in shared[at + 1 :]
        if not _go_together(one, another)
    ]
    return told + [
        f"{source} ({one.id}) asks that what is made of it be free for every use, {other} "
        f"({another.id}) that it be not commercial. Leave one of them out."
        for source, one in shared
        if "non-commercial" not in one.duties
        for other, another in single
        if "non-commercial" in another.duties and "share-alike" not in another.duties
    ]


def _go_together(one: Licence, other: Licence) -> bool:
    """Whether what is made of both can be passed on; versions of one CC licence give way to the
    later one (CC BY-SA 3.0, section 4(b))."""
    kinds = [found[1] if (found := _SAME.match(licence.id)) else licence.id
             for licence in (one, other)]  # fmt: skip
    return kinds[0] == kinds[1] or {one.id, other.id} in _COMPATIBLE


def _unsold(single: Sequence[tuple[str, Licence]]) -> list[str]:
    bound = [f"{source} ({one.id})" for source, one in single if "non-commercial" in one.duties]
    if not bound:
        return []
    verb = "allows" if len(bound) == 1 else "allow"
    return [f"{_listed(bound)} {verb} no commercial use, and so neither does the model."]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
