"""Runs that torchrun or SLURM start: what the studio writes for them, and what it says while it waits."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from engine import files, runs
from engine.__main__ import main
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import outside
from engine.runs.folder import Status
from engine.runs.worker import Worker


def test_a_run_waits_for_torchrun_with_the_line_that_starts_it(world):
    recipe = world.recipe.override("train.launcher=torchrun", "train.max_steps=2")
    run = runs.start(recipe, world.workspace)
    status = run.status()
    assert (status.state, status.awaits) == ("queued", "torchrun")
    words = shlex.split(status.message.removeprefix("waits for: "))
    assert words[-4:] == ["-m", "engine", "work", str(run.path)]
    assert {"--standalone", "--nproc-per-node=gpu", "--max-restarts=0"} <= set(words)

    old = {**asdict(status), "created": time.time() - 9e4, "heartbeat": time.time() - 9e4}
    files.write_json(run.path / "status.json", old)
    assert run.status().state == "queued", "however long that takes"
    assert Worker(run).work() == "finished"
    assert run.status().awaits == ""


def test_the_line_for_several_machines_names_where_they_meet(tmp_path):
    recipe = Recipe().override("train.nodes=2", "train.devices=4", "train.accumulation=2", "train.restarts=3")
    words = shlex.split(outside.torchrun(recipe, tmp_path / "novel"))
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-backend=c10d", "--rdzv-endpoint=FIRST_MACHINE:29500",
            "--rdzv-id=novel", "--max-restarts=3"} <= set(words)


def test_the_batch_script_is_bash_that_asks_for_what_the_recipe_says(tmp_path):
    recipe = Recipe().override("train.nodes=2", "train.devices=4", "train.sbatch=[--partition=gpu, --time=4:00:00]")
    script = tmp_path / "slurm.sh"
    script.write_text(outside.sbatch(recipe, tmp_path / "a run"))
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--partition=gpu", "--time=4:00:00", "--requeue",
            "--signal=USR1@120"} <= asked
    assert f"srun --wait=0 --kill-on-bad-exit=1 {sys.executable} -m engine work '{tmp_path}/a run'" in lines


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster's `sbatch` that answers, and takes no script with the word refuse in it."""
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text('#!/bin/bash\nif grep -q refuse "$1"; then echo "error: invalid partition" >&2; exit 1; fi\n'
                       "echo Submitted batch job 42\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")


def test_a_run_is_submitted_where_slurm_is_here(world, slurm, capsys):
    recipe = world.workspace.path / "slurm.yaml"
    recipe.write_text(world.recipe.override("train.launcher=slurm", "name=batch").to_yaml())
    assert main(["train", str(recipe), "--workspace", str(world.workspace.path)]) == 0
    assert "in SLURM's queue: Submitted batch job 42" in capsys.readouterr().out
    run = runs.find("batch", world.workspace)
    runs.stop(run)
    assert (run.status().state, run.status().awaits) == ("stopped", "")

    refused = world.recipe.override("train.launcher=slurm", "train.sbatch=[--partition=refuse]")
    with pytest.raises(UserError, match=r"SLURM refused .*slurm.sh: error: invalid partition. Set what it asks for in"):
        runs.start(refused, world.workspace)


def test_the_command_line_shows_line_and_script(world, capsys):
    run = world.run("name=shown", "train.devices=2")
    where = ["--workspace", str(world.workspace.path)]
    assert main(["torchrun", "shown", *where]) == 0
    assert capsys.readouterr().out.strip() == outside.torchrun(runs.recipe_of(run), run.path)
    assert main(["slurm", "shown", *where]) == 0
    said = capsys.readouterr()
    assert (run.path / "slurm.sh").read_text() in said.out
    assert said.err == ""
    run.write_status(state="finished")
    for command in ("torchrun", "slurm"):
        assert main([command, "shown", *where]) != 0
        said = capsys.readouterr()
        assert "shown is finished, so there is nothing left to train" in said.err
        assert said.out == ""


def test_a_worker_on_another_machine_is_judged_by_its_heartbeat_alone(world):
    run = world.run()
    told = Status(state="running", host="another-machine", pid=1, heartbeat=time.time())
    files.write_json(run.path / "status.json", asdict(told))
    assert run.status().state == "running", "no process here has its number, and nobody here holds its lock"
    silent = world.run()
    files.write_json(silent.path / "status.json", {**asdict(told), "heartbeat": time.time() - 1200})
    assert silent.status().state == "lost"
