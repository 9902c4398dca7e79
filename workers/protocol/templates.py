"""How a recipe names a chat template: ours, one that TRL ships, or a Jinja file."""

from __future__ import annotations

import difflib
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from workers.protocol.refusal import Refusal

AUTO = "auto"
OURS = ("chatml", "llama-3", "gemma", "mistral", "alpaca")
"""Names of the templates in `workers.data.tokenize.chat_template`."""
TRL = "trl:"
ENDINGS = (".jinja", ".jinja2", ".j2")
LONGEST = 1 << 18
"""Bytes; the longest template that TRL 1.12 ships has 20,000."""
COPY = "chat_template.jinja"
"""A run's own copy of the file that its recipe names, in the run's folder."""
REMEDY = (
    f"Write {AUTO}, {', '.join(OURS)}, {TRL}NAME for one that TRL ships, or the path of a .jinja "
    "file."
)


@cache
def trl_folder() -> Path | None:
    """Where TRL keeps its chat templates; found without importing it. None where it is missing."""
    spec = find_spec("trl")
    folder = Path(spec.origin).parent / "chat_templates" if spec and spec.origin else None
    return folder if folder and folder.is_dir() else None


@cache
def trl_templates() -> tuple[str, ...]:
    """Names after `trl:`, sorted; its variants for training, which bear marks for the loss, are not
    among them but are taken too."""
    folder = trl_folder()
    found = sorted(path.stem for path in folder.glob("*.jinja")) if folder else []
    return tuple(name for name in found if not name.endswith("_training"))


def is_file(template: str) -> bool:
    """Whether a recipe's template is a path rather than a name."""
    return template.lower().endswith(ENDINGS) and not template.startswith(TRL)


def template_fault(template: str) -> tuple[str, str] | None:
    """What is wrong with a template's name, and the cause; of a file nothing but its ending."""
    if template == AUTO or template in OURS or is_file(template):
        return None
    name = template.removeprefix(TRL)
    if name != template and _trl_file(name).is_file():
        return None
    known = [AUTO, *OURS, *(f"{TRL}{one}" for one in trl_templates())]
    asked = [template, f"{TRL}{name}"] if name else []
    near = [one for each in asked for one in difflib.get_close_matches(each, known, 1)]
    cause = f"Did you mean {near[0]}?" if near else "It may be misspelt."
    return f"there is no chat template '{template}'.", cause


def check_template(template: str) -> None:
    """Refuses a name that no template has."""
    if found := template_fault(template):
        what, cause = found
        raise Refusal(what[0].upper() + what[1:], cause, REMEDY)


def template_text(template: str) -> str:
    """The Jinja text of a file, or of a template that TRL ships.

    Raises:
        Refusal: there is none by that name, or it cannot be read.
    """
    check_template(template)
    if template.startswith(TRL):
        return _trl_file(template.removeprefix(TRL)).read_text(encoding="utf-8")
    return read_template(Path(template).expanduser())


def read_template(path: Path) -> str:
    """The text of a Jinja file.

    Raises:
        Refusal: it is not there, longer than any template is, or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise Refusal(
                f"The chat template {path} is longer than {LONGEST >> 10} kB.",
                "It is probably another file.", "Give a file that holds the template alone.",
            )  # fmt: skip
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise Refusal(
            f"There is no chat template at {path}.",
            "The path may be misspelt or relative to another folder.", REMEDY,
        ) from None  # fmt: skip
    except (OSError, UnicodeDecodeError) as fault:
        raise Refusal(
            f"The chat template {path} cannot be read.", f"{fault}.", "Save it as UTF-8 text."
        ) from fault


def fingerprint(text: str) -> str:
    """SHA-256 of a template's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def template_label(template: str) -> str:
    """A template as a list shows it: of a file its name without the ending."""
    return Path(template).stem if is_file(template) else template


def saved_templates(home: Path) -> list[str]:
    """Paths of the templates that were saved under a home, sorted."""
    return sorted(str(path) for path in (home / "templates").glob(f"*{ENDINGS[0]}"))


def _trl_file(name: str) -> Path:
    folder = trl_folder() or Path("trl")
    return folder / f"{Path(name).name}.jinja"
