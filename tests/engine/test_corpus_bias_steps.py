"""Bias mitigated in a curation: what was planted is less, the cost is told, nothing leaks, all can be resumed."""

from __future__ import annotations

import hashlib
import json

import pyarrow.parquet as pq
import pytest
from toy_passes import batch_of, judged
from toy_prose import prose
from toy_steps import through, why

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig, Step
from engine.corpus.bias import measure
from engine.corpus.bias_report import measurement
from engine.corpus.pipeline import curate, preview
from engine.corpus.rebalance import leaning
from engine.progress import Stopped, silent

WOMEN, MEN = "Mary was a nurse. She loved her work.", "Mr. Hill was an engineer. He loved his work."


@pytest.fixture
def planted(workspace):
    """Forty-eight documents on women nurses and on men engineers, twice as many of the latter."""
    folder = workspace.place("corpora") / "planted"
    folder.mkdir()
    for name, line, count in (("w", WOMEN, 16), ("m", MEN, 32)):
        (folder / f"{name}.jsonl").write_text("".join(
            json.dumps({"text": f"{line} {place} days. {line}"}) + "\n" for place in range(count)))
    return folder


def made(workspace, *steps, progress=silent, **settings):
    config = read(CorpusConfig, {"sources": [{"path": "corpora/planted"}], "steps": list(steps),
                                 "validation_fraction": 0.3, **settings})
    folder = curate(config, workspace, "planted", progress)
    rows = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return folder, rows, files.read_json(folder / "manifest.json")["summary"]


def gap(measured) -> float:
    return next(found for found in measured["gaps"] if found["axis"] == "gender")["size"]["value"]


def test_augmentation_closes_the_gap_and_tells_what_it_cost(workspace, planted):
    folder, rows, summary = made(workspace, "counterfactual")
    told = files.read_json(folder / "bias.json")
    assert told["before_is"] == "as they came to counterfactual"
    assert gap(told["before"]) > 0.5
    assert abs(gap(told["after"])) < 0.02
    assert told["cost"]["documents"] == [48, 96] == [told["before"]["documents"], told["after"]["documents"]]
    assert told["cost"]["bytes"] == [told["steps"][0]["bytes_in"], summary["bytes"]]
    assert [told["steps"][0][key] for key in ("step", "documents_in", "documents_out")] == ["counterfactual", 48, 96]
    assert summary["bias"]["gaps"][0]["after"] == told["after"]["gaps"][0]["size"]
    card = (folder / "README.md").read_text()
    assert "## Bias" in card
    assert "| documents | 48 | 96 |" in card

    texts = {row["id"]: row for row in rows}
    assert len(texts) == 96
    assert texts["corpora/planted/w.jsonl:1~swapped"]["text"].startswith("John was a nurse. He loved his work. 0 days.")
    for name, row in texts.items():
        if not name.endswith("~swapped"):
            assert texts[f"{name}~swapped"]["split"] == row["split"], "a document and its counterfactual never part"
    ledger = pq.read_table(folder / "ledger.parquet").to_pylist()
    assert {(row["action"], row["reason"]) for row in ledger} == {
        ("added", "name, pronoun"), ("added", "title, pronoun")}
    assert ledger[0]["before"] != ledger[0]["after"]
    assert summary["steps"][0]["kinds"]["pronoun"] == 48 * 4
    assert summary["steps"][0]["added"] == 48


def test_an_original_stays_on_the_side_where_it_was(workspace, planted):
    before = {row["id"]: row["split"] for row in made(workspace)[1]}
    after = {row["id"]: row["split"] for row in made(workspace, "counterfactual")[1]}
    assert all(after[name] == side for name, side in before.items())


def test_substitution_costs_no_documents(workspace, planted):
    folder, rows, summary = made(workspace, {"kind": "counterfactual", "how": "substitute"})
    told = files.read_json(folder / "bias.json")
    assert len(rows) == 48
    assert 10 < summary["steps"][0]["edited"] < 38
    assert gap(told["after"]) < gap(told["before"])
    assert {row["split"] for row in rows if row["text"].startswith(("John", "Mrs. Hill"))} == {"train", "val"}


def test_rebalancing_gives_each_group_as_much_text(workspace, planted):
    folder, rows, summary = made(workspace, {"kind": "rebalance"})
    women, men = summary["shares"][0]["rows"]
    assert (women["name"], men["name"]) == ("women", "men")
    assert women["share_in"] < 0.33
    assert women["share_out"] == pytest.approx(0.5, abs=0.02)
    assert women["bytes_out"] == sum(len(row["text"]) for row in rows if "Mary" in row["text"])
    assert len({row["split"] for row in rows if row["id"].split("~")[0] == "corpora/planted/w.jsonl:1"}) == 1
    assert summary["steps"][0]["reasons"] == {"more than the balance of gender has room for":
                                              32 - men["documents_out"]}
    assert files.read_json(folder / "bias.json")["after"]["documents"] == len(rows)


def test_independence_makes_the_shares_of_files_alike():
    mixed = [*[f"{WOMEN} {n}" for n in range(30)], *[f"{MEN} {n}" for n in range(10)]]
    other = [*[f"{WOMEN} {n}." for n in range(10)], *[f"{MEN} {n}." for n in range(30)]]
    step = read(Step, {"kind": "rebalance", "target": "independent"})
    tables = [batch_of(mixed), batch_of(other)]
    tables[1] = tables[1].set_column(2, "source", [["b.txt"] * 40])

    class Looked:
        def tables(self, columns=None):
            return iter([step.look(table) for table in tables])

    for table, verdict in zip(tables, step.decide(Looked()), strict=True):
        kept = [row["text"] for row in step.judge(table, verdict).to_pylist() if row["reason"] is None]
        women = sum(len(text) for text in kept if "Mary" in text) / sum(map(len, kept))
        assert women == pytest.approx(sum(map(len, mixed[:30] + other[:10])) / sum(map(len, mixed + other)), abs=0.02)


def test_documents_lean_to_the_group_that_they_name_most():
    batch = batch_of(["she and her brother", "he", "stones", "he and she", "the old man"])
    assert leaning(batch, "gender").tolist() == [0, 1, -1, -1, 1]
    assert leaning(batch, "age").tolist() == [-1, -1, -1, -1, 1]
    assert [row["reason"] for row in judged("rebalance", ["stones"], ["more"])[0]] == [None]


def test_what_was_broken_off_ends_in_the_same_bytes(workspace, planted, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.corpus.spill.IN_MEMORY", 0)
    monkeypatch.setattr("engine.corpus.intake.SHARD", 1000)
    steps = [{"kind": "counterfactual", "share": 0.7}, {"kind": "rebalance"}, {"kind": "mixture", "megabytes": 0.004}]
    whole, *_ = made(workspace, *steps, bias="both")
    marks = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in whole.iterdir()}
    whole.rename(tmp_path / "elsewhere")
    for stage in (workspace.path / "stages").iterdir():          # as if it had been killed on the way
        for place, table in enumerate(sorted(stage.iterdir())):
            if place % 2:
                table.unlink()
    again, *_ = made(workspace, *steps, bias="both")
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in again.iterdir()} == marks

    def stop(done: int, of: int, message: str = "") -> None:
        if "part 3" in message:
            raise Stopped

    with pytest.raises(Stopped):
        made(workspace, *steps, progress=stop, bias="auto")
    assert len(workspace.listing("datasets")) == 1, "complete or absent"


def test_bias_is_measured_as_asked(workspace, planted):
    assert files.read_json(made(workspace, "clean")[0] / "bias.json")["before"] is None
    both = files.read_json(made(workspace, "clean", bias="both")[0] / "bias.json")
    assert both["before_is"] == "as they were read"
    assert both["before"] == both["after"]
    folder, _, summary = made(workspace, "counterfactual", bias="off")
    assert not (folder / "bias.json").exists()
    assert summary["bias"] is None
    assert "## Bias" not in (folder / "README.md").read_text()
    measured = measurement(measure(folder))                       # later, of the dataset
    assert measured["documents"] == 96
    assert abs(gap(measured)) < 0.02


def test_a_preview_tells_the_same(workspace, planted):
    config = read(CorpusConfig, {"sources": [{"path": "corpora/planted"}], "steps": ["counterfactual"],
                                 "validation_fraction": 0.3})
    folder, _, summary = made(workspace, "counterfactual")
    shown = preview(config, workspace)
    assert shown["bias_report"] == files.read_json(folder / "bias.json")
    assert shown["bias"] == summary["bias"]


def test_a_damaged_dataset_is_not_measured(workspace, planted, tmp_path):
    folder = made(workspace)[0]
    (folder / "documents-00000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(UserError, match="is damaged"):
        measure(folder)
    with pytest.raises(UserError, match="holds no documents"):
        measure(tmp_path)


@pytest.mark.parametrize(("text", "drops"), [
    ("You fucking idiot.", True), ("The house was quiet that winter.", False), ("FUCK you", True),
    ("Scunthorpe and the shitake", False),                        # whole words only
    (f"{prose(30)} fuck", False),                                 # one in 300
    ("Shut up now and go away you", False),                       # a quarter in seven words: 3.6 in a hundred, below 4
    ("Shut\nup or else", True),
])
def test_abuse_is_told_by_its_share_of_the_words(text, drops):
    assert bool(why({"kind": "toxicity", "max_score": 4}, text)) == drops


def test_abuse_takes_the_words_of_a_file_besides(workspace):
    (workspace.place("corpora") / "own.txt").write_text("zounds  # mild, once\n")
    folder = workspace.place("corpora") / "planted"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ("Zounds!", "good", "better")))
    summary = made(workspace, {"kind": "toxicity", "file": "corpora/own.txt"})[2]
    assert summary["steps"][0]["reasons"] == {"more than 1 words of abuse in a hundred": 1}


def test_what_speaks_of_nobody_is_left_alone():
    assert through("counterfactual", "Stones lie here.", "") == [("Stones lie here.", None), ("", None)]
