"""Builds each object once and hands it on; where settings, store, jobs, theme and window meet."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
from PySide6.QtWidgets import QApplication

from studio.hardware import Monitor
from studio.jobs import Jobs
from studio.paths import Home, find_home
from studio.settings import load_settings, save_settings
from studio.store import Store
from studio.theme import Appearance, Theme
from studio.window import Window
from workers.protocol.refusal import Refusal


class Studio:
    """The whole application around one home; `close` it at the end."""

    def __init__(self, app: QApplication, home: Home) -> None:
        self.home = home.make()
        self.store = Store(home.store)
        self.jobs = Jobs(home, self.store, load_settings(home.settings))
        self.jobs.recover()
        self.theme = Theme(app, self.jobs.settings.appearance)
        self.monitor = Monitor(self.jobs)
        self.window = Window(self.jobs, self.theme, self.monitor)
        self.window.appearance_chosen.connect(self._on_appearance_chosen)

    def close(self) -> None:
        self.window.close()
        self.monitor.close()
        self.jobs.close()
        self.store.close()

    def _on_appearance_chosen(self, appearance: Appearance) -> None:
        self.theme.choose(appearance)
        self.jobs.settings = msgspec.structs.replace(self.jobs.settings, appearance=appearance)
        save_settings(self.home.settings, self.jobs.settings)


def main(arguments: list[str]) -> int:
    """Opens the window; returns the exit code. `arguments` hold at most a home."""
    home = arguments[-1].removeprefix("--home=") if arguments else None
    try:
        _require_display()
        app = QApplication(sys.argv[:1])
        app.setApplicationName("Finetune Studio")
        app.setDesktopFileName("finetune-studio")
        studio = Studio(app, find_home(Path(home) if home else None))
    except Refusal as refusal:
        from studio.terminal import Terminal  # rich is not needed when all goes well

        Terminal(json=False).refuse(refusal)
        return 1
    signal.signal(signal.SIGINT, lambda *_: app.quit())  # the clock lets Python hear it
    studio.window.show()
    code = app.exec()
    studio.close()
    return code


def _require_display() -> None:
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in named):
        raise Refusal(
            "There is no display to open a window on.",
            "Neither DISPLAY nor WAYLAND_DISPLAY is set.",
            "Work without a window: python -m studio --help. The tour: python -m studio demo",
        )
