"""What every rung of the tests stands on: a home of its own, the fake worker, no leftovers."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import psutil
import pytest

from studio.jobs import Jobs
from studio.paths import ENVIRONMENT, Home
from studio.records import JobRow
from studio.settings import Settings
from studio.store import Store
from tests.fakes.llama_models import models_folder
from workers.__main__ import run_folder
from workers.protocol.recipe import Recipe, Source, Training

FAKE = Path(__file__).parent / "fakes" / "worker.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def _no_user_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "home"))


@pytest.fixture
def runtime_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where jobs of this test meet to take turns on cards, apart from those of the user."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def llama_models() -> Path:
    """llama.cpp's `models`: real vocabularies, and chat templates under `templates/`."""
    return models_folder()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").make()


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store(home.store)
    yield opened
    opened.close()


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """Settings under which every job is played by the fake worker."""
    return played_by(FAKE, tmp_path)


def played_by(fake: Path, folder: Path) -> Settings:
    """Settings whose interpreter plays every job with a fake; its script is put into a folder."""
    script = folder / f"fake-{fake.stem}"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return Settings(interpreters={"auto": str(script)})


@pytest.fixture
def jobs(home: Home, store: Store, fake: Settings) -> Iterator[Jobs]:
    made = Jobs(home, store, fake)
    yield made
    made.close()
    end_all(home)


class WorkerHere:
    """Stands for a worker's process: at the first look its job runs to its end within this one.

    What is asked of the job before that look is heard. It takes the place of
    `studio.process.launch`.
    """

    def __init__(self, folder: Path, interpreter: str) -> None:
        self.folder = folder
        self.interpreter = interpreter
        self.returncode: int | None = None

    def poll(self) -> int:
        if self.returncode is None:
            self.returncode = run_folder(self.folder)
        return self.returncode


@pytest.fixture
def real(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs whose real workers run within this process: they cost no imports of their own."""
    monkeypatch.setattr("studio.jobs.launch", WorkerHere)
    return Jobs(home, store, Settings())


@pytest.fixture
def detached(home: Home, store: Store) -> Iterator[Jobs]:
    """Jobs whose real workers are processes, for where the process is what is tested."""
    made = Jobs(home, store, Settings())
    yield made
    made.close()
    end_all(home)


def end_all(home: Home) -> None:
    """Kills every worker that a test left under its home."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(home.jobs) in part for part in process.info["cmdline"] or []):
            process.kill()
            process.wait(10)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="small",
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=8, batch_size=2),
    )


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], float], None]:
    return wait_for


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Looks again and again until a condition holds; fails after a limit."""
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{condition} did not come true within {limit_s} s")
        time.sleep(0.02)  # between two looks, not instead of one


@pytest.fixture
def follow() -> Callable[[Jobs, str], JobRow]:
    """Polls until a job has ended; returns its row."""

    def run(jobs: Jobs, job: str, limit_s: float = 240.0) -> JobRow:
        def ended() -> bool:
            jobs.poll()
            row = jobs.store.job(job)
            return row is not None and not row.live

        wait_for(ended, limit_s)
        row = jobs.store.job(job)
        assert row is not None
        return row

    return run
