"""Outside: commands and scripts by which others than the studio start a run's processes: torchrun and SLURM.

They start the same `python -m engine work RUN_DIR` in every process; the run folder must lie where all machines see it.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from engine import files
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs.folder import Run
from engine.runs.launch import PROJECT, clear

OUTSIDE = ("torchrun", "slurm")
GRACE_SECONDS = 120  # before a job's time limit, at which it saves and stops
PORT = 29500         # where torchrun's processes meet, as is its custom


def torchrun(recipe: Recipe, run_dir: Path) -> str:
    """The line that starts the run on one machine, or, typed on each of several, on all of them."""
    train, environment = recipe.train, _environment()
    beside = Path(sys.executable).with_name("torchrun")
    words = [str(beside) if beside.exists() else "torchrun"]
    if train.nodes == 1:
        words.append("--standalone")
    else:
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or a restart finds what the ranks before it left
        words += [f"--nnodes={train.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint=FIRST_MACHINE:{PORT}",
                  f"--rdzv-id={run_dir.name}"]
    auto = "1" if train.device == "cpu" else "gpu"
    words += [f"--nproc-per-node={auto if train.devices == 'auto' else train.devices}",
              f"--max-restarts={train.restarts}", "-m", "engine", "work", str(run_dir)]
    return "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items()) + shlex.join(words)


def sbatch(recipe: Recipe, run_dir: Path) -> str:
    """The batch script that trains the run under SLURM, and goes on in a new job where the time limit ended one."""
    train, place = recipe.train, shlex.quote(str(run_dir))
    devices = "1" if train.devices == "auto" else train.devices
    options = [f"--job-name={run_dir.name}", f"--nodes={train.nodes}", f"--ntasks-per-node={devices}",
               f"--output={run_dir / 'log.txt'}", "--open-mode=append", "--requeue", f"--signal=USR1@{GRACE_SECONDS}"]
    if train.device != "cpu":
        options.append(f"--gpus-per-node={devices}")
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in (*options, *train.sbatch))]
    if train.devices == "auto" and train.device != "cpu":
        lines.append("# One GPU a machine, since train.devices is auto; set it to as many as a machine has.")
    lines += [*(f"export {name}={shlex.quote(value)}" for name, value in _environment().items()),
              'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
              "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
              "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
              f"srun --wait=0 --kill-on-bad-exit=1 {shlex.quote(sys.executable)} -m engine work {place}",
              f"# {GRACE_SECONDS} s before the time limit the run saves and leaves this file; it goes on in a new job.",
              f"if [ -e {place}/requests/requeue ]; then",
              f"    rm -f {place}/requests/requeue",
              '    scontrol requeue "$SLURM_JOB_ID"',
              "fi"]
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    """What a fresh shell needs to find the engine: nothing where it is installed."""
    try:
        distribution("training-studio")
    except PackageNotFoundError:
        return {"PYTHONPATH": str(PROJECT)}
    return {}


def write_script(run: Run, recipe: Recipe) -> Path:
    """Write the run's batch script into its folder."""
    script = run.path / "slurm.sh"
    files.write(script, sbatch(recipe, run.path))
    return script


def require_here(recipe: Recipe, what: str) -> None:
    """Refuse, for `what` starts runs on this machine alone, a recipe whose processes are started by something else."""
    if recipe.train.launcher in OUTSIDE and {"train", "sweep"} & {*recipe.jobs}:
        raise UserError(f"train.launcher is {recipe.train.launcher}, but {what} starts processes on this machine "
                        "alone; set it to local, or start the training without.", where="train.launcher")


def hand_over(run: Run, recipe: Recipe) -> bool:
    """Leave the start of a run to torchrun or SLURM, if its recipe says so: the status then tells for what it waits.

    A script is submitted at once where SLURM's `sbatch` is here. Raises UserError if that refuses it.
    """
    if recipe.train.launcher not in OUTSIDE or "train" not in recipe.jobs:
        return False
    clear(run)
    if recipe.train.launcher == "torchrun":
        message = f"waits for: {torchrun(recipe, run.path)}"
    else:
        script = write_script(run, recipe)
        message = f"waits for: sbatch {shlex.quote(str(script))}"
        if shutil.which("sbatch"):
            message = _submit(run, script)
    run.write_status(state="queued", awaits=recipe.train.launcher, message=message, error="", pid=0, host="")
    return True


def _submit(run: Run, script: Path) -> str:
    try:
        answer = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise UserError(f"sbatch could not be run ({problem}); submit {script} by hand.", where=run.name) from None
    if answer.returncode:
        said = " ".join((answer.stderr or answer.stdout).split())
        raise UserError(f"SLURM refused {script}: {said}. Set what it asks for in train.sbatch, or edit the script and "
                        "submit it by hand.", where=run.name)
    return f"in SLURM's queue: {' '.join(answer.stdout.split())}"
