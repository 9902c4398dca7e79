"""Where the data that comes with the program lies, from a checkout or from an installed wheel."""

from __future__ import annotations

from pathlib import Path

from workers.protocol.refusal import Refusal


def assets_folder() -> Path:
    """The folder of starter data, recipes and pictures: inside the wheel, else the checkout's."""
    installed = Path(__file__).parents[1] / "assets"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "assets"


def builtin_datasets() -> list[str]:
    """Names that `builtin:NAME` accepts, sorted."""
    return sorted(path.stem for path in (assets_folder() / "data").glob("*.jsonl"))


def builtin_dataset(name: str) -> Path:
    """The file behind `builtin:NAME`; refuses a name that is not there."""
    known = builtin_datasets()
    if name not in known:
        raise Refusal(
            f"There is no built-in dataset called '{name}'.",
            f"The built-in ones are: {', '.join(known) or 'none'}.",
            "Write one of those after 'builtin:', or give the path of a file.",
        )
    return assets_folder() / "data" / f"{name}.jsonl"
