"""How an option is declared: once, with its default, bounds, unit, label and one-sentence help.

The form, the file, the check, the command line and the README's table all follow from that
declaration, which is a `msgspec.Meta` on a struct's field.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
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
    zero: str = "",
    group: str = "",
) -> msgspec.Meta:
    """Metadata for `Annotated[type, option(...)]`; the bounds are checked when a recipe is read.

    Args:
        on_resume: whether a run's last checkpoint can be continued with another value.
        formerly: the key's earlier name, which is still read.
        zero: what 0 is called, where it is no number but a meaning of its own.
        group: of an advanced option, what it is shown with; empty for the first group.
    """
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    extra = {"unit": unit, "advanced": advanced, "on_resume": on_resume, "formerly": formerly,
             "zero": zero, "group": group}  # fmt: skip
    return msgspec.Meta(title=label, description=help, extra=extra, **bounds)


class Option(msgspec.Struct, frozen=True):
    """One declared option, as a form or a table needs it."""

    path: str
    """Key path within the recipe, for example `training.learning_rate`."""
    kind: type
    """`str`, `int`, `float` or `bool`; a `bool` may have `choices` besides, by name."""
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
    zero: str = ""
    """What 0 is called."""
    group: str = ""
    """Of an advanced option, what it is shown with."""

    @property
    def key(self) -> str:
        return self.path.rpartition(".")[2]

    def text_of(self, value: Any) -> str:
        """A value as a form shows it."""
        if isinstance(value, bool):
            return "on" if value else "off"
        return self.zero if self.zero and value == 0 else text_of(value)

    def value_of(self, text: str) -> Any:
        """The value that a form shows so; raises ValueError for a text that is none."""
        if self.choices:
            return {"on": True, "off": False}.get(text, text) if self.kind is bool else text
        if self.zero and text.lower() == self.zero:
            return 0
        return text if self.kind is str else self.kind(text)


@cache
def options_of(struct: type[msgspec.Struct], prefix: str = "") -> tuple[Option, ...]:
    """The declared options of a struct, in order; fields without a declaration are passed over."""
    return tuple(_declared(struct, prefix))


def _declared(struct: type[msgspec.Struct], prefix: str) -> Iterator[Option]:
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
    arms = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    kind, *others = (arm for arm in arms if arm is not type(None))
    words = [word for arm in others for word in get_args(arm)]
    choices = (*words, "on", "off") if kind is bool and words else ()
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    extra = meta.extra or {}
    return Option(
        path=path,
        kind=kind,
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
        zero=extra.get("zero", ""),
        group=extra.get("group", ""),
    )


def text_of(value: Any) -> str:
    """A value as a form shows it: as short as it can be and still be read back the same."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
