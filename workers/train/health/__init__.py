"""The health coach: looks at a run's metrics as they come and says in words what goes wrong.

Pure functions over the stream of metrics; no model, no trainer. A rule looks at the history and
answers with a `Finding` or nothing. Each is told once and again only after it has passed.
"""

from __future__ import annotations

from collections.abc import Mapping

from workers.protocol.events import Finding, FindingCleared
from workers.protocol.recipe import Recipe
from workers.train.health import general, preference, reinforcement
from workers.train.health.history import History, setting_of

PASSED_AFTER = 5
"""Steps that a finding must be gone to count as passed."""

RULES = (*general.RULES, *reinforcement.RULES, *preference.RULES)


class Coach:
    """Hears a run's metrics and tells what is new about its health."""

    def __init__(self, recipe: Recipe) -> None:
        self._setting = setting_of(recipe)
        self._history = History()
        self._open: dict[str, int] = {}
        """Findings told and not passed, with the step at which each was last seen."""

    def hear(self, step: int, values: Mapping[str, float | None]) -> list[Finding | FindingCleared]:
        self._history.add(step, values)
        found = [rule(self._history, self._setting) for rule in RULES]
        seen = {finding.kind: finding for finding in found if finding is not None}
        told: list[Finding | FindingCleared] = [
            finding for kind, finding in seen.items() if kind not in self._open
        ]
        self._open |= dict.fromkeys(seen, step)
        for kind, last in list(self._open.items()):
            if step - last >= PASSED_AFTER:
                del self._open[kind]
                told.append(FindingCleared(kind=kind, step=step))
        return told
