"""Nothing is lost: real trainings are killed and starved at random moments, resumed, and held against a whole one.

    python benchmarks/faults.py                   100 kills, and every other fault
    python benchmarks/faults.py --small           a minute or two of it
    python benchmarks/faults.py --kills 500 --seed 7 --work /data/faults

The model is tiny, and its training has all that is hard to resume: accumulation, dropout, clipping, a schedule and an
average of the weights. After each fault the run is resumed; at its end the last checkpoint's files must be those of the
untroubled run byte for byte, and every row of a step and of a look, every sample and every checkpoint told once and
equal. `kill_points.py` ends a process at a point that is hard to hit by chance. Prints a Markdown table; what was drawn
follows from the seed, the moments themselves from the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import faults_disk
import faults_files
from faults_runs import HERE, World, differences, told

from engine.runs import checkpoint

PLACES = {  # how many of 100 kills, and the highest number of a point to end at
    "any moment": (36, 0), "checkpoint": (14, 150), "weights file": (6, 6), "deletion": (4, 20), "validation": (6, 8),
    "accumulation": (6, 90), "update": (5, 90), "sample": (5, 6), "row": (5, 4), "resume": (3, 1),
    "launcher": (5, 0), "studio": (5, 0),
}
WORDS = {"any moment": "kill -9 of the worker, any moment", "checkpoint": "… while files of a checkpoint are written",
         "weights file": "… amid a file of weights", "deletion": "… while an old checkpoint is deleted",
         "validation": "… in a validation", "accumulation": "… between two micro-batches",
         "update": "… right after an update", "sample": "… while a sample is written",
         "row": "… amid a row of metrics", "resume": "… while a resume cuts the metrics",
         "launcher": "kill -9 of the launcher and its group", "studio": "kill -9 of the studio"}
SMALL = (faults_disk.disk_full, faults_files.torn_files)
LAUNCHER = """
import sys, time
from engine.runs import Run
from engine.runs.launch import launch
launch(Run(sys.argv[1]))
print("launched", flush=True)
time.sleep(600)
"""
STUDIO = """
import sys, time
from engine.runs import Run
from engine.runs.launch import launch
from studio.serve import serve
serve(sys.argv[2], open_browser=False, threaded=True)
launch(Run(sys.argv[1]))
print("launched", flush=True)
time.sleep(600)
"""


class Killed:
    """One fault and what came of it."""

    def __init__(self, cause: str, detail: str) -> None:
        self.cause, self.detail = cause, detail
        self.lost = self.different = self.redone = 0
        self.resume_seconds: float | None = None
        self.note = ""


def torn(world: World, dice: random.Random, causes: list[tuple[str, int]],
         done: Callable[[Killed], None]) -> list[tuple[str, int]]:
    """One run that is killed so often; returns the causes that came too late, since it was over before.

    `causes`: each with how often it was tried in vain, after which an earlier point is taken.
    """
    run = world.run()
    made: list[Killed] = []
    world.launch(run, _fault(dice, *causes[0]))
    late: list[tuple[str, int]] = []
    for number, (cause, tries) in enumerate(causes):
        if cause == "any moment" and not world.wait(run, dice.uniform(0, 0.6 * world.seconds)):
            world.kill(run)
        world.wait(run)
        if run.status().state == "finished":
            late = [(cause, tries + 1), *causes[number + 1:]]
            break
        fault = Killed(cause, "")
        made.append(fault)
        found = run.status()
        if found.state != "lost":
            fault.lost, fault.note = 1, f"the run counts as {found.state}: {found.error}"
        before = max((row["step"] for row in told(run, "train/loss")), default=0)
        newest, _ = checkpoint.newest(run)
        step = checkpoint.position(newest).step if newest else 0
        promised = max((event["step"] for event in run.rows("events")[0] if event["kind"] == "checkpoint"), default=0)
        fault.lost += step < promised
        fault.redone = max(0, before - step)
        begun = time.monotonic()
        if number + 1 < len(causes):
            world.resume(run, _fault(dice, *causes[number + 1]))
        else:
            world.resume(run)
            fault.resume_seconds = world.until_trains(run, step, begun)
    world.wait(run)
    wrong = differences(run, world.reference)
    for fault in made:
        if wrong:
            fault.different, fault.note = 1, f"{run.name}: {wrong[0]}"
        done(fault)
    world.drop(run, bool(wrong))
    return late


def _fault(dice: random.Random, cause: str, tries: int) -> str:
    most = PLACES[cause][1] >> tries
    return f"{cause} {dice.randint(1, max(1, most))}" if PLACES[cause][1] else ""


def orphaned(world: World, dice: random.Random, cause: str, done: Callable[[Killed], None]) -> None:
    """The process that started the run dies; nobody resumes it, since nothing happened to it."""
    run, fault = world.run(), Killed(cause, "")
    with open(world.path / f"{run.name}.out", "w") as out:
        parent = subprocess.Popen([sys.executable, "-c", LAUNCHER if cause == "launcher" else STUDIO, str(run.path),
                                   str(world.workspace.path)], stdout=subprocess.PIPE, stderr=out, text=True,
                                  cwd=HERE.parent, env=world.environment(), start_new_session=True)
        assert parent.stdout is not None
        while (line := parent.stdout.readline()) and "launched" not in line:
            pass
        time.sleep(dice.uniform(0, 0.8 * world.seconds))
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    world.wait(run)
    wrong = differences(run, world.reference)
    if wrong:
        fault.different, fault.note = 1, f"{run.name}: {wrong[0]}"
    done(fault)
    world.drop(run, bool(wrong))


def campaign(world: World, kills: int, seed: int, at_once: int, small: bool) -> list[Killed]:
    """All kills, `at_once` runs at a time, and then the other faults."""
    dice, found, guard = random.Random(seed), list[Killed](), threading.Lock()

    def done(fault: Killed) -> None:
        with guard:
            found.append(fault)
            print(f"{len(found):4d}  {WORDS.get(fault.cause, fault.cause)}: lost {fault.lost}, different "
                  f"{fault.different}, {fault.redone} steps anew {fault.note}", flush=True)

    causes = [cause for cause, (share, _) in PLACES.items() for _ in range(max(1, round(share * kills / 100)))]
    dice.shuffle(causes)
    alone = [cause for cause in causes if cause in ("launcher", "studio")]
    queue = [(cause, 1 if small else 0) for cause in causes if cause not in ("launcher", "studio")]
    with ThreadPoolExecutor(at_once) as pool:
        tasks = [pool.submit(orphaned, world, random.Random(dice.random()), cause, done) for cause in alone]
        while queue:
            parts = [queue[start:start + 4] for start in range(0, len(queue), 4)]
            tried = [pool.submit(torn, world, random.Random(dice.random()), part, done) for part in parts]
            queue = [late for task in tried for late in task.result()]
        for task in tasks:
            task.result()
        tried_others = [each for each in (*faults_disk.FAULTS, *faults_files.FAULTS) if not small or each in SMALL]
        others = [pool.submit(each, world, random.Random(dice.random())) for each in tried_others]
        for task, each in zip(others, tried_others, strict=True):
            try:
                rows = task.result()
            except Exception as problem:  # a fault of the campaign's own must not hide what it found
                rows = [(each.__name__, 1, 0, repr(problem), None)]
            for cause, lost, different, note, seconds in rows:
                fault = Killed(cause, "")
                fault.lost, fault.different, fault.note, fault.resume_seconds = lost, different, note, seconds
                done(fault)
    return found


def table(found: list[Killed]) -> Iterator[str]:
    yield "| fault | times | lost | different | steps made anew: median, most | seconds until it trains again |"
    yield "|---|---|---|---|---|---|"
    names = [*WORDS, *dict.fromkeys(fault.cause for fault in found if fault.cause not in WORDS)]
    for cause in names:
        of = [fault for fault in found if fault.cause == cause]
        if not of:
            continue
        redone = [fault.redone for fault in of]
        seconds = [fault.resume_seconds for fault in of if fault.resume_seconds is not None]
        yield (f"| {WORDS.get(cause, cause)} | {len(of)} | {sum(fault.lost for fault in of)} "
               f"| {sum(fault.different for fault in of)} | {median(redone):.0f}, {max(redone)} "
               f"| {f'{median(seconds):.1f}' if seconds else ''} |")
    kills = [fault for fault in found if fault.cause in WORDS]
    yield (f"\n{len(kills)} kills and {len(found) - len(kills)} other faults: {sum(fault.lost for fault in found)} "
           f"lost, {sum(fault.different for fault in found)} different.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a dozen kills and a few of the other faults")
    parser.add_argument("--work", type=Path, help="keep the workspace here (default: a folder that is deleted)")
    asked = parser.parse_args()
    kills = 12 if asked.small else asked.kills
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        world = World(asked.work or Path(folder), steps=80 if asked.small else 160)
        print(f"seed {asked.seed}; untroubled, the run takes {world.seconds:.1f} s, {world.start_seconds:.1f} s of "
              "them until its first step", flush=True)
        found = campaign(world, kills, asked.seed, asked.at_once, asked.small)
        print("\n".join(["", *table(found)]))
        print(f"{(time.monotonic() - begun) / 60:.0f} minutes")
        (world.path / "faults.json").write_text(json.dumps([vars(fault) for fault in found], indent=1))
    sys.exit(any(fault.lost or fault.different for fault in found))


if __name__ == "__main__":
    main()
