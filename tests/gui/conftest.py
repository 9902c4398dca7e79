"""The whole window, offscreen, over the fake worker; nothing may be left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QApplication, QPushButton, QWidget

from studio.app import Studio
from studio.jobs import Jobs, slug
from studio.pages.run import RunPage
from studio.paths import Home
from studio.settings import Settings, save_settings
from tests.conftest import FAKE, end_all, played_by
from tests.gui.runs import boxed_sums, wait_for_status
from workers.protocol import wire
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe

Finished = Callable[..., RunPage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gui)


class Driver:
    """Works the window by mouse and keyboard alone, finding controls by their object names."""

    def __init__(self, qtbot: Any, studio: Studio) -> None:
        self.qtbot = qtbot
        self.studio = studio
        self.window = studio.window

    def find(self, name: str) -> Any:
        """The control with that object name that is to be seen; waits a moment for it."""

        def shown() -> list[QWidget]:
            return [w for w in self.window.findChildren(QWidget, name) if w.isVisible()]

        self.qtbot.waitUntil(lambda: bool(shown()), timeout=2000)
        return shown()[0]

    def click(self, name: str) -> None:
        widget = self.find(name)
        assert widget.isEnabled(), f"{name} is greyed out"
        self.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)

    def type(self, name: str, text: str) -> None:
        widget = self.find(name)
        widget.setFocus()
        self.qtbot.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        self.qtbot.keyClicks(widget, text)

    def go(self, page: str) -> None:
        self.click(f"nav:{page}")

    def begin(self) -> None:
        """Opens the wizard at the choice of a stage."""
        self.go("Train")
        if self.window.train.advice.isVisible():
            self.click("skip-advice")

    def wait(self, condition: Any, limit_ms: int = 20_000) -> None:
        self.qtbot.waitUntil(condition, timeout=limit_ms)

    def button(self, text: str) -> QPushButton:
        return next(b for b in self.window.findChildren(QPushButton) if b.text() == text)


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """Settings under which every job is played by a fake, which shows rows too."""
    return played_by(FAKE.with_name("browse.py"), tmp_path)


@pytest.fixture(autouse=True)
def _cards_are_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes know no cards, whatever this machine has."""
    monkeypatch.setattr("studio.hardware.DRIVERS", {})


@pytest.fixture
def studio(qapp: QApplication, home: Home, fake: Settings) -> Iterator[Studio]:
    save_settings(home.settings, fake)
    opened = Studio(qapp, home)
    opened.window.show()
    yield opened
    close(opened)
    end_all(home)


def close(studio: Studio) -> None:
    """Ends a studio as closing its window does, and takes its widgets away."""
    studio.close()
    studio.window.deleteLater()
    studio.theme.deleteLater()
    QApplication.processEvents()
    # Outside of a running event loop only this deletes; windows that pile up slow every test down.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


class Recordings:
    """Finished runs of the fake worker, each made once and copied into the homes that show it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[bytes, Path] = {}

    def add(self, recipe: Recipe, jobs: Jobs) -> str:
        """Puts the finished run of a recipe among the jobs; returns its id."""
        asked = msgspec.json.encode(recipe)
        if asked not in self._made:
            self._made[asked] = self._record(recipe)
        recorded = self._made[asked]
        folder = jobs.folder(recorded.name)
        shutil.copytree(recorded, folder)
        job = wire.read_job(folder)
        wire.write_job(folder, msgspec.structs.replace(job, home=str(jobs.home.root)))
        jobs.recover()
        return job.id

    def _record(self, recipe: Recipe) -> Path:
        folder = self._folder / f"2026-01-01T00-00-{len(self._made):02}-{slug(recipe.name)}"
        folder.mkdir()
        job = Job(
            id=folder.name, name=recipe.name, created="2026-01-01T00:00:00+00:00", home="",
            task=Train(recipe=recipe),
        )  # fmt: skip
        wire.write_job(folder, job)
        quick = os.environ | {"FAKE_STEP_S": "0"}
        subprocess.run([sys.executable, str(FAKE), str(folder)], check=True, env=quick)
        return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return Recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def driver(qtbot: Any, studio: Studio) -> Driver:
    return Driver(qtbot, studio)


@pytest.fixture
def finished(driver: Driver, recordings: Recordings) -> Finished:
    """Opens a finished run of reinforcement learning, all of it drawn."""

    def opened(name: str = "boxed sums", steps: int = 16) -> RunPage:
        driver.window.open_run(recordings.add(boxed_sums(name, steps), driver.studio.jobs))
        page = driver.window.run
        wait_for_status(driver, "Finished")
        driver.wait(lambda: page.settled)
        return page

    return opened
