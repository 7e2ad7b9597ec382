"""Damaged, torn and moved files, second workers, and kills of other jobs, for `faults.py`."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from faults_runs import HERE, Row, World, amid, outcome

from engine import files, runs
from engine.config import UserError
from engine.runs import Run, checkpoint
from engine.workspace import Workspace


def damaged(world: World, dice: random.Random) -> list[Row]:
    """Every file of the newest checkpoint: a bit flipped, its end cut off, gone; and the whole folder emptied."""
    run, rows = world.run(), []
    amid(world, run, dice)
    world.kill(run)
    world.wait(run)
    before, newest = run.checkpoints[-2:]
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        harms = [("a bit flipped in a file of the newest checkpoint", _flipped(whole, dice)) for _ in range(8)]
        for cause, harm in [*harms, ("a file of the newest checkpoint cut", whole[:dice.randrange(len(whole))]),
                            ("a file of the newest checkpoint gone", None)]:
            if harm is None:
                path.unlink()
            else:
                path.write_bytes(harm)
            rows.append(_noticed(cause, run, newest, before, path))
            path.write_bytes(whole)
    for again in range(3):
        if again == 0:
            shutil.rmtree(newest)
            newest.mkdir()
        else:
            path = dice.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
            path.write_bytes(_flipped(path.read_bytes(), dice))
        begun = time.monotonic()
        world.resume(run)
        seconds = world.until_trains(run, checkpoint.step_of(before), begun)
        if again == 2:
            rows.append(outcome(world, "resumed from the checkpoint before a damaged one", run, 0, seconds))
            break
        while checkpoint.last(run) == before and run.status().active:
            time.sleep(0.1)
        world.kill(run)
        world.wait(run)
        before, newest = run.checkpoints[-2:]
    return rows


def _flipped(whole: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(whole))
    return whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1:]


def _noticed(cause: str, run: Run, newest: Path, before: Path, path: Path) -> Row:
    try:
        found, wrong = checkpoint.newest(run)
    except (UserError, OSError, ValueError) as problem:
        return cause, 1, 0, f"{path.name}: {problem}", None
    # A bit of the white space or of a key's name in meta.json may flip without harm.
    harmless = found == newest and path.name == "meta.json"
    fell_back = found == before and len(wrong) == 1 and newest.name in wrong[0]
    noticed = fell_back or harmless
    return cause, 0, int(not noticed), "" if noticed else f"{path.name} was believed", None


def second_worker(world: World, dice: random.Random) -> list[Row]:
    run = world.run()
    amid(world, run, dice)
    second = subprocess.run([sys.executable, "-m", "engine", "work", str(run.path)], env=world.environment(),
                            capture_output=True, text=True, cwd=HERE.parent, check=False)
    refused = "already running" in second.stderr or run.status().state == "finished"
    return [outcome(world, "a second worker on the same run", run, int(not refused), note=second.stderr[-200:])]


def torn_files(world: World, dice: random.Random) -> list[Row]:
    """What a power cut may leave of the small files, and a stop request that nobody answered."""
    run = world.run()
    amid(world, run, dice)
    world.kill(run)
    world.wait(run)
    for name in ("status.json", "metrics.jsonl", "events.jsonl"):
        whole = (run.path / name).read_bytes()
        (run.path / name).write_bytes(whole[:-7])
    for kind in ("stop", "pause", "resume"):
        run.request(kind)
        run.request(kind)
    world.resume(run)
    return [outcome(world, "status and last lines torn, requests left", run)]


def moved(world: World, dice: random.Random) -> list[Row]:
    """The workspace is renamed between a kill and the resume."""
    place = world.path / f"place-{dice.randrange(10**6)}"
    for name in ("corpora", "datasets", "tokens"):
        shutil.copytree(world.workspace.place(name), place / name)
    run = world.run(workspace=Workspace(place))
    amid(world, run, dice)
    world.kill(run)
    world.wait(run)
    run = runs.find(run.name, Workspace(place.rename(place.with_name(f"{place.name}-elsewhere"))))
    world.resume(run)
    return [outcome(world, "the workspace renamed before the resume", run)]


def other_jobs(world: World, dice: random.Random) -> list[Row]:
    """kill -9 of workers that curate, tokenize and export."""
    return [row for kinds, jobs, changes in (
        (("dataset", "tokens"), "[curate, tokenize]", ("corpus.validation_fraction=0.07",)),
        (("bundle",), "[export]", (f"from_run={world.reference.name}",)))
        for row in _job(world, dice, kinds, jobs, changes)]


def _job(world: World, dice: random.Random, kinds: tuple[str, ...], jobs: str, changes: tuple[str, ...]) -> list[Row]:
    """Untroubled once, to see how long it takes and what comes out; then torn five times, from nothing."""
    def begun() -> Run:
        run = world.run(f"jobs={jobs}", *changes)
        world.launch(run)
        return run

    start = time.monotonic()
    run = begun()
    world.wait(run)
    seconds, cause = time.monotonic() - start, f"kill -9 while it does {jobs}"
    if run.status().state != "finished":
        return [(cause, 0, 1, run.status().error, None)]
    made = {kind: run.artefact(kind) for kind in kinds}
    expected = {kind: _contents(path) for kind, path in made.items()}
    rows: list[Row] = []
    wrong: list[str] = []
    again: Run | None = None
    while again is not None or len(rows) < 5:
        if again is None:
            for path in (*made.values(), world.workspace.path / "stages"):
                shutil.rmtree(path, ignore_errors=True)
            again = begun()
        if len(rows) < 5 and not world.wait(again, dice.uniform(0.1, 0.8) * seconds):
            world.kill(again)
        world.wait(again)
        torn = [str(path) for path in made.values() if path.exists() and not (path / files.MANIFEST).exists()]
        if again.status().state == "lost":
            rows.append((cause, len(torn), 0, " ".join(torn), None))
            world.resume(again)
            continue
        made = {kind: again.artefact(kind) for kind in kinds} if again.status().state == "finished" else made
        wrong += [again.status().error or kind for kind, path in made.items()
                  if again.status().state != "finished" or _contents(path) != expected[kind]]
        again = None
    return [(cause, lost, int(bool(wrong)), note or " ".join(wrong), each) for cause, lost, _, note, each in rows]


def _contents(folder: Path) -> dict[str, bytes]:
    """The files that are the thing itself; cards and manifests name the run and the day."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if (path.is_file() and path.suffix in (".parquet", ".bin", ".npy", ".onnx", ".safetensors"))
            or path.name == "tokenizer.json"}


FAULTS: tuple[Callable[[World, random.Random], list[Row]], ...] = (
    damaged, second_worker, torn_files, moved, other_jobs)
