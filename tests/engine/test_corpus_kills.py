"""A worker process that is killed again and again, at moments that nobody chose, makes what an untroubled one makes.

KILLS=60 pytest -m slow -s tests/engine/test_corpus_kills.py says how often, and prints the figures.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import files, runs
from engine.recipe import Recipe
from engine.workspace import ASSETS, Workspace

KILLS = int(os.environ.get("KILLS", "12"))
WORKER = """
import sys
from engine.corpus import intake, spill
intake.SHARD, spill.IN_MEMORY = 100_000, 0
from engine.runs.worker import work
sys.exit(work(sys.argv[1]))
"""
STEPS = ("[clean, {kind: passages, characters: 1500}, quality, {kind: language}, exact_duplicates, gopher_repetition, "
         "near_duplicates, repeated_lines]")


def prepared(workspace: Workspace) -> runs.Run:
    """A run that is to curate three novels in pieces and a file with broken records."""
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for name in ("emma", "persuasion", "the-war-of-the-worlds"):
        text = (ASSETS / "corpora" / "novels" / f"{name}.txt").read_text()
        for start in range(0, len(text), 20_000):
            (folder / f"{name}-{start}.txt").write_text(text[start:start + 20_000])
    (folder / "lines.jsonl").write_text("".join(f'{{"text": "An own line of text, number {n}."}}\n' if n % 7 else "{\n"
                                                for n in range(3000)))
    recipe = Recipe().override("name=mine", "jobs=[curate]", "corpus.sources=[{path: corpora/mine}]",
                               f"corpus.steps={STEPS}")
    return runs.create(recipe, workspace)


def worker(run: runs.Run) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(run.path)], cwd=files.__file__.rsplit("/engine/", 1)[0],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def parts(workspace: Workspace) -> dict[Path, tuple[int, int]]:
    """Every finished part, as the file that it is: one that is made again is another file.

    What was rejected belongs to the shard that is written after it, and is no part of its own.
    """
    return {path: (about.st_ino, about.st_mtime_ns) for path in (workspace.path / "stages").glob("*/[!.]*.arrow")
            if not path.name.startswith("rejected") and (about := path.stat())}


def contents(workspace: Workspace) -> dict[str, str]:
    folder, = workspace.listing("datasets")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_at_random_moments_change_nothing_and_nothing_is_made_twice(tmp_path):
    whole, torn = (Workspace(tmp_path / name) for name in ("whole", "torn"))
    began = time.monotonic()
    assert worker(prepared(whole)).wait() == 0
    alone = time.monotonic() - began
    dice, run, killed, again, fullest = random.Random(int(os.environ.get("SEED", "0"))), prepared(torn), 0, [], 0
    known: dict[Path, tuple[int, int]] = {}
    while True:
        process, began = worker(run), time.monotonic()
        patience, wanted = dice.uniform(0, alone), len(known) + dice.randint(1, 6)
        by_parts = dice.random() < 0.6           # else by the clock, whatever is being done
        while process.poll() is None and killed < KILLS:
            if (len(parts(torn)) >= wanted) if by_parts else (time.monotonic() - began > patience):
                time.sleep(dice.uniform(0, 0.05))
                process.kill()
                break
            time.sleep(0.005)
        code = process.wait()
        now = parts(torn)
        again += [path.name for path, mark in known.items() if now.get(path, mark) != mark]
        fullest = max(fullest, len(now))
        known = now
        if code == 0:
            break
        assert code == -9
        assert not torn.listing("datasets") or contents(torn) == contents(whole), "half a dataset was to be seen"
        killed += 1
    assert contents(torn) == contents(whole)
    assert again == []
    print(f"{killed} kills, {fullest} parts at most, none made again, {len(contents(torn))} files the same byte for "
          f"byte; alone it took {alone:.0f} s")
    assert killed
