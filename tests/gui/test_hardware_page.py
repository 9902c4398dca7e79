"""The Hardware page with a recorded card and without one; who waits for a card, in the window."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from studio.hardware import NO_DRIVER
from tests.fakes.nvml import KEYS, Nvml
from tests.gui.conftest import Driver
from workers.card_lock import hold
from workers.cards import read_cards
from workers.protocol.cards import Holder
from workers.protocol.events import CardsRead, Note
from workers.protocol.recipe import Recipe
from workers.protocol.wire import read_events
from workers.turns import NAMED


def a_training() -> Holder:
    started = psutil.Process().create_time()
    return Holder(pid=os.getpid(), started=started, job="/a", name="elsewhere", kind="train")


def test_cards_come_and_go_and_the_computer_is_always_there(driver: Driver) -> None:
    driver.go("Hardware")
    page, monitor = driver.window.hardware, driver.studio.monitor
    monitor.hear(CardsRead(cards=[], reason=NO_DRIVER))
    driver.wait(page.none.isVisible)
    assert page.reason.text() == NO_DRIVER
    assert page.computer.memory.value.text().endswith(" GB")

    nvml = Nvml()
    held = {KEYS[0]: [a_training()]}
    monitor.hear(CardsRead(cards=read_cards(nvml), holders=held))
    driver.wait(lambda: len(page.panels) == 2)
    assert not page.none.isVisible()
    first, second = page.panels.values()
    assert first.what.text() == "driver 580.95.05  ·  CUDA 13.0  ·  compute capability 8.9"
    assert first.holder.text() == "In use: elsewhere is training."
    shown = {key: meter.value.text() for key, meter in first.meters.items()}
    assert shown == {
        "busy": "97 %", "memory": "1.0 of 12.0 GB", "celsius": "64 °C", "watts": "148 of 200 W",
    }  # fmt: skip
    assert second.meters["watts"].value.text() == "not told"
    assert driver.find("machine").text().startswith("GPU 97 % · 64 °C")

    nvml.lost = {1}
    monitor.hear(CardsRead(cards=read_cards(nvml)))
    driver.wait(lambda: len(page.panels) == 1)


@pytest.fixture
def held(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """The only card, in the hands of a training elsewhere until the stack is closed."""
    monkeypatch.setenv(NAMED, "GPU-test")
    with ExitStack() as stack:
        lock = hold("GPU-test", a_training())
        assert lock is not None
        stack.enter_context(lock)
        yield stack


def test_a_run_that_waits_says_so_and_goes_on(
    driver: Driver, held: ExitStack, recipe: Recipe
) -> None:
    run = driver.studio.jobs.train(recipe)
    driver.window.open_run(run)
    header = driver.window.run.header
    driver.wait(lambda: header.pill.text == "Waiting")
    assert header.phase.text() == "Waiting for the GPU: elsewhere is training"
    assert driver.window.live.text() == "small waits for the GPU."
    driver.go("Runs")
    model = driver.window.runs.model
    assert model.data(model.index(0, 2)) == "Waiting"

    held.close()
    driver.window.open_run(run)
    driver.wait(lambda: header.pill.text == "Finished")


def test_a_chat_beside_a_training_asks_and_runs_on_the_cpu(
    driver: Driver, held: ExitStack, tmp_path: Path
) -> None:
    driver.go("Chat")
    chat = driver.window.chat
    chat.open(str(tmp_path / "a.gguf"))
    driver.wait(chat.wait.isVisible)
    assert "elsewhere is training" in chat.wait.banner.text
    driver.click("chat-on-cpu")
    driver.wait(lambda: chat.session.ready)
    assert not chat.wait.isVisible()
    folder = driver.studio.jobs.folder(driver.studio.store.jobs("chat")[0].id)
    told = [line.event.text for line in read_events(folder) if isinstance(line.event, Note)]
    assert told == ["The GPU is busy: elsewhere is training. This runs on the CPU."]


def test_settings_are_kept_and_reach_jobs(driver: Driver, recipe: Recipe) -> None:
    from studio.settings import load_settings
    from workers.protocol.wire import read_job

    driver.go("Settings")
    form = driver.window.settings.gpu
    driver.type("field:pause_above_celsius", "83")
    form.fields["chat_when_busy"].set_value("cpu")
    jobs = driver.studio.jobs
    kept = load_settings(driver.studio.home.settings)
    assert (kept.pause_above_celsius, kept.chat_when_busy, kept.when_busy) == (83, "cpu", "cpu")
    assert read_job(jobs.folder(jobs.train(recipe))).pause_above_celsius == 83
    driver.type("field:pause_above_celsius", "500")
    assert jobs.settings.pause_above_celsius == 50, "what is at fault is not kept"
