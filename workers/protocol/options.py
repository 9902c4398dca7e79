"""How an option is declared: once, with its default, bounds, unit, label and one-sentence help.

The form, the file, the check, the command line and the README's table all follow from that
declaration, which is a `msgspec.Meta` on a struct's field.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec


def option(
    label: str,
    help: str,
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    advanced: bool = False,
    on_resume: bool = False,
    formerly: str = "",
) -> msgspec.Meta:
    """Metadata for `Annotated[type, option(...)]`; the bounds are checked when a recipe is read.

    Args:
        on_resume: whether a run's last checkpoint can be continued with another value.
        formerly: the key's earlier name, which is still read.
    """
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    extra = {"unit": unit, "advanced": advanced, "on_resume": on_resume, "formerly": formerly}
    return msgspec.Meta(title=label, description=help, extra=extra, **bounds)


class Option(msgspec.Struct, frozen=True):
    """One declared option, as a form or a table needs it."""

    path: str
    """Key path within the recipe, for example `training.learning_rate`."""
    kind: type
    """`str`, `int`, `float` or `bool`."""
    default: Any
    label: str
    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    advanced: bool = False
    on_resume: bool = False
    formerly: str = ""
    """The key's earlier name, which files may still hold."""

    @property
    def key(self) -> str:
        return self.path.rpartition(".")[2]


def options_of(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[Option]:
    """The declared options of a struct, in order; fields without a declaration are passed over."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            continue
        inner, *extras = get_args(hint)
        meta = next((m for m in extras if isinstance(m, msgspec.Meta) and m.title), None)
        if meta is not None:
            yield _option(f"{prefix}{field.name}", inner, field.default, meta)


def _option(path: str, inner: Any, default: Any, meta: msgspec.Meta) -> Option:
    if get_origin(inner) in (Union, types.UnionType):
        inner = next(arm for arm in get_args(inner) if arm is not type(None))
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    extra = meta.extra or {}
    return Option(
        path=path,
        kind=str if choices else inner,
        default=default,
        label=meta.title or path,
        help=meta.description or "",
        unit=extra.get("unit", ""),
        choices=tuple(str(choice) for choice in choices),
        minimum=meta.ge if meta.ge is not None else meta.gt,
        maximum=meta.le if meta.le is not None else meta.lt,
        advanced=extra.get("advanced", False),
        on_resume=extra.get("on_resume", False),
        formerly=extra.get("formerly", ""),
    )


def text_of(value: Any) -> str:
    """A value as a form shows it: as short as it can be and still be read back the same."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
