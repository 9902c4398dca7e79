"""The headless verbs: one JSON object on stdout, and an exit code that tells the truth."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.__main__ import main
from studio.settings import Settings, save_settings
from workers.card_lock import hold
from workers.protocol.cards import Holder
from workers.protocol.exports import PARITY, record_parity
from workers.protocol.jobs import Train
from workers.protocol.recipe import Recipe, format_recipe
from workers.protocol.wire import read_job
from workers.turns import NAMED


class Cli:
    """Runs verbs within this process, with the fake worker."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, Any, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(stdin))
            code = main([*arguments, "--json", "--home", str(self.home)])
        out, err = self._capsys.readouterr()
        return code, json.loads(out) if out else None, err


@pytest.fixture
def cli(tmp_path: Path, fake: Settings, capsys: pytest.CaptureFixture[str]) -> Cli:
    home = tmp_path / "cli home"
    home.mkdir()
    save_settings(home / "settings.toml", fake)
    return Cli(home, capsys)


@pytest.fixture
def file(tmp_path: Path, recipe: Recipe) -> str:
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(recipe))
    return str(path)


def test_the_whole_way(cli: Cli, file: str) -> None:
    code, run, _ = cli("train", file)
    assert code == 0
    assert {"run", "folder", "status", "steps", "first", "last", "seconds", "evaluation"} <= set(
        run
    )
    assert (run["status"], run["steps"]) == ("finished", 8)
    assert run["first"]["loss"] > run["last"]["loss"]
    assert run["evaluation"]["before"]["loss"] > run["evaluation"]["after"]["loss"]

    code, runs, _ = cli("runs")
    assert code == 0
    assert [r["run"] for r in runs] == [run["run"]]
    assert {"name", "stage", "status", "cause", "steps", "parent", "metrics"} <= set(runs[0])
    assert cli("show", "small")[1]["run"] == run["run"]

    code, made, _ = cli("export", "small", "--to", "gguf:Q4_K_M", "--to", "merged")
    assert code == 0
    assert [f["kind"] for f in made["files"]] == ["gguf:Q4_K_M", "merged"]
    assert all(check["passed"] for check in made["parity"])

    code, said, _ = cli("chat", "small", "--prompt", "good day")
    assert code == 0
    assert said["answer"] == "You said: good day"
    assert {"tokens", "tokens_per_second"} <= set(said)
    assert cli("chat", made["files"][0]["path"], stdin="from a pipe")[1]["answer"].endswith("pipe")
    assert cli("chat", "small", "as argument")[1]["answer"].endswith("argument")

    code, rebuilt, _ = cli("rebuild-index")
    assert code == 0
    assert rebuilt["jobs"] >= 5
    assert cli("show", "small")[1] == cli("runs")[1][0]


def test_columns_are_mapped_for_a_run(cli: Cli, file: str) -> None:
    code, run, _ = cli("train", file, "--map", "ask=prompt", "--map", "1:said=completion")
    assert code == 0
    task = read_job(Path(run["folder"])).task
    assert isinstance(task, Train)
    assert task.recipe.data[0].mapping == {"ask": "prompt", "said": "completion"}
    code, refusal, _ = cli("train", file, "--map", "ask=question")
    assert (code, refusal["error"]) == (1, "--map ask=question maps no column.")


def test_refusals_are_one_object_and_a_code(cli: Cli, file: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(Path(file).read_text().replace("max_steps", "maxsteps"))
    for arguments, word in (
        (("train", "/none.toml"), "/none.toml"),
        (("train", str(wrong)), "training.maxsteps"),
        (("show", "nothing"), "nothing"),
        (("chat", "nothing", "hi"), "nothing"),
        (("export", "nothing"), "nothing"),
        (("stop", "nothing"), "nothing"),
        (("show", "x", "--bogus"), "could not be understood"),
    ):
        code, said, _ = cli(*arguments)
        assert code != 0, arguments
        assert {"error", "cause", "remedy"} <= set(said)
        assert word in said["error"]
        assert said["remedy"]


def test_an_export_that_differs_is_told_and_not_talked_to(
    cli: Cli, tmp_path: Path, recipe: Recipe
) -> None:
    import msgspec

    path = tmp_path / "differs.toml"
    path.write_text(format_recipe(msgspec.structs.replace(recipe, name="differs")))
    run = cli("train", str(path))[1]
    code, made, err = cli("export", "differs", "--to", "gguf:f16")
    assert (code, made["ok"]) == (1, False)
    assert [one["check"] for one in made["parity"] if not one["passed"]] == [
        "gguf:f16: same tokens"
    ]
    assert Path(made["files"][0]["path"]).is_file()
    assert "gguf:f16: same tokens" in err
    assert "Do not use it." in err

    code, said, err = cli("chat", "differs", "hello")
    assert (code, said["model"]) == (0, run["folder"])
    assert "gguf:f16: same tokens" in err
    named = made["files"][0]["path"]
    assert cli("chat", named, "hello")[1]["model"] == named


def test_the_newest_file_that_speaks_alike_is_talked_to(cli: Cli, file: str) -> None:
    exports = Path(cli("train", file)[1]["folder"]) / "exports"
    made = cli("export", "small", "--to", "gguf:Q8_0", "--to", "gguf:f16")[1]
    assert made["ok"]
    older, newer = (Path(one["path"]) for one in made["files"])
    os.utime(older, (1, 1))
    assert cli("chat", "small", "hello")[1]["model"] == str(newer)
    record_parity(exports, newer.name, [])
    said, err = cli("chat", "small", "hello")[1:]
    assert said["model"] == str(older)
    assert f"{newer.name} is left out: its comparison with the trained model never ended" in err
    (exports / PARITY).unlink()  # as an export of an earlier version left it
    assert cli("chat", "small", "hello")[1]["model"] == str(newer)


def test_a_failed_run_is_told_and_has_a_code(cli: Cli, tmp_path: Path, recipe: Recipe) -> None:
    import msgspec

    path = tmp_path / "fails.toml"
    path.write_text(format_recipe(msgspec.structs.replace(recipe, name="fails")))
    code, said, err = cli("train", str(path))
    assert code == 1
    assert said["status"] == "failed"
    assert said["error"].startswith("It failed.")
    assert "Name it otherwise" in err


def test_a_failed_run_is_resumed_with_other_settings(
    cli: Cli, tmp_path: Path, recipe: Recipe
) -> None:
    import msgspec

    path = tmp_path / "greedy.toml"
    path.write_text(format_recipe(msgspec.structs.replace(recipe, name="greedy")))
    _, run, told = cli("train", str(path))
    command = f"python -m studio resume {run['run']} --set training."
    assert f"{command}batch_size=1 --set training.gradient_accumulation=2" in told
    assert f"{command}gradient_checkpointing=true" in told
    names = ["smaller micro-batch", "gradient checkpointing", "shorter examples"]
    assert [way["name"] for way in run["less_memory"]] == names
    for change, word in (
        ("training.learning_rate=1e-5", "training.learning_rate cannot be changed"),
        ("training.batch_size", "gives no value"),
        ("training.batch_size=many", "training.batch_size is not usable"),
    ):
        code, said, _ = cli("resume", run["run"], "--set", change)
        assert code == 1
        assert word in said["error"]
    code, said, err = cli(
        "resume", run["run"], "--set", "training.batch_size=1",
        "--set", "training.gradient_accumulation=2",
    )  # fmt: skip
    assert (code, said["status"], said["steps"]) == (0, "finished", 8)
    assert "from the checkpoint of step 2" in err
    assert "From step 2 on: training.batch_size 2 → 1" in err
    assert (said["less_memory"], [change["step"] for change in said["changes"]]) == ([], [2])


def test_a_home_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, said, _ = Cli(blocked, capsys)("runs")
    assert code == 1
    assert str(blocked) in said["error"]


def test_the_home_may_stand_before_the_verb(cli: Cli) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "studio", "--home", str(cli.home), "runs", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout) == []


def test_people_get_words_on_stderr_and_tables(cli: Cli, file: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "studio", "train", file, "--home", str(cli.home)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "finished after 8 steps" in ended.stdout
    assert "Held-out loss before training" in ended.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "studio", "show", "nothing", "--home", str(cli.home)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "There is no run called 'nothing'" in wrong.stderr
    assert wrong.stdout == ""


def test_without_a_display_the_window_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    ended = subprocess.run(
        [sys.executable, "-m", "studio", "--home", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "no display" in ended.stderr
    assert "demo" in ended.stderr


def test_another_programs_config_is_imported_and_trained(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "theirs.yml"
    config.write_text(
        "base_model: starter\nlearning_rate: 2e-4\nmax_steps: 8\nmicro_batch_size: 2\n"
        "wandb_project: mine\nodd: 1\ndatasets:\n  - {path: acme/rows, type: alpaca}\n"
    )
    out = tmp_path / "ours.toml"
    code, made, err = cli("import", str(config), "--out", str(out), "--data", "builtin:arithmetic")
    assert code == 0
    assert made["recipe"] == str(out)
    assert {"learning_rate", "max_steps"} <= set(made["carried"])
    assert "wandb_project" in made["changed"]
    assert made["unknown"] == ["odd"]
    assert "Axolotl" in err
    assert cli("train", str(out))[1]["status"] == "finished"
    config.write_text(config.read_text().replace("acme/rows", "builtin:arithmetic"))
    code, run, err = cli("train", str(config))
    assert (code, run["status"], run["steps"]) == (0, "finished", 8)
    assert "Not known: odd" in err
    assert "Carried over: base_model, " in err
    config.write_text("what: ever")
    code, refused, _ = cli("import", str(config))
    assert code == 1
    assert "LLaMA-Factory" in refused["cause"]


@pytest.mark.usefixtures("runtime_folder")
def test_a_chat_that_waits_for_the_card_says_how_not_to(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = psutil.Process()
    holder = Holder(pid=me.pid, started=me.create_time(), job="/a", name="elsewhere", kind="train")
    monkeypatch.setenv(NAMED, "GPU-test")
    (tmp_path / "a.gguf").touch()
    held = ExitStack()
    held.enter_context(hold("GPU-test", holder) or ExitStack())
    ends = threading.Timer(1.0, held.close)
    ends.start()
    code, _, err = cli("chat", str(tmp_path / "a.gguf"), "hello")
    ends.join()
    assert code == 0
    assert "elsewhere is training\nWith --cpu it begins now, slowly." in err
