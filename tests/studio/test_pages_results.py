"""Evaluate, Export and Test without a browser: reports side by side, verdicts that are seen, text that streams."""

from __future__ import annotations

import html
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest
from planted import EVIL, opened, plant

from engine import files, inference, runs
from engine.config import UserError
from engine.runs.sources import Source, open_source
from studio.pages.evaluate import Evaluate
from studio.pages.export import Export
from studio.pages.inference import Test as Playground

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
PARITY = {"passed": True, "sentence": "The same logits.", "tolerance": 1e-3, "max_difference": 2e-6,
          "greedy_tokens_equal": 64, "greedy_tokens": 64,
          "cases": [{"name": "one text", "max_difference": 2e-6, "passed": True}]}


def checkpointed(session, name, **facts):
    """A run with a checkpoint, and a report of these figures."""
    run = plant(session.workspace, name, steps=5)
    checkpoint = run.path / "checkpoints" / "step-000005"
    checkpoint.mkdir(parents=True)
    files.write_json(checkpoint / "meta.json", {"step": 5})
    if facts:
        files.write_json(run.path / "evaluation.json", {
            "checkpoint": "step-000005", "val/perplexity": 20.0, "val/bits_per_byte": None, "tokens": 100,
            "text_of": name, "text": "a text", "tokenizer": "a tokenizer", **facts,
            "by_position": {"places": [1, 2], "losses": [4.0, 3.0]},
            "passages": {"easiest": [{"text": "so it goes", "loss": 1.0}], "hardest": [{"text": EVIL, "loss": 9.0}]},
            "samples": [{"prompt": "It was", "text": f" {EVIL} of {name}"}]})
    return run


# Evaluate ---------------------------------------------------------------------------------------------


def test_reports_stand_side_by_side_and_the_best_of_each_row_is_marked(session):
    checkpointed(session, "one", **{"val/loss": 3.5, "val/accuracy": 0.2})
    checkpointed(session, "two", **{"val/loss": 3.1, "val/accuracy": 0.1})
    page = opened(Evaluate, session)
    assert '<td class="num best">3.100</td>' in page.table.html
    assert '<td class="num best">20 %</td>' in page.table.html
    assert page.table.html.count("–") == 2
    assert len(page.places.object) == 2
    assert page.samples.html.count("It was") >= 2
    assert "<script" not in page.samples.html + page.passages.html
    checkpointed(session, "short", **{"val/loss": 2.9, "tokens": 50})
    page.tick()
    assert set(page.chosen.value) == {"one", "two", "short"}
    assert "num best" not in page.table.html
    assert "not of the same tokens of the same text" in page.table.html
    checkpointed(session, "here", **{"val/bits_per_byte": 1.5})
    checkpointed(session, "elsewhere", **{"val/bits_per_byte": 1.0, "text": "another text"})
    page.tick()
    page.chosen.value = ["here", "elsewhere"]
    assert "num best" not in page.table.html
    assert "which is not the same text" in page.table.html
    page.chosen.value = ["one"]
    assert "best" not in page.table.html


def test_a_report_that_comes_while_one_looks_is_shown(session):
    run = checkpointed(session, "one")
    page = opened(Evaluate, session)
    assert not page.results.visible
    files.write_json(run.path / "evaluation.json", {"val/loss": 2.0, "val/perplexity": 7.4, "val/bits_per_byte": 1.0,
                                                    "val/accuracy": 0.3, "tokens": 9, "checkpoint": "x", "samples": []})
    page.tick()
    assert page.results.visible
    assert "2.000" in page.table.html


@pytest.mark.parametrize(("page_type", "job"), [(Evaluate, "evaluate"), (Export, "export")])
def test_a_start_looks_at_the_chosen_run_with_the_settings_of_the_form(session, monkeypatch, page_type, job):
    checkpointed(session, "source")
    monkeypatch.setattr(runs, "launch", lambda run: None)
    session.draft.put(("evaluate", "temperature"), 0.5)
    session.draft.put(("export", "tolerance"), 0.25)
    page = opened(page_type, session)
    assert f"studio {job} source" in page.words.html
    page.start()
    made = runs.recipe_of(runs.find(f"source-{job}", session.workspace))
    assert (made.jobs, made.from_run) == ((job,), "source")
    assert made.evaluate.temperature == (0.5 if job == "evaluate" else 0.8)
    assert made.export.tolerance == (0.25 if job == "export" else 1e-3)


@pytest.mark.parametrize(("page_type", "job"), [(Evaluate, "evaluate"), (Export, "export")])
def test_the_command_makes_the_settings_that_the_button_starts_with(session, monkeypatch, page_type, job):
    source = checkpointed(session, "source")
    base = runs.recipe_of(source).override("evaluate.sample_tokens=7", "export.tolerance=0.5")
    (source.path / "recipe.yaml").write_text(base.to_yaml())
    monkeypatch.setattr(runs, "launch", lambda run: None)
    session.draft.put(("evaluate", "temperature"), 0.5)
    session.draft.put(("evaluate", "prompts"), ["It's", "one two"])
    session.draft.put(("export", "precisions"), [{"kind": "int8"}])
    session.draft.put(("train", "max_steps"), 3)
    page = opened(page_type, session)
    shown = html.unescape(page.words.html.split('class="where">')[1].split("</code>")[0])
    command = shlex.split(shown.split(" --workspace")[0])
    assert command[:3] == ["studio", job, "source"]
    assert "train" not in shown
    page.start()
    made = runs.recipe_of(runs.find(f"source-{job}", session.workspace))
    assert getattr(base.override(*command[3:]), job) == getattr(made, job) != getattr(base, job)


# Export -----------------------------------------------------------------------------------------------


def test_files_for_llama_cpp_are_named_and_a_refusal_is_seen(session):
    folder = bundle(session)
    manifest = files.read_json(folder / files.MANIFEST)
    manifest["files"]["gguf/good-Q8_0.gguf"] = 5_000_000
    files.write_json(folder / files.MANIFEST, manifest)
    page = opened(Export, session)
    assert "the model, for llama.cpp" in page.contents.html
    assert "is-warning" not in page.verdict.html
    manifest["summary"] = {"gguf": {"files": {}, "refused": f"No GGUF file was made: {EVIL}"}}
    files.write_json(folder / files.MANIFEST, manifest)
    page = opened(Export, session)
    assert "No GGUF file was made" in page.verdict.html
    assert EVIL not in page.verdict.html


def bundle(session, name="good", **changes):
    folder = session.workspace.place("bundles") / name
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(b"x" * 2048)
    (folder / "README.md").write_text(f"# A card {EVIL}")
    files.write_json(folder / "parity.json", {**PARITY, **changes})
    files.write_json(folder / files.MANIFEST, {"files": {"onnx/model.onnx": 2048}})
    return folder


def test_a_bundle_shows_its_proof_its_files_and_its_card(session):
    folder = bundle(session)
    page = opened(Export, session)
    assert "Parity passed" in page.verdict.html
    assert "64 of 64" in page.verdict.html
    assert "random" not in page.verdict.html    # nobody wrote down what text its perplexity is of
    assert "2 KiB" in page.contents.html
    assert str(folder) in page.where.html
    assert "<h1>A card &lt;script&gt;" in page.about.html, "Markdown as a page, and nothing else is markup"
    page._talk()
    assert (session.page, session.bundle) == ("inference", "good")


def test_a_failed_parity_is_unmistakable_though_it_left_no_bundle(session):
    run = plant(session.workspace, "bad", steps=5, state="failed", error="The exported model is not the same model")
    run.event("parity", **{**PARITY, "passed": False, "sentence": f"The logits differ by 3 {EVIL}."})
    page = opened(Export, session)
    assert page.failed.visible
    assert "bad: parity FAILED" in page.failed.html
    assert "No bundle was made" in page.failed.html
    assert "<script" not in page.failed.html
    assert not page.results.visible


def test_a_bundle_whose_proof_failed_or_is_missing_does_not_look_good(session):
    folder = bundle(session, passed=False, max_difference=None, cases=[])
    page = opened(Export, session)
    assert "Parity FAILED" in page.verdict.html
    (folder / "parity.json").unlink()
    assert "no proof" in opened(Export, session).verdict.html


COSTS = [
    {"precision": "float32", "file": "onnx/model.onnx", "bytes": 4_000_000, "passed": True, "sentence": "", "loss": 2.0,
     "perplexity": 7.4, "bits_per_byte": 1.2, "loss_change": 0.0, "perplexity_change": 0.0, "bits_per_byte_change": 0.0,
     "divergence": 0.0, "agreement": 1.0, "greedy_agreement": 1.0, "tokens_per_second": 500.0, "tokens": 4096,
     "prefill_tokens_per_second": 4000.0, "text": "held out"},
    {"precision": "int8", "file": "onnx/model_int8.onnx", "bytes": 1_000_000, "passed": True, "sentence": "",
     "loss": 2.01, "perplexity": 7.5, "bits_per_byte": 1.21, "loss_change": 0.01, "perplexity_change": 0.1,
     "bits_per_byte_change": 0.0123, "divergence": 3e-4, "agreement": 0.98, "greedy_agreement": 0.5,
     "tokens_per_second": 1500.0, "tokens": 4096, "prefill_tokens_per_second": 6000.0, "text": "held out"},
    {"precision": "int4", "file": "onnx/model_q4.onnx", "bytes": 500_000, "passed": False, "tokens": 4096,
     "sentence": "int4 is broken: onnxruntime could not run it: <script>.", "text": "held out"},
    {"precision": "q8_0", "file": "gguf/toy-Q8_0.gguf", "bytes": 1_100_000, "passed": True, "sentence": "",
     "loss": 2.02, "perplexity": 7.6, "bits_per_byte": 1.22, "loss_change": 0.02, "perplexity_change": 0.2,
     "bits_per_byte_change": 0.0234, "divergence": 4e-4, "agreement": 0.97, "greedy_agreement": 0.4, "tokens": 4096,
     "text": "held out"},
]


def test_the_costs_of_smaller_forms_are_a_table_and_a_picture_and_a_broken_one_is_broken(session):
    folder = bundle(session)
    page = opened(Export, session)
    assert not page.costs.visible
    files.write_json(folder / "cost.json", COSTS)
    page = opened(Export, session)
    assert page.costs.visible
    told = page.smaller.html
    assert "int4 (broken)" in told
    assert "int4 is broken: onnxruntime could not run it: &lt;script&gt;. It is not in the bundle." in told
    assert "q8_0 GGUF" in told
    assert "own arithmetic is not included" in told
    for figure in ("+0.0234", "+0.0123", "3.0e-04", "98.0%", "1,500", "977 KiB",
                   "4,096 tokens of text that was held out"):
        assert figure in told
    marks = page.quality.object.get(0)
    assert list(marks.dimension_values("precision")) == ["float32", "int8"]
    areas = marks.dimension_values("mark") ** 2
    assert areas[0] / areas[1] == pytest.approx(4, rel=0.01)
    (folder / "cost.json").write_text("{")
    assert "damaged" in opened(Export, session).smaller.html


DEEP = "[" * 200_000
LONG = '{"a": 1' + "0" * 5000 + "}"


PROOFS = [
    "{}", '"x"', "[]", "1", "null", DEEP, LONG, {"passed": True, "tolerance": "x"}, {"tolerance": None},
    {"tolerance": 0}, {"tolerance": 1e308}, {"tolerance": -1}, {"max_difference": "x"}, {"max_difference": []},
    {"cases": 3}, {"cases": [1]}, {"cases": [{}]}, {"cases": PARITY["cases"] * 9999}, {"perplexity": 3},
    {"perplexity": {"pytorch": "x"}}, {"decisions": 3}, {"decisions": 1, "decisions_equal": 1, "pairs": {"pytorch": 1}},
    {"cases": [{"name": "a", "max_difference": "x", "passed": True}]},
    {"cases": [{"name": "a", "max_difference": 1e308, "passed": True}]},
    {"cases": [{"name": "a", "max_difference": 10**400, "passed": True}]},
]


def test_a_proof_of_another_shape_is_told_and_the_page_goes_on(session):
    folder = bundle(session)
    page = opened(Export, session)
    for proof in PROOFS:
        (folder / "parity.json").write_text(proof if isinstance(proof, str) else json.dumps({**PARITY, **proof}))
        page._show()
        assert "This bundle has no proof" in page.verdict.html, str(proof)[:80]
        assert "parity.json" in page.verdict.html
        assert "passed" not in page.verdict.html
        assert page.cases.object is None
        assert "2 KiB" in page.contents.html, "the rest of the page is there"
    files.write_json(folder / "parity.json", PARITY)
    page._show()
    assert "Parity passed" in page.verdict.html


def test_a_manifest_of_another_shape_is_told_and_the_page_goes_on(session):
    folder = bundle(session)
    page = opened(Export, session)
    for manifest in ("[]", '{"files": [1]}', '{"files": {"a": "x"}}', '{"files": 3}', DEEP):
        (folder / files.MANIFEST).write_text(manifest)
        page._show()
        assert "Parity passed" in page.verdict.html, manifest[:80]
        assert "manifest.json" in page.contents.html, manifest[:80]
        assert "damaged" in page.contents.html, manifest[:80]
        assert "A card" in page.about.html


def test_a_proof_that_says_passed_in_another_word_did_not_pass(session):
    bundle(session, passed="no")
    assert "Parity FAILED" in opened(Export, session).verdict.html


def test_one_goes_from_a_bundle_without_costs_to_one_with_them_and_back(session):
    bundle(session, "plain")
    files.write_json(bundle(session, "costly") / "cost.json", COSTS)
    page = opened(Export, session)
    for name, shown in (("plain", False), ("costly", True), ("plain", False), ("costly", True)):
        page.chosen.value = name
        assert page.costs.visible == page.quality_frame.visible == shown


def test_costs_and_speeds_of_another_shape_are_told(session):
    folder = bundle(session)
    page = opened(Export, session)
    mark = files.fingerprint_file(folder / files.MANIFEST)
    changes = ({"bytes": "x"}, {"bytes": 0}, {"bytes": -1}, {"tokens_per_second": "x"}, {"tokens_per_second": -5},
               {"tokens_per_second": 10**400}, {"divergence": "x"}, {"divergence": 1e308}, {"tokens": {}})
    for rows in ("3", '"x"', "[1]", "[{}]", '{"a": 1}', DEEP, LONG, *(json.dumps([{**COSTS[0], **change}])
                                                                      for change in changes)):
        (folder / "cost.json").write_text(rows)
        (folder / "benchmark.json").write_text(f'{{"fingerprint": "{mark}", "rows": {rows}}}')
        page._show_costs(folder)
        page.speed.show(folder)
        assert "cost.json is damaged" in page.smaller.html, rows[:200]
        assert page.quality.object is None
        assert "damaged" in page.speed.figures.html, rows[:200]
    assert "Parity passed" in page.verdict.html


def test_a_card_that_is_a_link_out_of_its_folder_is_not_read(session, tmp_path):
    (tmp_path / "secret").write_text("something of this machine")
    folder = bundle(session)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    page = opened(Export, session)
    assert "something of this machine" not in page.about.html
    assert "leads out of its folder" in page.about.html


# Test -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    import toy_bundle

    return toy_bundle.bundle(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def playground(session, toy):
    shutil.copytree(toy, session.workspace.place("bundles") / "toy")
    page = opened(Playground, session)
    page.seed.value = "7"
    return page


def written(page, wait=True):
    until = time.monotonic() + 60
    while (page.busy or page.closer.busy) and time.monotonic() < until:
        page.tick()
        time.sleep(0.02)
    return "".join(token.text for _, token in page.first.written)


def test_it_writes_what_the_engine_writes_for_the_same_seed_and_says_how_likely(playground, session):
    playground.prompt.value = f"The {EVIL}"
    playground.length.value = 24
    begun = time.monotonic()
    playground.begin()
    assert time.monotonic() - begun < 0.5, "the page must not wait for the model"
    assert playground.go.disabled
    text = written(playground)
    model = inference.load(session.workspace.place("bundles") / "toy")
    assert text == model.generate(f"The {EVIL}", max_new_tokens=24, seed=7) != ""
    assert not playground.go.disabled
    shown = playground.first.text.html
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("likely") == len(playground.first.written)
    token = playground.first.written[0][1]
    assert token.probability in [share for *_, share in token.alternatives] or len(token.alternatives) == 5
    assert ">7</dd>" in playground.first.facts.html


def test_stop_works_at_once_and_keeps_what_was_written(playground, monkeypatch):
    from engine.inference.generator import Generator

    whole = Generator.tokens

    def slowly(self, *arguments, **named):
        for token in whole(self, *arguments, **named):
            time.sleep(0.05)
            yield token

    monkeypatch.setattr(Generator, "tokens", slowly)
    playground.length.value = 64
    playground.begin()
    while len(playground.first.written) < 3:
        time.sleep(0.01)
    playground.stop()
    written(playground)
    assert 3 <= len(playground.first.written) < 20
    assert not playground.go.disabled


def test_a_broken_bundle_and_a_wrong_seed_give_their_sentences(playground, session):
    playground.seed.value = "seven"
    playground.begin()
    assert playground.seed.error_state
    assert not playground.busy
    playground.seed.value = ""
    (session.workspace.place("bundles") / "toy" / "onnx" / "model.onnx").write_bytes(b"cut")
    playground.begin()
    written(playground)
    assert "export it again" in playground.first.facts.html or "export the bundle again" in playground.first.facts.html
    assert not playground.go.disabled


def test_two_models_side_by_side_and_blind(playground, session, toy):
    shutil.copytree(toy, session.workspace.place("bundles") / "other")
    playground.shown()
    playground.bundle.value, playground.other.value, playground.blind.value = "toy", "other", True
    playground.length.value = 16
    playground.begin()
    written(playground)
    assert playground.second.card.visible
    assert [token.id for _, token in playground.first.written] == [token.id for _, token in playground.second.written]
    titles = playground.first.title.html + playground.second.title.html
    assert "Model A" in titles
    assert "toy" not in titles
    assert playground.reveal.visible
    playground._reveal()
    titles = playground.first.title.html + playground.second.title.html
    assert "toy" in titles
    assert "other" in titles
    assert not playground.reveal.visible
    playground.other.value = "nobody"
    playground.begin()
    written(playground)
    assert not playground.second.card.visible


def test_one_bad_bundle_is_named_and_takes_nothing_else_away(session, toy, capsys):
    from engine.__main__ import main

    shutil.copytree(toy, session.workspace.place("bundles") / "toy")
    bad = session.workspace.place("bundles") / "aaa"
    bad.mkdir()
    (bad / files.MANIFEST).write_text(DEEP)
    page = opened(Playground, session)
    for manifest in (DEEP, LONG, "{", '{"summary": {"graphs": {' + ",".join(f'"{n}": ""' for n in range(99)) + "}}}"):
        (bad / files.MANIFEST).write_text(manifest)
        page.shown()
        assert page.bundle.options == ["toy"]
        assert "Bundle aaa is left out" in page.broken.html
        assert main(["generate", "aaa", "x", "--workspace", str(session.workspace.path)]) != 0
        told = capsys.readouterr().err
        assert "manifest.json" in told
        assert "Traceback" not in told
    page.length.value = 4
    page.begin()
    assert written(page)


def test_a_stop_string_ends_the_text_and_is_in_the_command(playground, session):
    model = inference.load(session.workspace.place("bundles") / "toy")
    whole = model.generate("It was", max_new_tokens=24, seed=7)
    playground.until.value = whole[6:9]
    playground.until.value_input = whole[6:9]
    playground.length.value = 24
    playground.begin()
    assert written(playground) == whole[:whole.index(whole[6:9])]
    assert "--stop" in playground.words.html


def test_a_prompt_set_is_written_whole_and_reported(playground):
    playground.prompt.value = playground.prompt.value_input = f"kalo\n\nmi {EVIL}\nsané"
    playground.many.value, playground.length.value = True, 8
    playground.begin()
    written(playground)
    assert [row["prompt"] for row in playground.batch.rows] == ["kalo", f"mi {EVIL}", "sané"]
    told = playground.batch.report.html
    assert "<script" not in told
    assert ">3</dd>" in told
    assert not playground.go.disabled


def test_a_checkpoint_speaks_and_a_bundle_is_compared_with_pytorch(playground, session, toy):
    """Both in a process of their own: the studio has no torch."""
    run = plant(session.workspace, "trained", steps=1)
    shutil.copytree(toy.parent / "checkpoint", run.path / "checkpoints" / "step-000001")
    files.write_json(run.path / "checkpoints" / "step-000001" / "meta.json", {"step": 1})
    source = Source("trained", run.path / "checkpoints" / "step-000001", checkpoint=True)
    assert open_source(source).generate("kalo", 12, seed=3) == inference.load(toy).generate("kalo", 12, seed=3)
    playground.prompt.value = playground.prompt.value_input = "kalo mi sané"
    playground.look_closer()
    written(playground)
    told = playground.closer.shown.html
    assert "Largest difference of a logit" in told
    assert "e-0" in told.split("Largest difference")[1][:60]
    with pytest.raises(UserError, match=r"config\.json is missing"):
        open_source(Source("gone", session.workspace.path, checkpoint=True))
