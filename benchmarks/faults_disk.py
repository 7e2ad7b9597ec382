"""Full and read-only disks, clocks that jump, and schedulers that end jobs, for `faults.py`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from faults_runs import Row, World, amid, outcome, told

from engine.runs import Run, checkpoint
from engine.workspace import Workspace

FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]

@contextmanager
def _small_disk(world: World, dice: random.Random) -> Iterator[tuple[Run, Path]]:
    """A run in a workspace on a disk of 160 MB of its own, and a file to fill that with."""
    place = world.path / f"disk-{dice.randrange(10**6)}"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)], check=True)
    try:
        for name in ("corpora", "datasets", "tokens"):
            shutil.copytree(world.workspace.place(name), place / "workspace" / name)
        yield world.run(workspace=Workspace(place / "workspace")), place / "filler"
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def _fill(filler: Path) -> None:
    with suppress(OSError), open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 10):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass


def disk_full(world: World, dice: random.Random) -> list[Row]:
    """For a while; until the run fails of it; and while a scheduler ends it."""
    if os.geteuid():
        return [("disk full: not tried, since it takes root to mount a small one", 0, 0, "", None)]
    rows = []
    for cause in ("disk full for a while", "disk full until the end", "disk full, and SIGTERM"):
        with _small_disk(world, dice) as (run, filler):
            amid(world, run, dice)
            _fill(filler)
            if cause == "disk full, and SIGTERM":
                os.kill(run.status().pid, signal.SIGTERM)
            if cause == "disk full for a while":
                time.sleep(dice.uniform(1, 3))
            else:
                world.wait(run)
            lost = 0
            if not run.locked() and run.status().state == "finished":
                rows.append((cause, 1, 0, "the run calls itself finished", None))
                continue
            filler.unlink()
            if not run.locked():
                newest, wrong = checkpoint.newest(run)
                lost = int(newest is None or bool(wrong))
                world.resume(run)
            rows.append(outcome(world, cause, run, lost))
    return rows


def read_only(world: World, dice: random.Random) -> list[Row]:
    if os.geteuid():
        return [("read-only folder: not tried, since it takes root to mount one", 0, 0, "", None)]
    rows = []
    for cause, inside in (("checkpoints read-only for a while", "checkpoints"),
                          ("run folder read-only for a while", ""), ("run folder read-only until the end", "")):
        run = world.run()
        amid(world, run, dice)
        place = str(run.path / inside)
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        try:
            world.wait(run, dice.uniform(1, 3) if "while" in cause else 600)
        finally:
            subprocess.run(["umount", "-l", place], check=True)
        if not run.locked() and run.status().state != "finished":
            world.resume(run)
        rows.append(outcome(world, cause, run))
    return rows


def clock(world: World, dice: random.Random) -> list[Row]:
    """The worker's clock jumps by a day while it trains."""
    if not FAKETIME:
        return [("clock jump: not tried, since libfaketime is not installed", 0, 0, "", None)]
    rows = []
    for cause, jump in (("the clock jumps a day ahead", "+1d"), ("the clock jumps a day back", "-1d")):
        run, now = world.run(), world.path / f"clock-{dice.randrange(10**6)}"
        now.write_text("+0")
        amid(world, run, dice, LD_PRELOAD=str(FAKETIME[0]), FAKETIME_TIMESTAMP_FILE=str(now), FAKETIME_NO_CACHE="1",
              DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
        now.write_text(jump)
        lost = 0
        while run.locked():
            lost |= run.status().state == "lost"
            time.sleep(0.05)
        moments = [row["time"] for row in told(run, "train/loss")]
        jumped = any(abs(later - sooner) > 80_000 for sooner, later in pairwise(moments))
        rows.append(outcome(world, cause, run, int(lost), note="" if jumped else "no jump is seen in the rows"))
    return rows


def scheduler(world: World, dice: random.Random) -> list[Row]:
    """SIGTERM at any moment; the seconds are those until the process is gone."""
    rows = []
    for _ in range(5):
        run = world.run()
        world.launch(run)
        world.wait(run, dice.uniform(0.2, 0.8) * world.seconds)
        if not (pid := run.status().pid) or not run.status().active:
            continue
        begun = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        world.wait(run)
        seconds = time.monotonic() - begun
        last = max((row["step"] for row in told(run, "train/loss")), default=0)
        kept = run.checkpoints[-1:] and checkpoint.position(run.checkpoints[-1]).step
        lost = int(bool(last) and kept != last)
        if run.status().state != "finished":
            world.resume(run)
        rows.append(outcome(world, "SIGTERM (seconds: until saved and gone)", run, lost, seconds))
    return rows


FAULTS: tuple[Callable[[World, random.Random], list[Row]], ...] = (disk_full, read_only, clock, scheduler)
