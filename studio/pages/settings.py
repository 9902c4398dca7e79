"""The Settings screen: how the program looks, where it writes, and what runs the engines."""

from __future__ import annotations

import sys
from importlib.metadata import version

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QRadioButton

from studio.jobs import Jobs
from studio.settings import OVERLAYS, Settings, overlay, save_settings
from studio.theme import SPACE, Appearance, Theme
from studio.widgets.card import Card
from studio.widgets.form import OptionForm
from studio.widgets.page import Page
from studio.widgets.text import label
from workers.protocol.options import options_of

LOOKS: list[tuple[Appearance, str]] = [
    ("system", "Follow the system"), ("light", "Light"), ("dark", "Dark"),
]  # fmt: skip


class SettingsPage(Page):
    appearance_chosen = Signal(str)

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Settings", "How the program looks and where it keeps things.")
        self._jobs = jobs
        looks = Card("Appearance")
        row = QHBoxLayout()
        row.setSpacing(3 * SPACE)
        self.looks = QButtonGroup(self)
        for key, words in LOOKS:
            choice = QRadioButton(words)
            choice.setObjectName(f"appearance:{key}")
            choice.setChecked(theme.appearance == key)
            choice.clicked.connect(lambda _=False, key=key: self.appearance_chosen.emit(key))
            self.looks.addButton(choice)
            row.addWidget(choice)
        row.addStretch(1)
        looks.body.addLayout(row)
        gpu = Card("Graphics card")
        self.gpu = OptionForm(options_of(Settings), theme)
        self.gpu.set_values(msgspec.structs.asdict(jobs.settings))
        self.gpu.changed.connect(self._on_gpu_changed)
        gpu.body.addWidget(self.gpu)
        places = Card("Folders")
        moved = "Everything that is written lies in one folder, moved by --home."
        places.body.addWidget(label(moved, "muted", wrap=True))
        places.body.addWidget(label(str(jobs.home.root), "label", wrap=True, select=True))
        engines = Card("Engines")
        where = (
            "The Python of each engine's workers. Unsloth and vLLM live in environments of their "
            "own: python3 packaging/bootstrap.py unsloth, or vllm. Others are named in "
            f"{jobs.home.settings}."
        )
        engines.body.addWidget(label(where, "muted", wrap=True))
        made = {engine: overlay(engine) or "not set up" for engine in OVERLAYS}
        named = {"transformers": sys.executable, **made, **jobs.settings.interpreters}
        for engine, interpreter in named.items():
            engines.body.addWidget(label(f"{engine}:  {interpreter}", "", wrap=True, select=True))
        about = Card("About")
        about.body.addWidget(label(f"Finetune Studio {version('finetune-studio')}, Apache-2.0"))
        for card in (looks, gpu, places, engines, about):
            self.body.addWidget(card)
        self.body.addStretch(1)

    def _on_gpu_changed(self) -> None:
        """Keeps what is chosen, for jobs that start from now on."""
        if not self.gpu.faults:
            self._jobs.settings = msgspec.structs.replace(self._jobs.settings, **self.gpu.values)
            save_settings(self._jobs.home.settings, self._jobs.settings)
