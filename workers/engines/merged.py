"""A base with adapters, or with packed weights, as one folder of 16-bit weights, for loading in
four bits.

Adapters cannot be merged into four-bit weights: rounding the sum to the NF4 grid again gives back
the old grid point nearly everywhere, and about a hundredth of a usual update is left. Rounded
once, from the 16-bit sum, the update stays in the mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from workers.fetch import MANIFEST, Located, fingerprint, is_packed
from workers.folders import require_room
from workers.protocol import wire


def merged_base(located: Located, home: Path, say: Callable[[str], None]) -> Located:
    """The same model without adapters and in 16 bits: written once, kept under the home's
    `models/`, found again by the hashes of base and adapters."""
    from workers.engines.merge import bytes_in_16_bits, open_merged, save, save_finest

    packed = is_packed(located.folder)
    if not located.adapters and not packed:
        return located
    parts = [fingerprint(folder, home) for folder in (located.folder, *located.adapters)]
    name = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    target = home / "models" / f"merged-{name}"
    if not (target / MANIFEST).is_file():
        say(
            "Merging the earlier run into its base (once)"
            if located.adapters
            else "Writing the packed weights as 16-bit ones (once)"
        )
        merged = open_merged(located, say)
        require_room(target.parent, bytes_in_16_bits(located.folder))
        if located.adapters:
            save_finest(merged, target, located.folder)
        else:
            save(merged, target, torch.bfloat16, located.folder)
        manifest = {"base": located.base, "sha256": parts}
        wire.write_atomically(target / MANIFEST, msgspec.json.encode(manifest))
    return Located(located.base, target, continued=located.continued)


def spoken_base(located: Located, home: Path, say: Callable[[str], None]) -> Located:
    """What a model speaks from: one that learnt over four bits has no adapters under its last."""
    if not located.four_bit:
        return located
    *earlier, last = located.adapters
    under = merged_base(Located(located.base, located.folder, tuple(earlier)), home, say)
    return Located(located.base, under.folder, (last,), four_bit=True)
