"""The catalogue in the wizard: models by the GPU, datasets by the stage."""

from __future__ import annotations

from tests.gui.conftest import Driver


def test_models_are_offered_by_the_gpu_and_datasets_by_the_stage(driver: Driver) -> None:
    driver.begin()
    train = driver.window.train
    train.go_to(train.model)
    train.draft_model.choose_base("hub", "Qwen/Qwen3-8B")
    chooser = train.model.catalogue
    assert chooser.box.currentText() == "Qwen/Qwen3-8B"
    assert chooser.facts.text().startswith("8.19 billion parameters")
    assert chooser.facts.text().endswith(
        "QLoRA from 12 GB and LoRA from 24 GB."
    )  # as it is planned
    every = chooser.box.count()
    chooser.card.setCurrentIndex(chooser.card.findData(8))
    assert 30 < chooser.box.count() < every
    assert chooser.box.findText("Qwen/Qwen3-4B") > 0
    assert chooser.box.findText("Qwen/Qwen3-14B") < 0
    assert chooser.box.findText("Qwen/Qwen3.8-27B") < 0
    chooser.box.setCurrentIndex(chooser.box.findText("google/gemma-4-E2B-it"))
    chooser.box.activated.emit(chooser.box.currentIndex())
    assert train.recipe().model.base == "google/gemma-4-E2B-it"
    assert "thinking on or off, takes tools, Apache-2.0" in chooser.facts.text()
    train.draft_model.choose_base("hub", "somebody/else")
    assert chooser.facts.isHidden()

    train.draft_model.choose_base("starter", "starter")
    assert chooser.isHidden()
    train.go_to(train.data)
    sets = train.data.hub_sets.box
    tools = sets.findText("Salesforce/xlam-function-calling-60k, tools, 60,000 rows")
    assert sets.itemData(tools) == "Salesforce/xlam-function-calling-60k"
    train.draft_model.change(stage="dpo")
    assert [sets.itemData(at) for at in range(sets.count())] == [
        "trl-lib/ultrafeedback_binarized", "llamafactory/ultrafeedback_binarized",
        "Intel/orca_dpo_pairs", "HumanLLMs/Human-Like-DPO-Dataset",
    ]  # fmt: skip
    driver.click("add-hub-set")
    assert [one.source for one in train.recipe().data] == ["trl-lib/ultrafeedback_binarized"]
    train.draft_model.change(stage="cpt")
    assert train.data.hub_sets.isHidden()
