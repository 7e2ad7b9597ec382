"""The worker, in a process of its own, when the machine lets it down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine import files, runs
from engine.config import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_a_log_that_cannot_be_written_does_not_end_a_run(toy_recipe, workspace):
    run = runs.create(toy_recipe.override("jobs=[curate]"), workspace)
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-m", "engine", "work", str(run.path)], cwd=ROOT, stdout=full,
                               stderr=full, check=False)
    assert run.status().state == "finished"
    assert ended.returncode == 0


def test_a_pause_is_refused_outside_training(toy_recipe, workspace):
    run = runs.create(toy_recipe, workspace)
    run.write_status(state="finished", job="export")
    with pytest.raises(UserError, match="only training can be paused"):
        runs.pause(run)
    assert not run.requested("pause")


def test_what_is_made_can_be_read_by_whoever_may_read_its_folder(tmp_path):
    with files.making(tmp_path / "made") as folder:
        (folder / "private").touch(mode=0o600)
    assert (tmp_path / "made" / "private").stat().st_mode & 0o666 == (tmp_path / "made").stat().st_mode & 0o666
