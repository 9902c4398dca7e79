"""How many published configs of other programs become recipes, and why the others do not.

`python tests/benchmarks/foreign_configs.py FOLDER [--all]`, where FOLDER holds checkouts named
axolotl, LLaMA-Factory and unsloth. Prints docs/configs.md's table; with --all each refusal too.
"""

from __future__ import annotations

import argparse
import collections
from pathlib import Path

from studio.importing import Imported, Unfit, import_config, write_recipe
from workers.data.schema.detect import from_mapping
from workers.protocol.pipeline import read_pipeline
from workers.protocol.refusal import Refusal

EXAMPLES = {
    "Axolotl": "axolotl/examples",
    "LLaMA-Factory": "LLaMA-Factory/examples",
    "Unsloth Studio": "unsloth/studio/backend/assets/configs",
}
OUTSIDE = ("not training", "not text")
"""Kinds of refusal that are not of a text model's training."""


def outcome(path: Path, made: Path, data: str = "", model: str = "") -> tuple[str, str]:
    """What becomes of a config: `recipe`, or the kind of refusal and its words.

    A recipe counts when it passes the check and its file is read back to the same.
    """
    try:
        imported = import_config(path, data=data, model=model)
        imported.check()
        return _read_back(imported, made)
    except Unfit as refusal:
        return refusal.kind, refusal.what
    except Refusal as refusal:
        return "other", refusal.what


def _read_back(imported: Imported, made: Path) -> tuple[str, str]:
    stages = read_pipeline(write_recipe(imported, made)).stages
    for source in imported.recipe.data:
        if source.mapping:
            from_mapping(source.mapping, source.source, "")  # raises where it gives no rows
    return ("recipe", "") if stages == [imported.recipe] else ("other", "it is read back otherwise")


def is_settings(path: Path) -> bool:
    """Whether it is a model's settings as Unsloth Studio keeps them, which name no dataset."""
    return path.parent.parent.name == "model_defaults" or path.parent.name == "model_defaults"


def measure(folder: Path, made: Path, told: bool) -> collections.Counter[str]:
    """Counts the outcomes of all configs in a folder."""
    counts: collections.Counter[str] = collections.Counter()
    for path in sorted(folder.rglob("*.y*ml")):
        kind, words = outcome(path, made)
        if is_settings(path) and kind in ("data", "model"):
            given = "" if kind == "data" else "starter"
            again, words = outcome(path, made, data="builtin:arithmetic", model=given)
            kind = "recipe with --data" if again == "recipe" else again
        counts[kind] += 1
        if told and words:
            print(f"{kind}: {path.relative_to(folder)}: {words}")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="print each refusal")
    parser.add_argument("--made", type=Path, default=Path("made.toml"), help="written over")
    asked = parser.parse_args()
    found = {
        tool: measure(asked.folder / examples, asked.made, asked.all)
        for tool, examples in EXAMPLES.items()
    }
    kinds = list(dict.fromkeys(kind for counts in found.values() for kind in counts))
    print(f"| | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for kind in sorted(kinds, key=lambda kind: (not kind.startswith("recipe"), kind in OUTSIDE)):
        print(f"| {kind} | {' | '.join(str(counts[kind]) for counts in found.values())} |")
    for tool, counts in found.items():
        text = sum(count for kind, count in counts.items() if kind not in OUTSIDE)
        made = sum(count for kind, count in counts.items() if kind.startswith("recipe"))
        print(f"{tool}: {made} of {text} for training text models, {made / text:.0%}")


if __name__ == "__main__":
    main()
