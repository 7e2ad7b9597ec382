"""Work in parts: killed and gone on with, not done twice, and the same bytes in the end."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from toy_prose import prose

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig, intake, passes, spill
from engine.corpus.pipeline import curate
from engine.progress import Stopped, silent
from engine.workspace import Workspace

STEPS = ["clean", {"kind": "passages", "characters": 400}, "exact_duplicates", {"kind": "quality", "min_words": 12}]


def write_corpus(workspace: Workspace) -> None:
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02d}.txt").write_text(f"cafÃ© {number % 15}  " + prose(30, seed=number % 15))
    (folder / "broken.txt").write_bytes(bytes(range(256)))
    lines = [f'{{"text": "{prose(2, n)}"}}' if n % 9 else "{" for n in range(200)]
    (folder / "many.jsonl").write_text("\n".join(lines))


@pytest.fixture
def parts(monkeypatch):
    """Shards of a few documents, on the disk from the first on."""
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr(intake, "SHARD", 12_000)
    monkeypatch.setattr(passes, "BATCH", 5_000)


@pytest.fixture
def written(monkeypatch) -> list[tuple[str, str]]:
    """Marks and names of what was written into the stages."""
    names: list[tuple[str, str]] = []
    write = spill.Spill._write

    def noting(self, mark, name, table):
        names.append((mark, name))
        write(self, mark, name, table)

    monkeypatch.setattr(spill.Spill, "_write", noting)
    return names


def config(**changes) -> CorpusConfig:
    return read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": STEPS, **changes})


def contents(folder) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_shards_in_files_give_what_one_in_memory_gives(workspace, tmp_path, monkeypatch):
    write_corpus(workspace)
    at_once = curate(config(), workspace, "mine", silent)
    assert not (workspace.path / "stages").exists()
    marks = contents(at_once)
    at_once.rename(tmp_path / "at_once")
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    assert contents(curate(config(), workspace, "mine", silent)) == marks
    assert len(list((workspace.path / "stages").iterdir())) == 1 + len(STEPS)


WORKER = """
import os, sys, time
from engine.corpus import CorpusConfig, intake, passes, spill
spill.IN_MEMORY, intake.SHARD, passes.BATCH = 0, 12_000, 5_000
write = spill.Spill._write
fsync, left = os.fsync, int(sys.argv[2])
def waiting(handle):                         # called before a file is renamed, and after
    global left
    left -= 1
    if not left:
        print("kill me", flush=True)
        time.sleep(60)
    fsync(handle)
os.fsync = waiting
def noting(self, mark, name, table):
    write(self, mark, name, table)
    print(mark, name, flush=True)
spill.Spill._write = noting
from engine.corpus.pipeline import curate
from engine.progress import silent
from engine.workspace import Workspace
curate(CorpusConfig.model_validate_json(sys.argv[1]), Workspace(), "mine", silent)
print("made", flush=True)
"""


def test_what_was_killed_goes_on_and_ends_with_the_same_bytes(workspace, tmp_path, parts):
    write_corpus(workspace)
    told: list[str] = []
    for patience in (2, 15, 20, 29, 0):                                # even: a file is whole, but nobody was told
        asked = [sys.executable, "-c", WORKER, config().model_dump_json(serialize_as_any=True), str(patience)]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                              cwd=files.__file__.rsplit("/engine/", 1)[0]) as worker:
            for line in worker.stdout:
                told.append(line)
                if line == "kill me\n":
                    told.pop()
                    worker.kill()
        if patience:
            assert worker.returncode == -9
            assert not workspace.listing("datasets")
    assert list((workspace.path / "stages").glob("*/.*")), "no write was cut off"
    assert told[-1] == "made\n"
    assert len(told) > 40
    assert len(set(told)) == len(told), "a finished part was made again"
    killed = contents(workspace.listing("datasets")[0])

    whole = Workspace(tmp_path / "whole")
    write_corpus(whole)
    assert contents(curate(config(), whole, "mine", silent)) == killed


def test_only_what_follows_a_changed_step_is_made_again(workspace, parts, written, monkeypatch):
    write_corpus(workspace)
    curate(config(), workspace, "mine", silent)
    before = {mark for mark, _ in written}
    assert len(before) == 1 + len(STEPS)
    written.clear()
    curate(config(validation_fraction=0.2), workspace, "mine", silent)
    assert written == []
    monkeypatch.setattr("engine.corpus.pipeline.read", None)           # the sources are not read again
    curate(config(steps=[*STEPS[:3], {"kind": "quality", "min_words": 20}]), workspace, "mine", silent)
    assert len({mark for mark, _ in written} - before) == 1
    written.clear()
    other = ["clean", {"kind": "passages", "characters": 500}, *STEPS[2:]]
    curate(config(steps=other), workspace, "mine", silent)
    assert len({mark for mark, _ in written} - before) == 3
    assert not {mark for mark, _ in written} & before


def test_a_damaged_part_is_made_again(workspace, parts, tmp_path):
    write_corpus(workspace)
    first = curate(config(), workspace, "mine", silent)
    marks = contents(first)
    for place, path in enumerate(sorted((workspace.path / "stages").glob("*/*.arrow"))):
        if place % 5 == 0:
            path.write_bytes(path.read_bytes()[: 100 * (place % 3)])
    first.rename(tmp_path / "first")
    assert contents(curate(config(), workspace, "mine", silent)) == marks


def test_a_stop_keeps_what_was_done(workspace, parts, written):
    write_corpus(workspace)

    def stop(done: int, of: int, message: str = "") -> None:
        if len(written) > 20:
            raise Stopped

    with pytest.raises(Stopped):
        curate(config(), workspace, "mine", stop)
    assert not list(workspace.place("datasets").iterdir())
    curate(config(), workspace, "mine", silent)
    assert len(set(written)) == len(written)


def test_a_source_without_text_is_refused_however_often_it_is_tried(workspace, parts):
    write_corpus(workspace)
    (workspace.place("corpora") / "bad.jsonl").write_text("{\n" * 50)
    asked = config(sources=[{"path": "corpora/mine"}, {"path": "corpora/bad.jsonl"}])
    for _ in range(2):
        with pytest.raises(UserError, match=r"bad.jsonl line 1 is not JSON"):
            curate(asked, workspace, "mine", silent)


def test_progress_only_grows_over_all_passes(workspace, parts):
    write_corpus(workspace)
    told: list[tuple[int, int]] = []
    curate(config(), workspace, "mine", lambda done, of, message="": told.append((done, of)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert len({done for done, of in told if done > of / 2}) > 3        # the second pass is told part by part


def test_old_stages_are_deleted_and_those_in_use_are_not(workspace, parts, monkeypatch):
    write_corpus(workspace)
    stages = workspace.path / "stages"
    for number in range(4):
        (stages / f"old{number}").mkdir(parents=True)
        (stages / f"old{number}" / "00000.arrow").write_bytes(b"x" * 1000)
        age = 5 if number == 3 else 10_000 * (4 - number)
        os.utime(stages / f"old{number}", (now() - age, now() - age))
    monkeypatch.setattr(spill, "KEPT_STAGES", 7)
    curate(config(), workspace, "mine", silent)
    left = {p.name for p in stages.iterdir()}
    assert {name for name in left if name.startswith("old")} == {"old2", "old3"}
    monkeypatch.setattr(spill, "KEPT_BYTES", 1500)
    curate(config(validation_fraction=0.3), workspace, "mine", silent)
    assert {p.name for p in stages.iterdir()} == {"old3"}              # used a moment ago, by somebody else


def now() -> float:
    import time

    return time.time()


def test_changes_are_kept_and_not_the_text(workspace):
    texts = ["one  two", "kept as it is", "gone", "cut here"]
    before = pa.table({"id": list("abcd"), "text": pa.array(texts, pa.large_string()), "source": ["s"] * 4,
                       "group": pa.array([None, 7, None, 9], pa.uint64())})
    after = pa.table({"id": ["a", "b", "c", "d#1", "d#2"], "row": pa.array([0, 1, 2, 3, 3], pa.int64()),
                      "text": pa.array(["one two", "kept as it is", "gone", "cut", "here"], pa.large_string()),
                      "source": ["s"] * 5, "reason": pa.array([None, None, "bad", None, None], pa.large_string())})
    changes = passes.encode(before, after)
    assert changes["text"].to_pylist() == ["one two", None, None, "cut", "here"]
    assert passes.encode(before, before.append_column("row", pa.array(range(4), pa.int64())).append_column(
        "reason", pa.nulls(4, pa.large_string())))["text"].combine_chunks().buffers()[2].size < 8
    assert changes["id"].to_pylist() == [None, None, None, "d#1", "d#2"]
    back = passes.decode(before, changes)
    on = pa.array([True, True, False, True, True])
    assert back.select(after.column_names).filter(on).to_pylist() == after.filter(on).to_pylist()
    assert back["reason"][2].as_py() == "bad"
    assert back["group"].to_pylist() == [None, 7, None, 9, 9]
