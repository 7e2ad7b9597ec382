"""What no reader should trust: bombs, loops, endless lines, files that change while they are read, files left aside."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_prose import prose

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig, Source, decode, pipeline, readers, records
from engine.corpus.pipeline import curate, preview
from engine.corpus.readers import Document
from engine.corpus.sources import find, skipped
from engine.progress import silent


@pytest.fixture
def mine(workspace):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(prose(8, seed=number))
    return folder


def config(**changes) -> CorpusConfig:
    return read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": ["clean"], **changes})


def made(workspace, progress=silent) -> tuple[dict[str, str], list[dict], dict]:
    """Texts of the dataset by id, its quarantine, and its manifest."""
    folder = curate(config(), workspace, "mine", progress)
    rows = [row for path in folder.glob("documents-*.parquet") for row in pq.read_table(path).to_pylist()]
    lines = (folder / "quarantine.jsonl").read_text().splitlines()
    return ({row["id"].split("/")[-1]: row["text"] for row in rows}, list(map(json.loads, lines)),
            files.read_json(folder / "manifest.json"))


# Bombs and endless lines ---------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Limits a hundred times lower."""
    for module in (decode, readers):
        monkeypatch.setattr(module, "UNSUSPECTED", 1 << 19)
    for module in (decode, records, readers):
        monkeypatch.setattr(module, "LONGEST", 1 << 17)
    monkeypatch.setattr(records, "PIECE", 1 << 16)


def zstd(data: bytes, path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(data)


@pytest.mark.parametrize("name", ["one-line.jsonl.gz", "many-lines.jsonl.gz", "text.txt.gz", "text.txt.zst",
                                  "rows.parquet", "rows.parquet.gz", "nulls.parquet"])
def test_a_bomb_is_given_up_long_before_its_end(workspace, mine, small, name, monkeypatch):
    row, size = '{"text": "a a a a a a a a a a a a a a a a a a a a a"}\n', 30 << 20
    good = '{"text": "good"}\n'
    path = mine / name
    if "parquet" in name:
        table = pa.table({"text": pa.array(["good", *["a" * 1000 if "rows" in name else None] * (size // 1000)])})
        pq.write_table(table if "rows" in name else pa.concat_tables([table] * 40), path, compression="zstd")
        path.write_bytes(gzip.compress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes())
    else:
        text = {"one": good + "[" * size, "man": good + row * (size // len(row)), "tex": "a " * (size // 2)}[name[:3]]
        zstd(text.encode(), path) if name.endswith("zst") else path.write_bytes(gzip.compress(text.encode()))
    file, = find(read(Source, {"path": f"corpora/mine/{name}"}), workspace)
    found = list(readers.read(file))
    kept = [item.text for item in found if isinstance(item, Document)]
    assert kept[0][:4] in ("good", "a a ")
    assert sum(map(len, kept)) < size / 2
    assert "unpacks to more than 250 times its size" in found[-1].reason
    assert sum("unpacks" in getattr(item, "reason", "") for item in found) == 1


@pytest.mark.parametrize(("name", "before", "after"), [
    ("a.jsonl", '{"text": "one"}\n{"text": "', '"}\n{"text": "two"}\n'),
    ("a.json", '[{"text": "one"},\n{"text": "', '"},\n{"text": "two"}]\n'),
    ("a.csv", 'text\none\n"', '"\ntwo\n'), ("b.csv", "text\none\n", "\ntwo\n")])
def test_an_endless_line_costs_itself_alone(workspace, mine, small, name, before, after):
    (mine / name).write_text(before + "b" * (1 << 20) + after)
    file, = find(read(Source, {"path": f"corpora/mine/{name}"}), workspace)
    found = list(readers.read(file))
    assert [item.text for item in found if isinstance(item, Document)] == ["one", "two"]
    assert [item.line for item in found if not isinstance(item, Document)] == [{"b.csv": 3, "a.csv": 3}.get(name, 2)]


def test_a_quote_that_never_closes_does_not_take_the_file_into_memory(workspace, mine, monkeypatch):
    monkeypatch.setattr(records, "RECORD_LINES", 100)
    (mine / "a.csv").write_text("text\none\n\"two\n" + "three\n" * 300)
    file, = find(read(Source, {"path": "corpora/mine/a.csv"}), workspace)
    found = list(readers.read(file))
    assert [item.text for item in found if isinstance(item, Document)] == ["one", *["three"] * 300]
    told, = (item for item in found if not isinstance(item, Document))
    assert str(told).startswith("corpora/mine/a.csv line 3 is not CSV (a record of more than 100 lines)")


def test_json_after_a_broken_record_is_read_on(workspace, mine):
    nested = [{"text": f"number {n}", "parts": [{"text": "inner"}]} for n in range(40)]
    text = json.dumps({"data": nested}, indent=1).replace('"text": "number 7"', '"text" "number 7"')
    (mine / "a.json").write_text(text)
    (mine / "b.json").write_text("\n".join(["{" * 3000 if n == 3 else json.dumps({"text": f"number {n}"})
                                            for n in range(9)]))
    for name, missing in (("a", 7), ("b", 3)):
        file, = find(read(Source, {"path": f"corpora/mine/{name}.json"}), workspace)
        found = list(readers.read(file))
        kept = [item.text for item in found if isinstance(item, Document)]
        assert [text for text in kept if text != "inner"] == [
            f"number {n}" for n in range(40 if name == "a" else 9) if n != missing]
        told, = (item for item in found if not isinstance(item, Document))
        assert told.line == text.split("number 7")[0].count("\n") + 1 if name == "a" else 4


def test_a_file_that_breaks_off_tells_the_offset(workspace, mine):
    whole = gzip.compress("".join(f'{{"text": "{prose(1, n)}"}}\n' for n in range(3000)).encode())
    (mine / "cut.jsonl.gz").write_bytes(whole[:-2000])
    (mine / "cut.txt.gz").write_bytes(whole[:-9])
    _, quarantine, _ = made(workspace)
    content = gzip.decompress(whole)
    half, jsonl, txt = quarantine
    assert half["line"] == content[:jsonl["offset"]].count(b"\n") + 1
    assert 0 < len(content) - jsonl["offset"] < 20_000
    assert txt["offset"] == len(content)
    assert "what stands before was kept" in jsonl["reason"]


# Files that change, vanish or are no files ---------------------------------------------------------------------


def when_read(monkeypatch, name: str, act) -> None:
    """Do something when the reading of a file begins, with the number of the time."""
    times = iter(range(99))

    def reading(file, *rest):
        if file.path.name == name:
            act(file.path, next(times))
        return readers.read(file, *rest)

    monkeypatch.setattr(pipeline, "read", reading)


def test_a_file_that_changes_once_is_read_anew(workspace, mine, monkeypatch):
    when_read(monkeypatch, "3.txt", lambda path, time: time or path.write_text("Now it says something else."))
    texts, quarantine, manifest = made(workspace)
    assert texts["3.txt"] == "Now it says something else."
    assert (len(texts), quarantine) == (6, [])
    assert curate(config(), workspace, "mine", silent).name.endswith(manifest["fingerprint"])


def test_a_file_that_keeps_changing_is_left_out_and_the_others_come_through(workspace, mine, monkeypatch):
    when_read(monkeypatch, "3.txt", lambda path, time: path.write_text(f"State {time} of it."))
    texts, quarantine, _ = made(workspace)
    assert sorted(texts) == ["0.txt", "1.txt", "2.txt", "4.txt", "5.txt"]
    assert [row["file"] for row in quarantine] == ["corpora/mine/3.txt"]
    assert "changed again and again" in quarantine[0]["reason"]
    monkeypatch.undo()
    assert len(made(workspace)[0]) == 6


def test_a_file_that_only_grows_counts_as_it_was_found(workspace, mine, monkeypatch):
    was = (mine / "3.txt").read_text()
    when_read(monkeypatch, "3.txt", lambda path, time: path.write_text(path.read_text() + " And more."))
    texts, quarantine, _ = made(workspace)
    assert (texts["3.txt"], quarantine) == (was, [])


def test_a_file_that_vanishes_is_not_missed(workspace, mine, monkeypatch):
    when_read(monkeypatch, "3.txt", lambda path, time: path.unlink())
    texts, quarantine, manifest = made(workspace)
    assert (len(texts), quarantine, manifest["made_from"]["sources"][0]["files"]) == (5, [], 5)


@pytest.mark.parametrize("path", ["corpora/self", "corpora/mine/round/round/round", "x" * 300, "a\0b",
                                  "corpora/**.txt"])
def test_paths_that_lead_in_circles_or_nowhere_are_refused(workspace, mine, path):
    (mine.parent / "self").symlink_to(mine.parent / "self")
    (mine / "round").symlink_to(mine / "round2")
    (mine / "round2").symlink_to(mine / "round")
    with pytest.raises(UserError):
        find(read(Source, {"path": path}), workspace)
    assert len(find(read(Source, {"path": "corpora/mine"}), workspace)) == 6


def test_what_is_left_aside_is_told(workspace, mine):
    for number in range(7):
        (mine / f"paper{number}.docx").write_text("x")
    (mine / "LICENSE").write_text("x")
    (mine / "up").symlink_to(mine.parent)
    left = skipped(config().sources[0], workspace)
    assert left.endings == {".docx": 7, "no ending": 1, "link to a folder": 1}
    assert str(left).startswith("corpora/mine holds 9 more files that nothing was read of (7 × .docx, 1 × no ending")
    assert len(left.names) == 5
    assert preview(config(), workspace)["skipped"][0]["files"] == 9
    assert made(workspace)[2]["summary"]["skipped"][0]["endings"][".docx"] == 7
    assert skipped(read(Source, {"path": "corpora/mine/0.txt"}), workspace) is None
    assert skipped(read(Source, {"path": "corpora/mine/*.txt"}), workspace) is None
    assert skipped(Source(), workspace) is None


def test_a_run_says_at_its_end_what_was_not_read(workspace, mine, capsys):
    from engine import runs
    from engine.recipe import Recipe
    from engine.runs.worker import Worker
    from engine.terminal import follow

    for name in ("first\u2028line.jsonl", "second.jsonl"):
        (mine / name).write_text('{"text": "good"}\n{\n')
    (mine / "paper.docx").write_text("x")
    recipe = Recipe().override("name=mine", "jobs=[curate]", "corpus.sources=[{path: corpora/mine}]")
    run = runs.create(recipe, workspace)
    assert Worker(run).work() == "finished", run.status().error
    told = [row["sentence"] for row in run.rows("events")[0] if row["kind"] == "warning"]
    assert "2 records could not be read" in told[0]
    assert "second.jsonl line 2 is not JSON" in told[0]
    assert "1 more file that nothing was read of (1 × .docx): corpora/mine/paper.docx" in told[1]
    assert follow(run, workspace) == 0
    last = " ".join(capsys.readouterr().out.split("dataset:")[-1].split())
    assert "2 records could not be read, 1 file was skipped" in last
