"""The bias report seen and printed: before beside after, intervals as they are, nothing a name can break."""

from __future__ import annotations

import copy
import json

import holoviews as hv
import pytest
from planted import EVIL

from engine.config import UserError, read
from engine.corpus import CorpusConfig
from engine.corpus.bias_report import of_dataset
from engine.corpus.pipeline import curate
from engine.evaluate.cost import cost
from engine.progress import silent
from studio import bias_pictures
from studio.bias_report import BiasReport
from studio.cli import main


@pytest.fixture
def dataset(workspace):
    lines = [f"She was a nurse, day {n}." for n in range(30)] + [f"He was an engineer, day {n}." for n in range(30)]
    (workspace.place("corpora") / "own.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    return curate(read(CorpusConfig, {"sources": [{"path": "corpora/own.jsonl"}], "steps": ["counterfactual"]}),
                  workspace, "own", silent)


def layer(overlay: hv.Overlay, kind: type, place: int = 0) -> hv.Element:
    return [element for element in overlay if isinstance(element, kind)][place]


def test_before_stands_beside_after(dataset):
    view, report = BiasReport(), of_dataset(dataset)
    view.__panel__().get_root()
    view.show(report)
    assert "60 → 120" in view.facts.html
    assert "before (as they came to counterfactual)" in view.table.html
    gap = report["before"]["gaps"][0]["size"]
    assert f"{gap['value']:.3f} ({gap['low']:.3f} to {gap['high']:.3f})" in view.table.html
    marks = layer(view.association.object, hv.Points)
    values = {(name, side): value for name, side, value in
              zip(marks["name"], marks["side"], marks.dimension_values(0), strict=True)}
    assert values["occupations", "before"] == report["before"]["gaps"][0]["sets"]["occupations"]["value"]
    assert values["occupations", "as it is"] == report["after"]["gaps"][0]["sets"]["occupations"]["value"]
    hv.render(view.association.object)
    hv.render(view.balance.object)


def test_names_from_a_report_are_text(dataset):
    report = json.loads(json.dumps(of_dataset(dataset)).replace('"women"', json.dumps(EVIL)).replace(
        '"gender"', json.dumps(EVIL)).replace('"engineer"', json.dumps(EVIL)))
    view = BiasReport()
    view.show(report)
    shown = view.facts.html + view.table.html + view.words.html + view.axes.html + view.title.html
    assert "<script" not in shown + view.balance_title.html
    assert "&lt;script&gt;" in shown


def test_a_dataset_without_a_report_says_so_and_one_without_groups_too(dataset):
    view = BiasReport()
    view.show(None)
    assert "not measured" in view.facts.html
    report = copy.deepcopy(of_dataset(dataset))
    for side in ("before", "after"):
        report[side].update(groups=[], gaps=[])
    view.show(report)
    assert "No term of any group" in view.words.html


def test_intervals_are_drawn_as_long_as_they_are():
    figure = {"value": 0.2, "low": 0.1, "high": 0.4}
    unsure = {"value": 0.0, "low": None, "high": None}
    picture = bias_pictures.intervals({"before": {"a": figure}, "after": {"a": unsure, "b": figure}}, "npmi")
    lines = layer(picture, hv.Segments, 1)
    assert (list(lines["x0"]), list(lines["x1"])) == ([0.1, 0.1], [0.4, 0.4])
    assert len(layer(picture, hv.Points)) == 3
    hv.render(bias_pictures.intervals({"after": {}}, "npmi"))
    hv.render(bias_pictures.balance({"after": {}}))
    boxes = layer(bias_pictures.balance({"before": {"a": 0.25, "b": 0.75}, "after": {"b": 1.0}}), hv.Rectangles)
    assert list(boxes["x1"]) == [0.25, 0.75, 0.0, 1.0]


def test_the_command_prints_the_table(workspace, dataset, capsys):
    assert main(["bias", "own"]) == 0
    printed = capsys.readouterr().out
    assert "gap between women and men" in printed
    assert f"{dataset.name}" in printed
    assert main(["bias", dataset.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == of_dataset(dataset)
    (dataset / "bias.json").unlink()
    assert main(["bias", "own"]) == 0                             # measured now
    assert "before" not in capsys.readouterr().out
    assert main(["bias", "nothing"]) == 2
    assert "nothing is none of the datasets" in capsys.readouterr().err


def test_what_a_dataset_cost_in_perplexity_is_told_with_its_caveat():
    one = {"val/loss": 2.0, "val/perplexity": 8.0, "val/bits_per_byte": 1.0, "val/accuracy": 0.5}
    other = {**one, "val/perplexity": 10.0, "val/bits_per_byte": 1.05}
    on = {"text": "a", "tokenizer": "b"}
    same = cost({**one, **on}, {**other, **on})
    assert same["measures"]["val/perplexity"] == {"before": 8.0, "after": 10.0, "change": 2.0, "percent": 25.0}
    assert same["sentence"] == "Perplexity went from 8 to 10 (+25.0 %), measured on the same held-out text."
    assert cost({**one, **on}, {**other, **on, "tokenizer": "c"})["sentence"] == (
        "Bits per byte went from 1 to 1.05 (+5.0 %), measured on the same held-out text.")
    assert "Bits per byte went from 1 to 1.05 (+5.0 %), each measured on its own" in cost(one, other)["sentence"]
    assert "cannot be compared" in cost({**one, "val/bits_per_byte": None}, other)["sentence"]


def test_what_mitigation_cost_models_stands_below_the_table_or_how_to_find_out(dataset):
    report, view = of_dataset(dataset), BiasReport()
    view.show(report)
    assert not str(view.models.html)
    view.show(report, [])
    assert "evaluate.text_of" in view.models.html
    view.show(report, [("plain", EVIL, {"sentence": "Bits per byte went from 1 to 2."})])
    assert "plain → &lt;script&gt;" in view.models.html
    assert "went from 1 to 2" in view.models.html


def test_a_folder_is_found_by_the_beginning_of_its_name(workspace, dataset):
    assert workspace.find("datasets", "ow") == dataset
    with pytest.raises(UserError, match=dataset.name):
        workspace.find("datasets", "x")
