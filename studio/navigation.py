"""What one page asks of another; the window hands it on. Knows no toolkit."""

from __future__ import annotations

from typing import NamedTuple

from workers.protocol.recipe import Source


class NewRun(NamedTuple):
    """A run is to be begun in the wizard: on an earlier run, on a dataset, or of a stage."""

    base: str = ""
    """The id of the run to train on from."""
    name: str = ""
    """What that run is called."""
    source: Source | None = None
    stage: str = ""
