"""What CONTRIBUTING.md says is enough: each thing is added to a copy of the program, and found.

The copy is changed in the files that the section names and in no other; then a program of its own
looks for the addition by the doors that people use.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
NEW = "added"
"""What the document calls NAME."""


PREAMBLE = """
import json
import re
import runpy
from pathlib import Path
from PySide6.QtWidgets import QApplication, QPushButton, QWidget


def say(**found):
    print(json.dumps(found))


def opened():
    from studio.app import Studio
    from studio.paths import Home

    studio = Studio(QApplication([]), Home(Path("home")))
    studio.window.show()
    return studio


def rows_of(table):
    tables = runpy.run_path("packaging/readme.py")["TABLES"]
    return re.findall(r"^\\| `([^`]+)`", tables[table](), re.MULTILINE)
"""
"""What every program begins with: an answer, the window, and the names in a table of README."""


class Copy:
    """The program in a folder of its own, to be added to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changed: set[str] = set()
        for name in ("studio", "workers", "packaging"):
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, root / name, ignore=skipped)
        (root / "assets").symlink_to(ROOT / "assets")

    def add(self, path: str, text: str) -> None:
        assert not (self.root / path).exists()
        (self.root / path).write_text(text)
        self.changed.add(path)

    def insert(self, path: str, place: str, text: str) -> None:
        """Puts text before a place that is there once."""
        before = (self.root / path).read_text()
        assert before.count(place) == 1, (path, place)
        (self.root / path).write_text(before.replace(place, text + place))
        self.changed.add(path)

    def run(self, program: str) -> Any:
        """What a program said, run on the copy."""
        ended = subprocess.run(
            [sys.executable, "-c", PREAMBLE + program],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root), "QT_QPA_PLATFORM": "offscreen"},
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def files_named(title: str) -> set[str]:
    """The Python files that a section names, with ours in place of NAME."""
    section = DOCUMENT.partition(f"\n## Add {title}\n")[2].partition("\n## ")[0]
    return {name.replace("NAME", NEW) for name in re.findall(r"`([\w/]+\.py)`", section)}


def test_a_reward_is_added(copy: Copy) -> None:
    copy.insert(
        "workers/protocol/rewards.py",
        "AnyReward = (\n",
        f'''class Added(Reward, frozen=True, tag="{NEW}"):
    """1 for an empty answer, falling to 0 at a number of letters."""

    module = "{NEW}"
    top = 1.0
    measures = "form"

    letters: Annotated[int, option("Letters", "From so many on it is 0.", ge=1)] = 100


''',
    )
    copy.insert("workers/protocol/rewards.py", "    Format | MathAnswer", "    Added |")
    copy.add(
        f"workers/rewards/{NEW}.py",
        """from workers.rewards.sandbox import Outcome


class Short:
    def __init__(self, letters):
        self.letters = letters

    def score(self, samples):
        return [Outcome(max(0.0, 1 - len(one.completion) / self.letters)) for one in samples]


def build(reward, home, stack):
    return Short(reward.letters)
""",
    )
    assert copy.changed == files_named("a reward")
    found = copy.run(
        """
from studio.theme import Theme
from studio.widgets.rewards import RewardEditor
from workers.protocol.recipe import format_recipe, parse_recipe
from workers.rewards import Rewards, Sample
from workers.train.health.history import setting_of

recipe = parse_recipe('''
stage = "grpo"
[[data]]
source = "builtin:arithmetic"
[[rewards]]
kind = "added"
letters = 10
weight = 0.5
''')
setting = setting_of(recipe)
app = QApplication([])
editor = RewardEditor(Theme(app, "light"))
editor.set_value(recipe.rewards)
say(
    score=Rewards(recipe.rewards, Path()).score([Sample([], "12345", "", 5)]).totals,
    coach=[setting.top, *setting.form],
    offered=[action.objectName() for action in editor.menu.actions()],
    kept=parse_recipe(format_recipe(recipe)) == recipe and editor.value == recipe.rewards,
    readme=rows_of("rewards"),
)
"""
    )
    assert found["score"] == [0.25]
    assert found["coach"] == [0.5, f"reward/{NEW}"]
    assert f"add:{NEW}" in found["offered"]
    assert found["kept"]
    assert NEW in found["readme"]


def test_a_page_is_added(copy: Copy) -> None:
    copy.add(
        f"studio/pages/{NEW}.py",
        """from studio.widgets.page import Page


class AddedPage(Page):
    def __init__(self):
        super().__init__("Added", "What was added.")
""",
    )
    window = "studio/window.py"
    copy.insert(window, '    "settings": (', f'    "{NEW}": ("Added", "plus"),\n')
    copy.insert(
        window,
        "    @cached_property\n    def settings(",
        f"""    @cached_property
    def {NEW}(self):
        from studio.pages.{NEW} import AddedPage

        return self._add("{NEW}", AddedPage())

""",
    )
    assert copy.changed == files_named("a page")
    found = copy.run(
        f"""
studio = opened()
button = studio.window.findChild(QPushButton, "nav:Added")
button.click()
say(shown=studio.window.page is studio.window.{NEW}, checked=button.isChecked())
studio.close()
"""
    )
    assert found == {"shown": True, "checked": True}


def test_a_stage_is_added(copy: Copy) -> None:
    stages = "workers/protocol/stages.py"
    copy.insert(stages, '    "cpt", "sft"', f'    "{NEW}",\n')
    copy.insert(
        stages,
        '    StageSpec(\n        id="sft",',
        f"""    StageSpec(
        id="{NEW}",
        title="Something added",
        words="You have added something.",
        icon="plus",
        usual=True,
        supervision="completions",
        fields=("completion",),
        bring="Bring it.",
        defaults=(Default(values={{"training.learning_rate": 0.0125}}, source="a guess"),),
        charts=("token_accuracy", "loss"),
        measures=("loss",),
        trainer="{NEW}",
    ),
""",
    )
    copy.add(f"workers/train/{NEW}.py", "def build_trainer(context): ...\n")
    assert copy.changed == files_named("a stage")
    found = copy.run(
        f"""
from studio.pages.train.stage import StageStep
from workers import train
from workers.protocol.recipe import parse_recipe

recipe = parse_recipe('''
stage = "{NEW}"
[[data]]
source = "builtin:arithmetic"
''')
studio = opened()
studio.window.show_page(studio.window.train)
say(
    rate=recipe.training.learning_rate,
    trainer=train._stage(recipe).__name__,
    card=studio.window.findChild(QWidget, "choice:{NEW}") is not None,
    readme=rows_of("stages"),
)
studio.close()
"""
    )
    assert found["rate"] == 0.0125
    assert found["trainer"] == f"workers.train.{NEW}"
    assert found["card"]
    assert NEW in found["readme"]


def test_a_metric_is_added(copy: Copy) -> None:
    metrics = "workers/protocol/metrics.py"
    spec = f"""    MetricSpec(
        name="{NEW}",
        meaning="what was added",
        better="up",
        trainers=("theirs/{NEW}",),
        drawn=Drawn("{NEW}"),
    ),
"""
    chart = f'    ChartSpec(key="{NEW}", title="Added", form="plain"),\n'
    copy.insert(metrics, '    MetricSpec(\n        name="token_accuracy",', spec)
    copy.insert(metrics, '    ChartSpec(key="token_accuracy",', chart)
    assert copy.changed == files_named("a metric")
    found = copy.run(
        f"""
from workers.protocol.metrics import TRAINERS

studio = opened()
say(
    named=TRAINERS["theirs/{NEW}"],
    drawn="{NEW}" in studio.window.run.charts,
    readme=rows_of("metrics"),
)
studio.close()
"""
    )
    assert found["named"] == NEW
    assert found["drawn"]
    assert NEW in found["readme"]


def test_an_export_is_added(copy: Copy) -> None:
    copy.insert(
        "workers/protocol/exports.py",
        '    _gguf("Q8_0",',
        '    _gguf("Q5_0", "What was added.", "plus", 0.8, 0.9),\n',
    )
    assert copy.changed == files_named("an export")
    found = copy.run(
        """
import llama_cpp
from typer.testing import CliRunner
from studio.cli import app as commands

studio = opened()
studio.window.show_page(studio.window.export)
shown = CliRunner().invoke(commands, ["export", "--help"], env={"COLUMNS": "400"})
say(
    card=studio.window.findChild(QWidget, "choice:gguf:Q5_0") is not None,
    helped="gguf:Q5_0" in shown.output,
    written=hasattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_Q5_0"),
    readme=rows_of("exports"),
)
studio.close()
"""
    )
    assert found["card"]
    assert found["helped"]
    assert found["written"]
    assert "gguf:Q5_0" in found["readme"]


def test_a_dataset_schema_is_added(copy: Copy) -> None:
    schemas = "workers/data/schema/schemas.py"
    copy.insert(
        schemas,
        "_DECLARED = (\n",
        """def _find_added(keys: Collection[str], statistics: ColumnStatistics) -> Found | None:
    if not {"frage", "antwort"} <= set(keys):
        return None
    mapping: dict[str, Column] = {"frage": "prompt", "antwort": "completion"}
    return Found(mapping, "frage is the prompt, antwort the answer.")


""",
    )
    place = '    Schema("text", '
    words = '\'a "frage" with an "antwort"\''
    copy.insert(schemas, place, f'    Schema("{NEW}", {words}, _find_added, read_answered),\n')
    assert copy.changed == files_named("a dataset schema")
    found = copy.run(
        """
from workers.data.reader import read_table, shapes

Path("d.jsonl").write_text('{"frage": "Hi?", "antwort": "Yes."}\\n{"frage": "", "antwort": "No."}')
table = read_table("d.jsonl", bad_rows="skip")
say(
    format=table.format,
    stages=[stage for stage in table.detected.stages if stage in ("sft", "dpo")],
    said=[message["content"] for message in table.rows[0].messages],
    bad=[bad.kind for bad in table.bad],
    words=shapes(),
)
"""
    )
    assert found["format"] == NEW
    assert found["stages"] == ["sft"]
    assert found["said"] == ["Hi?", "Yes."]
    assert found["bad"] == ["missing_prompt"]
    assert 'a "frage" with an "antwort"' in found["words"]
