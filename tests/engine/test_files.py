"""Files are complete or absent; a workspace reads only where it may, and never makes a thing twice."""

from __future__ import annotations

import errno
import os

import pytest

from engine import files
from engine.config import UserError


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    files.write(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"status\.json could not be written: the disk is full"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_folder_that_was_not_finished_never_appears(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError), files.making(tmp_path / "made") as folder:
        fail(folder)
    assert os.listdir(tmp_path) == []


def test_a_finished_folder_replaces_the_old_one(tmp_path):
    for content in ("one", "two"):
        with files.making(tmp_path / "made") as folder:
            (folder / "a").write_text(content)
    assert (tmp_path / "made" / "a").read_text() == "two"
    assert os.listdir(tmp_path) == ["made"]


def test_no_room_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match="are needed"):
        files.require_space(tmp_path, 1 << 60)


def test_a_path_outside_the_workspace_is_asked_for(workspace, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.txt").write_text("x")
    (workspace.path / "link").symlink_to(outside)
    for typed in (outside / "a.txt", "../elsewhere/a.txt", "link/a.txt", "/etc/passwd"):
        with pytest.raises(UserError, match="is outside the workspace"):
            workspace.resolve(typed)
    workspace.allow(outside)
    assert workspace.resolve(outside / "a.txt") == workspace.resolve("link/a.txt") == outside / "a.txt"


def test_the_same_inputs_are_made_once(workspace):
    built = []

    def build(folder):
        (folder / "data").write_text("x")
        built.append(folder)
        return {"documents": 1}

    first = workspace.make("datasets", "A Name!", {"inputs": 1}, build)
    again = workspace.make("datasets", "another", {"inputs": 1}, build)
    other = workspace.make("datasets", "A Name!", {"inputs": 2}, build)
    assert first == again != other
    assert len(built) == 2
    assert first.name.startswith("a-name-")
    told = files.read_json(first / "manifest.json")
    assert told["summary"] == {"documents": 1}
    assert told["files"] == {"data": 1}


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"x\.json is damaged"):
        files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(("content", "told"), [
    (b"[" * 200_000, "nested too deeply"), (b'{"a": ' * 200_000, "nested too deeply"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "thousands of digits"), (b"\xff{}", "is damaged"),
    (b" " * 2000, "has 2,000 bytes, and no honest one has more than 1,000"),
])
def test_json_that_cannot_be_read_ends_in_a_sentence(tmp_path, content, told):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        files.read_json(tmp_path / "x.json", most=1000 if b" " * 9 in content else None)
    assert "x.json" in error.value.sentence
    assert "\n" not in error.value.sentence


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UserError, match="it is no file"):
        files.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_checkpoint_s_files_have_the_limits_of_a_bundle_s(tmp_path, monkeypatch, name):
    from engine.model.published import config_from
    from engine.tokens.tokenizer import load

    with open(tmp_path / name, "wb") as file:
        file.truncate(files.MOST_BYTES[name] + 1)       # no more than a hole on the disk
    with pytest.raises(UserError, match=rf"{name} has [\d,]+ bytes, and no honest one has more than"):
        config_from(tmp_path) if name == "config.json" else load(tmp_path / name)
