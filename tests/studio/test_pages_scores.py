"""Export and Test with a bundle that scores, and with one that keeps an adapter."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest
from planted import EVIL, opened

from engine import files, inference
from engine.config import UserError
from engine.export.benchmark import BenchmarkConfig, benchmark
from studio.pages.export import Export
from studio.pages.inference import Test as Playground

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Bundles: one score, as of a reward model, with smaller forms; and three labels."""
    import toy_scorer

    from engine.export import ExportConfig

    return [toy_scorer.bundle(tmp_path_factory.mktemp("one"), asked=ExportConfig(
                precisions=[{"kind": "float16"}, {"kind": "int4", "max_score": 1e-6}])),
            toy_scorer.bundle(tmp_path_factory.mktemp("three"), labels=("no", f"yes {EVIL}", "perhaps"))]


@pytest.fixture
def placed(session, judges):
    for name, folder in zip(("judge", "sorter"), judges, strict=True):
        shutil.copytree(folder, session.workspace.place("bundles") / name)
    return session


def scored(page):
    page.begin()
    until = time.monotonic() + 60
    while page.busy and time.monotonic() < until:
        page.tick()
        time.sleep(0.02)
    return page.board.report.html


def test_the_proof_and_the_costs_of_one_that_scores(placed):
    page = opened(Export, placed)
    page.chosen.value = "judge"
    assert "Parity passed" in page.verdict.html
    assert "16 of 16" in page.verdict.html
    assert "Perplexity" not in page.verdict.html
    assert "16 random pairs in the same order" in page.verdict.html
    assert page.costs.visible
    assert not page.quality_frame.visible
    assert "int4 (broken)" in page.smaller.html
    assert "pairs of random tokens" in page.smaller.html
    assert not page.speed.card.visible
    with pytest.raises(UserError, match="judge scores texts and writes none, so there is no speed of writing"):
        benchmark(placed.workspace.place("bundles") / "judge", BenchmarkConfig(), {})
    page.chosen.value = "sorter"
    assert "32 of 32" in page.verdict.html
    assert EVIL not in page.about.html


def test_texts_are_scored_and_stand_in_their_order(placed):
    page = opened(Playground, placed)
    page.bundle.value = "judge"
    assert page.go.label == "Score"
    assert not any(control.visible for control in (page.temperature, page.seed, page.other, page.until))
    assert page.compare.disabled
    page.prompt.value = page.prompt.value_input = f"kalo\n\nmi {EVIL}\nsané"
    page.many.value = True
    assert "studio score judge kalo" in page.words.html
    shown = scored(page)
    assert page.board.card.visible
    assert not page.first.card.visible
    assert EVIL not in shown
    texts = ["kalo", f"mi {EVIL}", "sané"]
    scores = inference.load_scorer(placed.workspace.place("bundles") / "judge").score(texts)[:, 0]
    places = [shown.index(f"<b>{score:+.4f}</b>") for score in sorted(scores, reverse=True)]
    assert places == sorted(places)
    page.many.value = False
    page.prompt.value = page.prompt.value_input = ""
    assert "the text is empty" in scored(page)
    assert not page.go.disabled


def test_a_classifier_says_its_label_and_who_writes_comes_back_whole(placed, tmp_path):
    import toy_bundle

    shutil.copytree(toy_bundle.bundle(tmp_path), placed.workspace.place("bundles") / "toy")
    page = opened(Playground, placed)
    assert not {"judge", "sorter"} & set(page.other.options)
    page.bundle.value = "sorter"
    page.prompt.value = page.prompt.value_input = "kalo mi"
    shown = scored(page)
    best = inference.load_scorer(placed.workspace.place("bundles") / "sorter").score(["kalo mi"])[0].argmax()
    assert ("no", "yes &lt;script&gt;", "perhaps")[best] in shown
    page.bundle.value = "toy"
    assert page.go.label == "Generate"
    assert page.temperature.visible
    page.length.value = 8
    scored(page)
    assert page.first.card.visible
    assert not page.board.card.visible
    assert page.first.written


def test_one_with_an_adapter_speaks_with_and_without_it(session, tmp_path):
    pytest.importorskip("peft")
    import test_export_adapter

    from engine.export import ExportConfig
    from engine.export.bundle import export

    checkpoint, own, _ = test_export_adapter.adapted(tmp_path, "llama")
    made, verdict = export(checkpoint, ExportConfig(adapter=str(own)), session.workspace.place("bundles") / "toy")
    assert verdict["passed"]
    page = opened(Playground, session)
    assert [name for name in page.sources if name.startswith("toy")] == ["toy", "toy with its adapter"]
    page.length.value, page.temperature.value = 16, 0
    page.prompt.value = page.prompt.value_input = "kalo"
    texts = {}
    for name in ("toy", "toy with its adapter"):
        page.bundle.value = name
        scored(page)
        texts[name] = "".join(token.text for _, token in page.first.written)
        assert ("--adapter" in page.words.html) == page.compare.disabled == (name != "toy")
        assert texts[name] == inference.load(made, adapter=name != "toy").generate(
            "kalo", max_new_tokens=16, temperature=0)
    assert len(set(texts.values())) == 2
    assert "its adapter, for onnxruntime" in opened(Export, session).contents.html
    assert files.read_json(made / "parity.json")["adapter"]["passed"]
