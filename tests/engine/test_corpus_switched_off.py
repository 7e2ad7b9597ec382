"""A step that is switched off keeps its settings, does nothing, and costs nothing to switch on again."""

from __future__ import annotations

from toy_prose import prose

from engine import files
from engine.config import read
from engine.corpus import CorpusConfig, Step
from engine.corpus.pipeline import curate, preview
from engine.progress import silent

OFF = {"kind": "quality", "min_words": 9999, "enabled": False}


def config(*steps) -> CorpusConfig:
    return read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": steps})


def test_a_step_that_is_off_counts_as_absent(workspace):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02d}.txt").write_text(prose(5, seed=number))
    with_it = curate(config("clean", OFF), workspace, "mine", silent)
    assert [step["step"] for step in files.read_json(with_it / "manifest.json")["summary"]["steps"]] == ["clean"]
    assert "9999" not in (with_it / "README.md").read_text()
    assert curate(config("clean"), workspace, "mine", silent) == with_it
    assert preview(config("clean", OFF), workspace)["problem"] == ""
    assert "quality dropped 12 of 12" in preview(config("clean", {**OFF, "enabled": True}), workspace)["problem"]


def test_the_settings_of_a_step_that_is_off_are_kept():
    assert config(OFF).dump()["steps"] == [read(Step, OFF).dump()]
    assert config(OFF).steps[0].replace(enabled=True).min_words == 9999
    assert "enabled" not in read(Step, "clean").dump()
