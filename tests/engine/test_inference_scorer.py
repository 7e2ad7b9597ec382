"""From a published reward model to its scores on the command line."""

from __future__ import annotations

import json

import pytest
import torch
import toy_scorer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engine import files, runs
from engine.__main__ import main
from engine.config import UserError
from engine.runs.imported import recipe_for
from engine.runs.sources import Source, open_writer
from engine.runs.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["kalo mi sané", "mi"]


def works(recipe, workspace):
    run = runs.create(recipe, workspace)
    assert Worker(run).work() == "finished", run.status().error
    return run


def test_a_reward_model_comes_in_is_exported_with_pairs_and_scores_texts(workspace, capsys):
    folder = workspace.place("corpora") / "helpful"
    toy_scorer.checkpoint(folder)
    pairs = workspace.place("corpora") / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "kalo ", "chosen": "mi", "rejected": "sané"}))
    source = works(recipe_for(str(folder), ""), workspace)
    run = works(runs.recipe_of(source).override("jobs=[export]", f"from_run={source.name}", "name=helpful-export",
                                                "export.pairs=corpora/pairs.jsonl"), workspace)
    bundle = workspace.path / run.made()["bundle"]
    assert files.read_json(bundle / "parity.json")["pairs"]["text"] == "given"

    reference, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(
        folder)
    with torch.no_grad():
        scores = [float(reference(**tokenizer(text, return_tensors="pt")).logits[0, 0]) for text in TEXTS]
    capsys.readouterr()
    assert main(["score", bundle.name, *TEXTS, "--pairs", str(pairs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, text, score in zip(lines, TEXTS, scores, strict=False):
        told, _, shown = line.partition("  ")
        assert shown == text
        assert float(told) == pytest.approx(score, abs=2e-4)
    more = "first" if scores[0] > scores[1] else "second"
    assert lines[2].startswith(f"the {more} scores {abs(scores[0] - scores[1]):.3f}"[:-2])
    assert lines[3].endswith("of 1 pairs")

    assert main(["generate", bundle.name, "kalo"]) == 2
    assert "scores texts and writes none" in capsys.readouterr().err
    assert main(["score", bundle.name]) == 2
    assert "nothing to score" in capsys.readouterr().err


def test_a_classifier_names_its_label(tmp_path, workspace, capsys):
    bundle = toy_scorer.bundle(tmp_path, labels=("no", "yes"))
    assert main(["score", str(bundle), "kalo", "--prompt", "mi "]) == 0
    with torch.no_grad():
        reference = AutoModelForSequenceClassification.from_pretrained(bundle)
        ids = AutoTokenizer.from_pretrained(bundle)("mi kalo", return_tensors="pt")
        share, label = reference(**ids).logits[0].softmax(0).max(0)
    line = capsys.readouterr().out.strip()
    assert line == f"{('no', 'yes')[label]} ({share:.1%})  kalo"
    assert main(["score", str(bundle), "--pairs", "x"]) == 2


@pytest.mark.parametrize("line", [["generate", "kalo"], ["generate", "--prompts", "p.txt"], ["chat"],
                                  ["serve", "--port", "0"]])
def test_what_asks_a_judge_to_write_is_told_that_it_scores(line, workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("kalo\n")
    bundle = toy_scorer.bundle(tmp_path)
    command, *rest = line
    assert main([command, str(bundle), *rest]) == 2
    assert f"{bundle.name} scores texts and writes none" in capsys.readouterr().err


def test_a_checkpoint_that_scores_writes_nothing_either(tmp_path):
    with pytest.raises(UserError, match="scores texts and writes none"):
        open_writer(Source("judge", tmp_path, checkpoint=True, scores=True))


def test_paths_outside_the_workspace_are_refused(workspace, tmp_path):
    folder = workspace.place("corpora") / "helpful"
    toy_scorer.checkpoint(folder)
    outside = tmp_path / "pairs.jsonl"
    outside.write_text("")
    source = works(recipe_for(str(folder), ""), workspace)
    for name in ("pairs", "adapter"):
        with pytest.raises(AssertionError, match="is outside the workspace"):
            works(runs.recipe_of(source).override("jobs=[export]", f"from_run={source.name}", "name=x",
                                                  f"export.{name}={outside}"), workspace)
