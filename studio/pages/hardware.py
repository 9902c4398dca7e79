"""The Hardware screen: each card and the computer, as they are now and were in the last minutes."""

from __future__ import annotations

import os

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QProgressBar, QVBoxLayout, QWidget

from studio.hardware import KEPT, Monitor
from studio.theme import SPACE, Theme
from studio.widgets.card import Card as Frame
from studio.widgets.meter import Meter
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol.cards import GIB, Card, Holder

HOTTEST = 110
"""Degrees Celsius at the top of the line."""
UNTOLD = "not told"
METERS = {"busy": "Utilisation", "memory": "Memory", "celsius": "Temperature", "watts": "Power"}


class HardwarePage(Page):
    settings_asked = Signal()

    def __init__(self, monitor: Monitor, theme: Theme) -> None:
        super().__init__("Hardware", "What this computer is doing, over the last ten minutes.")
        self._monitor = monitor
        self._theme = theme
        self.limit = button("Temperature limit…", theme, "thermometer", name="temperature-limit")
        self.limit.setToolTip("Pause training when the graphics card gets too hot")
        self.limit.clicked.connect(self.settings_asked)
        self.action_row.addWidget(self.limit)
        self._shown = -1
        self.panels: dict[str, CardPanel] = {}
        self.none = Frame("Graphics card")
        self.reason = label("", "muted", wrap=True)
        self.none.body.addWidget(self.reason)
        without = "Training and chats run on the processor."
        self.none.body.addWidget(label(without, "", wrap=True))
        self._cards = QVBoxLayout()
        self._cards.setSpacing(2 * SPACE)
        self.computer = ComputerPanel(theme)
        self.body.addLayout(self._cards)
        self.body.addWidget(self.none)
        self.body.addWidget(self.computer)
        self.body.addStretch(1)

    def refresh(self) -> None:
        monitor = self._monitor
        if monitor.version == self._shown:
            return
        self._shown = monitor.version
        self._show_cards(monitor.cards)
        self.none.setVisible(not monitor.cards)
        self.reason.setText(monitor.reason or "Looking for one…")
        self.computer.show_monitor(monitor)

    def _show_cards(self, cards: list[Card]) -> None:
        for key in set(self.panels) - {card.key for card in cards}:
            panel = self.panels.pop(key)
            self._cards.removeWidget(panel)
            panel.hide()
            panel.deleteLater()
        for card in cards:
            if card.key not in self.panels:
                self.panels[card.key] = CardPanel(card, self._theme)
                self._cards.addWidget(self.panels[card.key])
            self.panels[card.key].show_card(card, self._monitor)


class CardPanel(Frame):
    """One graphics card."""

    def __init__(self, card: Card, theme: Theme) -> None:
        super().__init__(card.name or card.key)
        self.what = label("", "muted", wrap=True, select=True)
        self.holder = label("", "label", wrap=True)
        self.meters = {key: Meter(name, theme, KEPT) for key, name in METERS.items()}
        self.body.addWidget(self.what)
        self.body.addWidget(self.holder)
        self.body.addWidget(_side_by_side(*self.meters.values()))

    def show_card(self, card: Card, monitor: Monitor) -> None:
        told = {"driver": card.driver, "CUDA": card.cuda, "compute capability": card.capability}
        parts = [f"{name} {value}" for name, value in told.items() if value]
        self.what.setText("  ·  ".join(parts))
        self.holder.setText(used_by(monitor.holders.get(card.key, [])))
        values = {
            "busy": (_percent(card.busy_percent), 100.0),
            "memory": (_share(card.used_bytes, card.memory_bytes), 100.0),
            "celsius": (UNTOLD if card.celsius is None else f"{card.celsius} °C", HOTTEST),
            "watts": (_watts(card), card.most_watts or 0.0),
        }
        for key, (words, most) in values.items():
            self.meters[key].show_value(words, monitor.curves.of(f"{card.key}:{key}"), most)


class ComputerPanel(Frame):
    """Processor, RAM and the disk that the program writes to."""

    def __init__(self, theme: Theme) -> None:
        super().__init__("Computer")
        cores = os.cpu_count() or 1
        self.cpu = Meter(f"Processor, {cores} core{'s' if cores > 1 else ''}", theme, KEPT)
        self.memory = Meter("RAM", theme, KEPT)
        self.disk = label("", "muted", wrap=True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Share of the disk that is used")
        self.body.addWidget(_side_by_side(self.cpu, self.memory))
        self.body.addWidget(self.disk)
        self.body.addWidget(self.bar)

    def show_monitor(self, monitor: Monitor) -> None:
        usage = monitor.usage
        if usage is None:
            return
        self.cpu.show_value(_percent(usage.cpu_percent), monitor.curves.of("cpu"))
        words = _share(usage.memory_used, usage.memory_total)
        self.memory.show_value(words, monitor.curves.of("memory"))
        free = usage.disk_total - usage.disk_used
        self.disk.setText(f"Disk  ·  {free / 1e9:.1f} of {usage.disk_total / 1e9:.1f} GB free")
        self.bar.setRange(0, 1000)
        self.bar.setValue(round(1000 * usage.disk_used / usage.disk_total))


def used_by(holders: list[Holder]) -> str:
    """Who has a card, in words; others wait."""
    told = [holder.words for holder in holders]
    return f"In use: {', '.join(told)}." if told else "Free for the next training or chat."


def _percent(value: float | None) -> str:
    return UNTOLD if value is None else f"{value:.0f} %"


def _share(used: int | None, total: int | None) -> str:
    if used is None or not total:
        return UNTOLD
    return f"{used / GIB:.1f} of {total / GIB:.1f} GB"


def _watts(card: Card) -> str:
    if card.watts is None:
        return UNTOLD
    limit = f" of {card.most_watts:.0f}" if card.most_watts else ""
    return f"{card.watts:.0f}{limit} W"


def _side_by_side(*meters: Meter) -> QWidget:
    """Two in a row."""
    holder = QWidget()
    grid = QGridLayout(holder)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(4 * SPACE)
    grid.setVerticalSpacing(2 * SPACE)
    for place, meter in enumerate(meters):
        grid.addWidget(meter, place // 2, place % 2)
    for column in range(2):
        grid.setColumnStretch(column, 1)
    return holder
