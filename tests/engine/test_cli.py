"""The command line: exit codes, one sentence for a mistake, help from the configs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from engine.config import UserError
from studio.cli import main


def test_help_lists_every_command_and_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    top = capsys.readouterr().out
    for command in ("curate", "tokenize", "train", "resume", "stop", "runs", "export", "generate", "app"):
        assert command in top
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = capsys.readouterr().out
    assert "optim.lr = 0.001" in words
    assert "Peak learning rate" in words
    assert "schedule.kind = cosine  (cosine | linear | constant | wsd)" in words


@pytest.mark.parametrize(("line", "sentence"), [
    (["train", "nonesuch"], "neither a readable file nor a shipped recipe"),
    (["train", "demo", "optim.lr=-1"], "optim.lr: is -1, must be more than 0"),
    (["train", "demo", "lr"], "is not an override"),
    (["train", "demo", "optim.lr=[1"], "check its brackets and quotes"),
    (["train", "demo", "jobs=train"], "jobs: is 'train', must be a list"),
    (["app", "--port", "99999"], "port 99999 is not a port"),
    (["stop", "nobody"], "there is no run called nobody"),
    (["stop", "../nobody"], "there is no run called"),
    (["resume", "nobody"], "there is no run called nobody"),
    (["generate", "nothing", "It was"], "nothing is neither a bundle nor a folder; there are none yet"),
    (["benchmark", "nothing"], "nothing is none of the bundles"),
    (["bias", "nothing"], "nothing is none of the datasets"),
    (["train", "demo", "train.nodes=2", "train.micro_batch_size=8"],
     "train.nodes is 2, and the studio starts processes on this machine alone; set train.launcher to torchrun"),
    (["run", "demo", "evaluate.text_of=nobody"], "evaluate.text_of is nobody, and there is no such run"),
    (["run", "demo", "jobs=[evaluate]", "from_run=nobody"], "from_run is nobody, and there is no such run"),
    (["plan", "demo", "--machine", "B9000"], "There is no machine B9000 in prices.yaml; there are T4"),
    (["plan", "demo", "--devices", "4"], "--devices counts those of --machine; name one"),
    (["plan", "demo", "--machine", "H100", "--devices", "0"], "--devices is 0, must be from 1 to 1024"),
    (["train", "demo", "corpus.workers=banana"], "write a number of processes such as 2, local, local:2"),
])
def test_a_mistake_is_one_line_on_stderr(workspace, capsys, line, sentence):
    assert main(line) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(workspace.place("runs").iterdir()), "no folder was made"


def test_a_corpus_outside_the_workspace_needs_a_word(workspace, tmp_path, capsys):
    outside = tmp_path / "mine"
    outside.mkdir()
    for number in range(20):
        (outside / f"{number}.txt").write_text(f"A story of a stone, the {number}th of its kind, and long enough. " * 9)
    asked = ["curate", "demo", f"corpus.sources=[{{path: {outside}}}]", "name=mine"]
    assert main(asked) == 1
    assert "is outside the workspace" in capsys.readouterr().out
    assert main([*asked, "--allow", str(outside)]) == 0
    assert "dataset:" in capsys.readouterr().out


def test_settings_may_stand_before_and_after_options(workspace, tmp_path, capsys):
    asked = ["curate", "demo", "name=mine", "--workspace", str(tmp_path / "other"), "corpus.sources=[{path: nowhere}]"]
    assert main(asked) == 1
    assert "nowhere" in capsys.readouterr().out
    assert (tmp_path / "other" / "runs" / "mine").is_dir()
    with pytest.raises(SystemExit):
        main([*asked, "--nonsense"])


def test_only_a_run_folder_is_worked_on(workspace, tmp_path, capsys):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    assert main(["work", str(foreign)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert list(foreign.iterdir()) == []


def test_records_that_could_not_be_read_are_named(workspace, capsys):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    story = '{"text": "A story of a stone, the %dth of its kind, and long enough to be kept here."}'
    good = [story % number for number in range(9)]
    (folder / "a.jsonl").write_text("\n".join([*good[:4], '{"text": ', *good[4:]]))
    assert main(["curate", "demo", "corpus.sources=[{path: corpora/mine}]", "name=mine"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 record could not be read" in said
    assert "a.jsonl line 5 is not JSON" in said
    assert "dataset:" in said


def test_a_plan_says_what_a_recipe_takes_and_what_to_make_of_an_hour(workspace, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["plan", "demo", "train.max_steps=2000", "--hours", "1"]) == 0
    said = capsys.readouterr().out
    for line in ("parameters", "tokens a parameter", "FLOPs", "peak memory", "time", "energy", "cost", "emissions",
                 "validation loss", "compute-optimal", "Electricity", "With 1 h", "learning rate"):
        assert line in said
    assert "tokens              4.1M" in said  # 2,000 steps of 16 rows of 128
    settings = next(line for line in said.splitlines() if line.strip().startswith("settings")).split(None, 1)[1]
    assert main(["plan", "demo", *shlex.split(settings)]) == 0  # what it proposes can be typed
    assert re.search(r"time +(0:59|1:00):\d\d: starting", capsys.readouterr().out)
    assert not list(workspace.place("runs").iterdir())


def test_a_plan_that_does_not_fit_names_the_settings_that_make_it_fit(workspace, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["plan", "demo", "model={family: llama, size: 7b}"]) == 0
    said = capsys.readouterr().out
    assert "It won't fit" in said
    remedy = next(line for line in said.splitlines() if line.strip().startswith("Size "))
    assert main(["plan", "demo", *shlex.split(remedy.split(": ", 1)[1])]) == 0
    assert "It won't fit" not in capsys.readouterr().out


def test_a_plan_for_a_rented_machine_is_paid_in_rent_and_has_the_table(workspace, capsys):
    assert main(["plan", "demo", "--machine", "H100", "--devices", "2", "--money", "5"]) == 0
    said = capsys.readouterr().out
    assert "demo on 2 × H100" in said
    assert "USD for rent" in said
    assert "With 5 USD for rent" in said
    assert [line.split()[0] for line in said.splitlines()[-11:]] == ["1", "2", "4", "8", "16", "32", "64", "128", "256",
                                                                     "512", "1,024"]


def test_runs_of_an_empty_workspace(workspace, capsys):
    assert main(["runs"]) == 0
    assert "no runs yet" in capsys.readouterr().out


def test_a_detached_run_is_listed_and_watched_from_another_process(workspace, toy_recipe, capsys):
    recipe = workspace.path / "toy.yaml"
    recipe.write_text(toy_recipe.to_yaml())
    command = [sys.executable, "-m", "engine"]
    started = subprocess.run([*command, "curate", str(recipe), "--detach"], capture_output=True, text=True, check=True)
    assert "toy started in" in started.stdout
    assert main(["watch", "toy"]) == 0
    assert main(["runs"]) == 0
    said = capsys.readouterr().out
    assert "finished" in said
    assert "dataset:" in said


def test_a_dataset_is_found_by_the_name_it_was_made_under(workspace):
    def make(name, number):
        return workspace.make("datasets", name, {"number": number}, lambda folder: {})

    demo, other = make("demo", 1), make("demo-lr-range", 2)
    assert workspace.find("datasets", "demo") == demo
    assert workspace.find("datasets", other.name) == other
    assert workspace.find("datasets", "demo-l") == other
    for name, words in (("dem", "may be several"), ("", "is none"), ("x", "is none")):
        with pytest.raises(UserError, match=words):
            workspace.find("datasets", name)
