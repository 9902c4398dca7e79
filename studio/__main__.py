"""`python -m studio`: the window without a verb, the headless twin with one."""

from __future__ import annotations

import sys

WINDOW_OPTIONS = {"--home"}


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if _asks_for_window(given):
        from studio.app import main as window

        return window(given)
    from studio.cli import main as headless

    return headless(given)


def _asks_for_window(arguments: list[str]) -> bool:
    """Whether nothing but a home is named."""
    if not arguments:
        return True
    if arguments[0].startswith("--home="):
        return len(arguments) == 1
    return arguments[0] in WINDOW_OPTIONS and len(arguments) == 2


if __name__ == "__main__":
    sys.exit(main())
