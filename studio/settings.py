"""What the user chose for the program itself, kept as TOML; unreadable settings are set aside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from workers.protocol.cards import WAITING, WhenBusy
from workers.protocol.engines import may_sample_with_vllm
from workers.protocol.options import option
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.wire import write_atomically

OVERLAYS = ("unsloth", "vllm")
"""Engines that packaging/bootstrap.py makes environments for."""
Appearance = Literal["system", "light", "dark"]


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Unknown keys, of a later version, are passed over."""

    appearance: Appearance = "system"
    interpreters: dict[str, str] = {}
    """Engine name to the Python that runs it; without an entry, this one."""
    pause_above_celsius: Annotated[
        int,
        option(
            "Pause training at",
            "A run rests at a checkpoint once its GPU has been as hot for ten seconds.",
            unit="°C",
            zero="never",
            ge=0,
            le=110,
        ),
    ] = 0
    chat_when_busy: Annotated[
        Literal["ask", "cpu", "wait"],
        option(
            "Chats while the GPU trains",
            "Whether they run on the CPU or wait for the GPU; ask shows the choice each time.",
        ),
    ] = "ask"
    recent_data: list[str] = []
    """Datasets that were looked at, the latest first."""

    @property
    def when_busy(self) -> WhenBusy:
        """What a chat's worker does by itself while another job has the card."""
        return "cpu" if self.chat_when_busy == "cpu" else "wait"

    def question(self, phase: str) -> str:
        """What the user is to be asked about in a chat's phase: the wait for a card, where it is
        not settled what is done then; else nothing."""
        return phase if phase.startswith(WAITING) and self.chat_when_busy == "ask" else ""

    def interpreter_for(self, recipe: Recipe | None) -> str:
        """The Python that runs a job; refuses an engine that has none.

        Args:
            recipe: of a training run; None for any other job.
        """
        engine = recipe.model.engine if recipe else "auto"
        made = overlay(overlay_for(recipe)) if recipe else None
        if named := self.interpreters.get(engine) or made:
            return named
        if engine == "unsloth":
            raise Refusal(
                "Unsloth is not set up.",
                "It lives in an environment of its own, which is not there.",
                "Make it with: python3 packaging/bootstrap.py unsloth. Or set model.engine to "
                "'auto' or 'transformers', or name its Python under [interpreters] unsloth in "
                "settings.toml.",
            )
        return sys.executable


def overlay_for(recipe: Recipe) -> str:
    """The overlay environment that a training run would take, where it is there."""
    if recipe.model.engine == "unsloth":
        return "unsloth"
    return "vllm" if may_sample_with_vllm(recipe) else ""


def overlay(engine: str) -> str | None:
    """The Python of an engine's overlay environment, where the set-up has made one."""
    folder = Path(sys.prefix) / "overlays" / engine
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    return str(python) if engine and (folder / "ready").is_file() else None


def load_settings(path: Path) -> Settings:
    """The settings in a file; the defaults when it is missing, or unreadable and set aside."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return Settings()
    except (msgspec.DecodeError, UnicodeDecodeError):
        path.replace(path.with_suffix(".unreadable"))
        return Settings()


def save_settings(path: Path, settings: Settings) -> None:
    write_atomically(path, msgspec.toml.encode(settings))
