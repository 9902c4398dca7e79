"""A full disk is told above every page while it lasts; curves are drawn all the same."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from studio.app import Studio
from studio.store import Store
from tests.gui.conftest import Driver
from tests.studio.test_full_disk import fill_disk, free_disk
from workers.protocol import wire
from workers.protocol.recipe import Recipe


def test_a_run_is_drawn_to_its_end_and_the_banner_goes_away(
    driver: Driver, studio: Studio, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.jobs.SCAN_EVERY_S", 0.0)
    assert driver.window.fault.isHidden()
    run = studio.jobs.train(recipe)
    driver.window.open_run(run)
    fill_disk(studio.store)
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    assert driver.window.fault.isVisible()
    assert "is full" in driver.window.fault.text
    assert driver.window.run.charts["loss"].main.steps == list(range(1, 9))
    free_disk(studio.store)
    driver.wait(lambda: driver.window.fault.isHidden())
    assert driver.window.run.charts["loss"].main.steps == list(range(1, 9))
    other = Store(studio.home.store)
    assert other.series(run, "loss").steps == list(range(1, 9))
    other.close()


def test_a_request_that_cannot_be_written_is_told_on_the_page(
    driver: Driver, studio: Studio, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    run = studio.jobs.train(recipe)
    driver.window.open_run(run)

    def fail(folder: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(wire, "append_request", fail)
        for name in ("sample-now", "save-now", "pause", "stop"):
            driver.window.run.banner.hide()
            driver.window.clock.stop()
            driver.click(name)
            assert "Free some space" in driver.window.run.banner.text
            assert driver.find(name).isEnabled()
    driver.window.clock.start()
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
