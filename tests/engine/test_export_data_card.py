"""What a model's card tells of the texts that it learned from."""

from __future__ import annotations

import pytest
import toy_bundle

from engine import files
from engine.corpus import CorpusConfig
from engine.corpus.pipeline import curate
from engine.export import ExportConfig, data_card
from engine.export.bundle import export
from engine.progress import silent
from engine.workspace import Workspace

EVIL = "<script>alert(1)</script>|`x`"


@pytest.fixture
def dataset(workspace):
    """Curated from two folders: one with a README and copies in it, one with nothing but texts."""
    for name in ("sea tales", "letters"):
        (workspace.place("corpora") / name).mkdir()
    told = [f"The captain of the {number}th ship found her winter harbour under the grey stone hill. " * 6
            for number in range(30)]
    for number, text in enumerate([*told, *told[:4]]):
        (workspace.place("corpora") / "sea tales" / f"{number}.txt").write_text(text)
    for number in range(12):
        (workspace.place("corpora") / "letters" / f"{number}.txt").write_text(
            f"My dear {number}, she had found the letter that her brother kept since the morning came again. " * 5)
    (workspace.place("corpora") / "sea tales" / "README.md").write_text(f"---\nlicense: cc-by-4.0\n---\n{EVIL}\n")
    config = CorpusConfig.model_validate({
        "sources": [{"path": "corpora/sea tales/*.txt"}, {"path": "corpora/letters"}],
        "steps": [{"kind": "clean"}, {"kind": "exact_duplicates"}]})
    return curate(config, workspace, "toy", silent)


def test_the_card_tells_what_was_read_dropped_and_licensed_as_the_ledger_counted_it(dataset, workspace, tmp_path):
    known = data_card.facts(dataset, workspace.resolve)
    summary = files.read_json(dataset / files.MANIFEST)["summary"]
    out, _ = export(toy_bundle.checkpoint(tmp_path / "checkpoint"), ExportConfig(), tmp_path / "toy", facts={
        "dataset": known, "lineage": {"dataset": f"datasets/{dataset.name}", "run": "toy"}})
    card = (out / "README.md").read_text()
    assert f"{summary['documents']:,} documents, {summary['bytes']:,} bytes of text" in card
    assert "46 documents were read" in card
    assert summary["documents"] == 42
    duplicates = next(step for step in summary["steps"] if step["step"] == "exact_duplicates")
    reason, count = next(iter(duplicates["reasons"].items()))
    assert count == 4
    assert f"| 46 | 42 | {duplicates['bytes_in']:,} | {duplicates['bytes_out']:,} | 4: {reason} 4 |" in card
    assert "| letters | 12 |" in card
    assert card.count("cc-by-4.0") == 1
    assert data_card.UNSTATED in card
    assert "<script>" not in card
    assert str(workspace.path) not in card
    assert ("Bias, measured" in card) == bool(summary.get("bias"))


def test_a_dataset_that_is_gone_or_of_another_kind_is_not_spoken_of(workspace, tmp_path):
    assert data_card.facts(tmp_path / "absent", workspace.resolve) == {}
    files.write_json(tmp_path / files.MANIFEST, {"made_from": 1, "summary": []})
    assert data_card.facts(tmp_path, workspace.resolve) == {}
    assert data_card.told({}) == ""
    assert data_card.told({"made_from": {"sources": []}, "summary": {"steps": [{}]}, "licences": {}}) == ""


@pytest.mark.parametrize(("files_beside", "words"), [
    ({"LICENSE": "MIT License\n\nPermission is hereby"}, "MIT License (LICENSE)"),
    ({"LICENCE.txt": "Free art\nof all"}, "Free art of all (LICENCE.txt)"),
    ({"README.md": "---\nlicense: [mit, cc0-1.0]\n---\n"}, "mit, cc0-1.0"),
    ({"README.md": "# no head", "SOURCES": "In the public domain."}, "In the public domain. (SOURCES)"),
    ({"README.md": "---\nlicense: [\n---\n"}, data_card.UNSTATED),
    ({}, data_card.UNSTATED),
])
def test_a_licence_is_found_beside_the_texts(workspace, files_beside, words):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for name, text in {**files_beside, "a.txt": "text"}.items():
        (folder / name).write_text(text)
    for source in ("corpora/mine", "corpora/mine/a.txt", "corpora/mine/*.txt"):
        assert data_card.licence(source, workspace.resolve) == words


def test_the_bundled_novels_and_a_place_that_may_not_be_read(workspace):
    assert "public domain" in data_card.licence("corpora/novels", workspace.resolve)
    assert data_card.licence("/etc", workspace.resolve) == data_card.UNSTATED


@pytest.mark.parametrize("name", ["LICENSE", "README.md"])
def test_a_licence_behind_a_link_stays_out_of_the_card(workspace, tmp_path, name):
    (tmp_path / "secret").write_text("---\nlicense: secret\n---\n")
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "secret")
    assert data_card.licence("corpora/mine", workspace.resolve) == data_card.UNSTATED


def test_beside_an_allowed_file_nothing_is_read(tmp_path):
    (tmp_path / "LICENSE").write_text("secret")
    (tmp_path / "a.txt").write_text("text")
    workspace = Workspace(tmp_path / "workspace", allow=[tmp_path / "a.txt"])
    assert data_card.licence(str(tmp_path / "a.txt"), workspace.resolve) == data_card.UNSTATED
