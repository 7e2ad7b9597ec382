"""The world of `faults.py`: a workspace with a tiny run that was not troubled, and runs that shall end up the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine import runs
from engine.recipe import Recipe
from engine.runs import Run, checkpoint
from engine.workspace import Workspace

HERE = Path(__file__).resolve().parent
WEIGHTS = ("model.safetensors", "state/optimizer.safetensors", "state/weights.safetensors")
LAUNCH = "import sys; from engine.runs import Run; from engine.runs.launch import launch; launch(Run(sys.argv[1]))"
POLL_SECONDS = 0.05

Row = tuple[str, int, int, str, float | None]  # cause, lost, different, note, seconds


def recipe(steps: int) -> Recipe:
    return Recipe().override(
        "name=untroubled", "corpus.sources=[{path: corpora/toy}]", "tokens.vocab_size=300", "jobs=[tokenize, train]",
        "model.num_layers=2", "model.hidden_size=32", "model.num_heads=2", "model.num_kv_heads=1",
        "model.context_length=32", "model.dropout=0.2", "optim.lr=1e-2", "schedule.warmup_steps=4",
        f"train.max_steps={steps}", "train.micro_batch_size=4", "train.accumulation=2", "train.max_grad_norm=0.3",
        "train.ema_decay=0.95", "train.validate_every=15", "train.validation_batches=3", "train.checkpoint_every=20",
        "train.sample_every=30", "train.sample_tokens=16", "train.sample_prompts=[The]", "train.precision=float32")


class World:
    """The workspace, the untroubled run in it, and how long that took."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.recipe = path, recipe(steps)
        self.hook = path / "hook"
        self.hook.mkdir(parents=True)
        (self.hook / "sitecustomize.py").write_text("import kill_points\nkill_points.install()\n")
        self.workspace = Workspace(path / "workspace")
        folder = self.workspace.place("corpora") / "toy"
        folder.mkdir()
        words = "the a small old grey river house light winter garden she he was had".split()
        for number in range(60):
            dice = random.Random(number)
            (folder / f"{number:02d}.txt").write_text(" ".join(
                " ".join(dice.choices(words, k=10)).capitalize() + "." for _ in range(20)))
        self._guard, self._number = threading.Lock(), 0
        first = runs.create(self.recipe, self.workspace)  # makes the tokens
        self.launch(first)
        assert first.wait(600).state == "finished", first.status().error
        self.recipe = self.recipe.override("jobs=[train]")
        self.reference = self.run()
        begun = time.monotonic()
        self.launch(self.reference)
        self.start_seconds = self.until_trains(self.reference, 0, begun) or 0.0
        self.wait(self.reference)
        assert self.reference.status().state == "finished", self.reference.status().error
        self.seconds = time.monotonic() - begun
        if wrong := differences(first, self.reference):
            raise SystemExit(f"two untroubled runs differ, so nothing can be compared: {wrong[0]}")

    def run(self, *changes: str, workspace: Workspace | None = None) -> Run:
        with self._guard:
            self._number += 1
            return runs.create(self.recipe.override(f"name=run-{self._number}", *changes), workspace or self.workspace)

    def environment(self, fault: str = "", **more: str) -> dict[str, str]:
        paths = [str(self.hook), str(HERE), str(HERE.parent)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "FAULT": fault, **more}

    def launch(self, run: Run, fault: str = "", **more: str) -> None:
        """Start the run's worker from a process that is gone at once."""
        subprocess.run([sys.executable, "-c", LAUNCH, str(run.path)], check=True, env=self.environment(fault, **more),
                       cwd=HERE.parent)

    def resume(self, run: Run, fault: str = "", **more: str) -> None:
        """As a person does on the command line."""
        subprocess.run([sys.executable, "-m", "engine", "resume", run.name, "--detach", "--workspace",
                        str(run.path.parent.parent)], check=True, env=self.environment(fault, **more), cwd=HERE.parent,
                       stdout=subprocess.DEVNULL)

    def kill(self, run: Run) -> None:
        """kill -9, wherever the worker is; it may be over by now."""
        with suppress(ProcessLookupError):
            if pid := run.status().pid:
                os.kill(pid, signal.SIGKILL)

    def wait(self, run: Run, seconds: float = 600.0) -> bool:
        """Until the run is over, at most so long; whether it is."""
        end = time.monotonic() + seconds
        while active := run.status().active:
            if time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
        return not active

    def until_trains(self, run: Run, step: int, begun: float) -> float | None:
        """Seconds from `begun` to the first row after `step`; None if it is over before."""
        while not any(row["step"] > step for row in told(run, "train/loss")):
            if not run.status().active:
                return None
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def drop(self, run: Run, keep: bool) -> None:
        """Make room, unless there is something to look at."""
        if not keep:
            shutil.rmtree(run.path)


def told(run: Run, metric: str) -> list[dict[str, Any]]:
    return [row for row in run.rows("metrics")[0] if metric in row]


def differences(run: Run, reference: Run, *, saved: bool = True) -> list[str]:
    """What of a run is not as in the untroubled one; one sentence each, none if it is the same.

    Without `saved`, other checkpoints may have been kept on the way, as after a stop; the last must still be equal.
    """
    if run.status().state != "finished":
        return [f"the run {run.status().state}: {run.status().error}"]
    wrong = []
    for metric, facts in (("train/loss", ("train/loss", "train/grad_norm", "train/lr", "tokens")),
                          ("val/loss", ("val/loss", "val/bits_per_byte"))):
        ours, theirs = ([[row["step"], *(row[fact] for fact in facts)] for row in told(each, metric)]
                        for each in (run, reference))
        if ours != theirs:
            place = next((n for n, (one, two) in enumerate(zip(ours, theirs, strict=False)) if one != two),
                         min(len(ours), len(theirs)))
            wrong.append(f"{metric}: row {place} is {ours[place:place + 1]}, and {theirs[place:place + 1]} untroubled "
                         f"({len(ours)} and {len(theirs)} rows)")
    kinds = {"sample": ("step", "prompt", "text"), "checkpoint": ("step", "val_loss", "best")}
    for kind, facts in list(kinds.items())[:2 if saved else 1]:
        ours, theirs = ([[event[fact] for fact in facts] for event in each.rows("events")[0] if event["kind"] == kind]
                        for each in (run, reference))
        if ours != theirs:
            wrong.append(f"events of kind {kind} are {ours}, and {theirs} untroubled")
    names, expected = ([path.name for path in each.checkpoints] for each in (run, reference))
    if names != expected and (saved or names[-1:] != expected[-1:]):
        return [*wrong, f"checkpoints are {names}, and {expected} untroubled"]
    for path in run.checkpoints:
        checkpoint.verify(path)
        for name in WEIGHTS if path.name in expected else ():
            if (path / name).read_bytes() != (reference.path / "checkpoints" / path.name / name).read_bytes():
                wrong.append(f"{path.name}/{name} differs")
    if left := [path.name for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")]:
        wrong.append(f"left over: {left}")
    best, known = (Path(each.made().get("checkpoint", "")).name for each in (run, reference))
    if saved and best != known:
        wrong.append("another checkpoint counts as the best")
    return wrong


def outcome(world: World, cause: str, run: Run, lost: int = 0, seconds: float | None = None, note: str = "") -> Row:
    world.wait(run)
    wrong = differences(run, world.reference, saved=False)
    return cause, lost, int(bool(wrong)), f"{run.name}: {wrong[0]}" if wrong else note, seconds


def amid(world: World, run: Run, dice: random.Random, fault: str = "", **more: str) -> None:
    """Start the run, and let it train for a moment and past its second checkpoint."""
    world.launch(run, fault, **more)
    while len(run.checkpoints) < 2 and run.status().active:
        time.sleep(0.05)
    time.sleep(dice.uniform(0, 0.3))
