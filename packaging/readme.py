"""Writes README's tables from the declarations that they describe: `python packaging/readme.py`.

A table stands between `<!-- NAME -->` and `<!-- end -->`; what is between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from workers.protocol.exports import EXPORTS
from workers.protocol.metrics import HELD_OUT, METRICS, MetricSpec
from workers.protocol.options import Option, options_of
from workers.protocol.recipe import sections
from workers.protocol.rewards import KINDS
from workers.protocol.stages import STAGES, Default, StageSpec

README = Path(__file__).parents[1] / "README.md"
PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
Rows = Iterable[Sequence[str]]


def options() -> str:
    """Every key of a recipe, with its default and meaning."""
    declared = [
        option
        for path, section in sections().items()
        for option in options_of(section, f"{path}." if path else "")
    ]
    rows = [(f"`{one.path}`", _default(one), _meaning(one)) for one in declared]
    return _table(("key", "default", "meaning"), rows)


def _default(option: Option) -> str:
    shown = option.default is not msgspec.NODEFAULT and not isinstance(option.default, dict)
    if option.zero and option.default == 0:
        return f"`0` ({option.zero})"
    return f"`{option.default!r}`" if shown else ""


def _meaning(option: Option) -> str:
    words = ("auto", "true", "false") if option.kind is bool else filter(None, option.choices)
    choices = f" One of: {', '.join(words)}." if option.choices else ""
    former = f" Formerly `{option.formerly}`." if option.formerly else ""
    return f"{option.help}{choices}{former}"


def rewards() -> str:
    """Every kind of reward, with its own options."""
    rows = [
        (f"`{name}`", (kind.__doc__ or "").partition("\n")[0],
         "; ".join(_set(one) for one in options_of(kind) if one.key != "weight"))
        for name, kind in KINDS.items()
    ]  # fmt: skip
    return _table(("kind", "what it gives", "options"), rows)


def _set(option: Option) -> str:
    shown = _default(option) if option.default != "" else ""
    return f"`{option.key}` = {shown}" if shown else f"`{option.key}`"


def stages() -> str:
    """Every stage: what it is, what its rows hold, what it alone looks at."""
    rows = [
        (f"`{spec.id}`", spec.title, spec.bring, _codes(_options_of(spec)), _codes([spec.trainer]))
        for spec in STAGES.values()
    ]
    return _table(("stage", "what it is", "data", "looks at", "in workers/train"), rows)


def _options_of(spec: StageSpec) -> list[str]:
    own = [path for variant in spec.variants.values() for path in variant.options]
    return list(dict.fromkeys([*spec.options, *own]))


def defaults() -> str:
    """What a stage takes where a recipe does not say, and where that comes from."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for spec in STAGES.values():
        for one in spec.defaults:
            values = _codes(f"{path} = {value!r}" for path, value in one.values.items())
            found.setdefault((_holds(one), values, one.source), []).append(spec.id)
    rows = [(_codes(ids), *told) for told, ids in found.items()]
    return _table(("stages", "for", "values", "source"), rows)


def _holds(default: Default) -> str:
    size = "tiny models" if default.tiny else "models above 9B" if default.large else ""
    choices = (size, " or ".join(default.methods), " or ".join(default.algorithms))
    return ", ".join(filter(None, choices)) or "every model"


def metrics() -> str:
    """Every metric; the curve on held-out rows beside that of training."""
    rows = [
        (_codes(_curves(one)), one.meaning, one.unit, {"up": "more", "down": "less"}.get(
            one.better or "", ""))
        for one in METRICS.values()
    ]  # fmt: skip
    return _table(("name", "meaning", "unit", "better"), rows)


def _curves(metric: MetricSpec) -> list[str]:
    held_out = [f"{HELD_OUT}{metric.name}"] if metric.held_out else []
    return [metric.name, *held_out]


def exports() -> str:
    """Every kind of export."""
    rows = [(f"`{one.id}`", f"`NAME{one.ending}`" if one.quantization else f"`{one.ending}/`",
             one.words) for one in EXPORTS.values()]  # fmt: skip
    return _table(("target", "file", "what it is"), rows)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(heads: Sequence[str], rows: Rows) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


TABLES: dict[str, Callable[[], str]] = {
    "options": options, "rewards": rewards, "stages": stages, "defaults": defaults,
    "metrics": metrics, "exports": exports,
}  # fmt: skip


def with_tables(text: str) -> str:
    """The README with every table as it is declared now."""
    return PLACE.sub(lambda place: place[1] + TABLES[place[2]]() + place[3], text)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
