"""Held-out text that stands in the training text is seen, whatever the order and the size of the files."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_prose import prose

from engine import files
from engine.config import read
from engine.corpus import CorpusConfig, leak
from engine.corpus.pipeline import curate
from engine.progress import silent


def dataset(folder, texts: list[tuple[str, str]]) -> int:
    for number in range(2):
        part = texts[number::2]
        pq.write_table(pa.table({"text": [text for text, _ in part], "split": [side for _, side in part]}),
                       folder / f"documents-{number:05d}.parquet")
    return sum(len(text.encode()) for text, side in texts if side == "val")


def looked(folder, val_bytes: int) -> dict:
    return leak.leak(lambda: leak.stored(folder), val_bytes)


@pytest.mark.parametrize("piece", [1, 4 << 20])
def test_held_out_text_in_the_training_text_is_seen(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(leak, "PIECE", piece)
    train = [(prose(30, n), "train") for n in range(40)]
    val = [(prose(30, 100 + n), "val") for n in range(20)]
    clean = looked(tmp_path, dataset(tmp_path, [*train, *val, ("short", "val"), ("", "train")]))
    assert clean["runs"] > 1000
    assert (clean["documents"], clean["shared"]) == (0, 0)
    copies = [(f"Chapter {n}. é " + train[n][0][: 1500 if n < 4 else 200] + prose(5, 300 + n), "val") for n in range(6)]
    leaked = looked(tmp_path, dataset(tmp_path, [*copies, *train, *val]))
    assert leaked["documents"] == 4                                     # in the others most is new
    assert 0.1 < leaked["shared"] / leaked["runs"] < 0.5


def test_a_sample_of_the_runs_tells_the_same(tmp_path, monkeypatch):
    train = [(prose(200, n), "train") for n in range(10)]
    texts = [*train, *((text + prose(200, 50 + n), "val") for n, (text, _) in enumerate(train))]
    size = dataset(tmp_path, texts)
    whole = looked(tmp_path, size)
    monkeypatch.setattr(leak, "MOST", size >> 7)
    sample = looked(tmp_path, size)
    assert sample["runs"] < whole["runs"] / 4
    assert sample["shared"] / sample["runs"] == pytest.approx(whole["shared"] / whole["runs"], abs=0.06)
    assert whole["shared"] / whole["runs"] == pytest.approx(0.5, abs=0.03)


def test_a_dataset_tells_of_its_leaks(workspace):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(prose(30, number))
        (folder / f"{number:02d} again.txt").write_text(f"Number {number}. " + prose(30, number))
    told = {}
    for steps in ([], [{"kind": "near_duplicates", "keep": "all"}]):
        config = read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": steps, "validation_fraction": 0.3})
        made = curate(config, workspace, "mine", silent)
        told[len(steps)] = files.read_json(made / "manifest.json")["summary"]["leak"]["documents"]
        assert f"{told[len(steps)]} of " in (made / "README.md").read_text()
    assert told[0] > 5
    assert told[1] == 0
