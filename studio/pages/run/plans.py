"""Which charts a run has, in which order."""

from __future__ import annotations

from studio.widgets import chart
from workers.protocol.metrics import CHARTS, GENERAL, ChartSpec, Form
from workers.protocol.stages import STAGES, spec_of

FORMS: dict[Form, chart.Format] = {
    "plain": chart.plain, "percent": chart.percent, "count": chart.count,
    "seconds": chart.seconds, "scientific": chart.scientific, "rate": chart.rate,
    "size": chart.size,
}  # fmt: skip
"""How a chart's values are written."""


def charts_for(stage: str, algorithm: str = "") -> list[ChartSpec]:
    """Every chart, in the order that tells most of a stage; of rlhf, by its algorithm."""
    mine = spec_of(stage, algorithm).charts if stage in STAGES else ()
    return [CHARTS[key] for key in dict.fromkeys([*mine, *GENERAL, *CHARTS])]
