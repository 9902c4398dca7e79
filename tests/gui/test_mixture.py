"""The wizard's mixture: shares, limits and licences of its sources, as drawn and as written."""

from __future__ import annotations

from pathlib import Path

from studio.widgets.mixture import MixtureBar
from tests.gui.conftest import Driver
from workers.protocol.recipe import Recipe, Source


def _lines(driver: Driver) -> list:  # type: ignore[type-arg]
    driver.go("Train")
    train = driver.window.train
    train.go_to(train.data)
    return train.data.lines


def test_shares_are_parts_of_one(driver: Driver) -> None:
    bar = MixtureBar(driver.studio.theme)
    driver.qtbot.addWidget(bar)
    bar.show_weights([("builtin:sums", 3.0), ("/a/b/mine.jsonl", 1.0), ("none", 0.0)])
    assert bar.shares == [("sums", 0.75), ("mine.jsonl", 0.25)]
    assert "sums 75%, mine.jsonl 25%" in bar.accessibleName()
    assert bar.heightForWidth(40) > bar.heightForWidth(900)
    assert not bar.grab().isNull()


def test_weight_limit_and_licence_reach_the_recipe(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    lines = _lines(driver)
    data = driver.window.train.data
    data.add(str(path))
    assert not data.mixture.isVisible()
    data.add("builtin:arithmetic")
    assert data.mixture.isVisible()
    assert "licence of" in data.clashes.text()
    assert str(path) in data.clashes.text()
    assert lines[0].licence.placeholderText() == "licence unknown"
    assert lines[1].licence.placeholderText() == "Apache-2.0"
    lines[0].weight.setText("3")
    lines[0].limit.setText("500")
    lines[0].licence.setText("MIT")
    assert [round(share, 2) for _, share in data.mixture.shares] == [0.75, 0.25]
    assert not data.clashes.isVisible()
    assert driver.window.train.recipe().data == [
        Source(source=str(path), weight=3.0, limit=500, licence="MIT"),
        Source(source="builtin:arithmetic"),
    ]
    lines[0].limit.setText("many")
    fault = data.fault()
    assert fault is not None
    assert "not a whole number" in fault.what


def test_licences_that_do_not_go_together_are_told(driver: Driver) -> None:
    _lines(driver)
    data = driver.window.train.data
    driver.window.train.show_recipe(Recipe(data=[
        Source(source="builtin:arithmetic", licence="CC-BY-SA-4.0"),
        Source(source="builtin:sums", licence="CC-BY-NC-4.0"),
    ]))  # fmt: skip
    driver.window.train.go_to(data)
    assert data.clashes.isVisible()
    assert data.clashes.text()


def test_a_hub_set_has_the_catalogues_licence(driver: Driver) -> None:
    lines = _lines(driver)
    driver.window.train.data.add("meta-math/MetaMathQA")
    assert lines[0].licence.placeholderText() == "MIT"


def test_a_source_that_was_looked_at_replaces_itself(driver: Driver) -> None:
    lines = _lines(driver)
    data = driver.window.train.data
    recipe = Recipe(data=[Source(source="builtin:sums", weight=2.0, limit=10)])
    driver.window.train.show_recipe(recipe)
    data.use(Source(source="builtin:sums", mapping={"prompt": "prompt"}, bad_rows="skip"))
    assert [line.value for line in lines] == [
        Source(source="builtin:sums", weight=2.0, limit=10, mapping={"prompt": "prompt"},
               bad_rows="skip")
    ]  # fmt: skip
    assert "bad rows are left out" in lines[0]._notes.text()


def test_what_the_stages_need_is_offered(driver: Driver) -> None:
    _lines(driver)
    train = driver.window.train
    for stage, wanted in (
        ("distill", {"arithmetic", "preferences", "feedback"}),
        ("rlhf", {"preferences"}),
        ("cpt", {"stories"}),
        ("kto", {"feedback", "preferences"}),
        ("sft", {"arithmetic", "preferences", "feedback"}),
    ):
        train.stage.choices.choose([stage])
        names = [train.data.builtin.itemText(at) for at in range(train.data.builtin.count())]
        assert wanted <= set(names)
