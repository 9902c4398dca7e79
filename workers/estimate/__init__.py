"""Will it fit? The memory of a training run by arithmetic: no torch, no weights, in milliseconds.

Held to a simulation of the very steps (`workers/simulate`, tests/workers/simulated.json).
"""

from workers.estimate.fit import largest_micro, largest_rank, longest_sequence
from workers.estimate.geometry import Geometry, geometry_of, known_config, known_geometry
from workers.estimate.plan import (
    Plan,
    Suggestion,
    least_micro,
    longest_row,
    plan,
    plan_of_parts,
    with_changes,
)
from workers.estimate.step import GIB, Estimate, estimate

__all__ = [
    "GIB", "Estimate", "Geometry", "Plan", "Suggestion", "estimate", "geometry_of", "known_config",
    "known_geometry", "largest_micro", "largest_rank", "least_micro", "longest_row",
    "longest_sequence", "plan", "plan_of_parts", "with_changes",
]  # fmt: skip
