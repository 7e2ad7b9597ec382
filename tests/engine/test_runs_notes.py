"""What people say of runs, tables for other programs, and the way to the trash and back."""

from __future__ import annotations

import csv
import io
import struct

import pytest
from planted import plant

from engine import runs
from engine.config import UserError
from engine.runs import notes, tables, trashed
from studio.cli import main


def test_notes_and_tags_are_kept_beside_a_recipe_that_stays(workspace):
    run = plant(workspace, "one", steps=0)
    before = run.recipe_path.read_bytes()
    assert notes.read(run) == notes.Notes()
    notes.write(run, text="# Good\nfaster", tags=[" #base ", "a  b", "base", ""])
    assert notes.read(run) == notes.Notes("# Good\nfaster", ("base", "a b"))
    notes.write(run, tags=["other"])
    assert notes.read(run).text == "# Good\nfaster"
    assert run.recipe_path.read_bytes() == before
    with pytest.raises(UserError, match="longer than 40"):
        notes.write(run, tags=["x" * 41])
    (run.path / "notes.json").write_text("[")
    assert notes.read(run) == notes.Notes()


@pytest.mark.parametrize(("wanted", "found"), [("", True), ("ONE", True), ("warm fast", True), ("#base", True),
                                               ("#bas", False), ("bas", True), ("#base cold", False), ("#", False)])
def test_a_filter_looks_at_name_tags_and_text(wanted, found):
    assert notes.matches("one-2", notes.Notes("fast, warm start", ("base",)), wanted) is found


def test_csv_has_a_line_a_step_and_a_column_a_metric(workspace):
    run = plant(workspace, "one", steps=200)
    rows = run.rows("metrics")[0]
    read = list(csv.DictReader(io.StringIO(tables.to_csv(run))))
    assert len(rows) > len(read) == 200, "validation has rows of its own"
    lines = {int(line["step"]): line for line in read}
    for row in rows:
        line = lines[row["step"]]
        assert {name: float(line[name]) for name in row if name != "time"} == pytest.approx(
            {name: value for name, value in row.items() if name != "time"})
    assert list(read[0])[:3] == ["step", "time", "tokens"]
    with pytest.raises(UserError, match="has no metrics"):
        tables.to_csv(plant(workspace, "empty", steps=0))


def test_tensorboard_finds_every_scalar_at_its_step_and_time(workspace):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    run = plant(workspace, "one", steps=120)
    tables.to_tensorboard(run)
    folder = tables.to_tensorboard(run)  # what was there is replaced
    path, = folder.iterdir()
    data, place, found = path.read_bytes(), 0, {}
    while place < len(data):  # a record: its length, a checksum, itself, a checksum
        size = struct.unpack("<Q", data[place: place + 8])[0]
        event = event_pb2.Event.FromString(data[place + 12: place + 12 + size])
        found.update({(value.tag, event.step, event.wall_time): value.simple_value for value in event.summary.value})
        place += 16 + size
    wanted = {(name, row["step"], row["time"]): value for row in run.rows("metrics")[0]
              for name, value in row.items() if "/" in name}
    assert found == pytest.approx(wanted, rel=1e-6)


def test_a_run_goes_to_the_trash_and_comes_back_under_its_name(workspace):
    run = plant(workspace, "my-run-2", steps=5)
    trashed.trash(run, workspace)
    trashed.trash(plant(workspace, "my-run-2", steps=7), workspace)
    assert [trashed.was_called(path) for path in trashed.trashed(workspace)] == ["my-run-2"] * 2
    assert trashed.restore("my-run-2", workspace) == run
    assert trashed.restore("my-run-2", workspace).name == "my-run-2-2"
    assert {run.status().step for run in runs.listing(workspace)} == {5, 7}
    with pytest.raises(UserError, match="no run called x in the trash; there are none"):
        trashed.restore("x", workspace)


def test_the_trash_is_emptied_of_runs_and_of_nothing_else(workspace):
    trashed.trash(plant(workspace, "one", steps=5), workspace)
    kept = workspace.path / "trash" / "mine"
    kept.mkdir()
    assert trashed.empty(workspace) == 1
    assert kept.exists()
    assert trashed.trashed(workspace) == []


def test_the_command_line_notes_tables_and_trash(workspace, tmp_path, capsys, monkeypatch):
    plant(workspace, "one", steps=100)
    assert main(["notes", "one", "good", "--tag", "a", "--tag", "b"]) == 0
    assert main(["notes", "one", "--untag", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["#b", "good"]
    assert main(["metrics", "one", "--to", str(tmp_path / "m.csv")]) == 0
    assert f"{tmp_path / 'm.csv'} holds " in capsys.readouterr().out
    assert (tmp_path / "m.csv").read_text().startswith("step,time,tokens,")
    assert main(["metrics", "one"]) == 0
    assert capsys.readouterr().out == (tmp_path / "m.csv").read_text()
    assert main(["trash", "one"]) == 0
    monkeypatch.setattr("builtins.input", lambda words: "no")
    assert main(["trash", "--empty"]) == 0
    assert main(["trash", "--restore", "one"]) == 0
    assert main(["trash", "one"]) == 0
    assert main(["trash", "--empty", "--yes"]) == 0
    assert main(["trash"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the trash is empty"
