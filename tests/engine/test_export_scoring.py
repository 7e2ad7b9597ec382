"""Bundles of models that score: the same scores, the same order, proven or absent."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
import toy_bundle
import toy_models
import toy_scorer
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engine import files, inference
from engine.config import UserError
from engine.export import ExportConfig, onnx, preview, score_cost
from engine.export.bundle import export
from engine.export.pairs import made_pairs
from engine.export.score_parity import compare
from engine.export.scoring import PortableScoringGraph, ScoringGraph
from engine.inference.pairs import Pairs
from engine.inference.scorer import Reader

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ("no", "yes", "perhaps")


def graph(model, kind=ScoringGraph, **changed):
    weights = {name: tensor.numpy().copy() for name, tensor in model.weights().items()}
    for name, factor in changed.items():
        weights[name] = weights[name] * factor
    return kind(model.config, weights, None, model.labels, model.pad)


@pytest.mark.parametrize("kind", [ScoringGraph, PortableScoringGraph])
@pytest.mark.parametrize(("form", "labels", "pad"), [
    ("llama", ("score",), 3), ("qwen3-wide-heads", LABELS, None), ("gpt2", ("score",), 3), ("llama3", LABELS, 3)])
def test_the_graph_is_the_model(tmp_path, kind, form, labels, pad):
    model = toy_scorer.model(form, labels, pad)
    graph(model, kind).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == {"input_ids", "attention_mask"}
    assert [value.name for value in session.get_outputs()] == ["logits"]
    found = compare(model, tmp_path / "model.onnx", 1e-3, made_pairs(model.config, None))
    assert found["passed"], found["sentence"]
    assert found["max_difference"] < 1e-4
    assert [case["name"] for case in found["cases"]] == ["one text", "padding on the left", "padding on the right",
                                                         "32 tokens, the full context", "16 pairs of texts"]
    assert found["decisions_equal"] == found["decisions"] == (16 if labels == ("score",) else 32)


def test_the_gate_sees_what_is_wrong(tmp_path, monkeypatch):
    model, path = toy_scorer.model(), tmp_path / "model.onnx"
    pairs = made_pairs(model.config, None)

    def wrong(made):
        made.save(path)
        found = compare(model, path, 1e-3, pairs)
        assert not found["passed"]
        return found, {case["name"] for case in found["cases"] if not case["passed"]}

    _, names = wrong(graph(model, **{"blocks.1.mlp.down.weight": 1.2}))
    assert "one text" in names
    found, _ = wrong(graph(model, **{"score.weight": -1.0}))
    assert found["decisions_equal"] == 0
    assert "0 of 16 random pairs in the same order" in found["sentence"]
    monkeypatch.setattr(onnx, "HIDDEN", 0.0)
    _, names = wrong(graph(model))
    assert names == {"padding on the left"}, "what stands after a text's last token changes nothing"
    path.write_bytes(b"no graph")
    assert "could not run" in compare(model, path, 1e-3, pairs)["sentence"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    precisions = [{"kind": kind} for kind in ("float16", "int8", "int8_dynamic", "int4")]
    return toy_scorer.bundle(tmp_path_factory.mktemp("judge"), asked=ExportConfig(
        precisions=precisions, gguf=("f32",), licence="mit"))


def test_the_folder_holds_all_and_transformers_gives_the_same_scores(bundle):
    manifest = files.read_json(bundle / files.MANIFEST)
    assert {"README.md", "config.json", "cost.json", "model.safetensors", "onnx/model.onnx", "parity.json",
            "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} <= set(manifest["files"])
    assert not {"genai_config.json", "generation_config.json"} & set(manifest["files"])
    assert set(manifest["files"]) == set(manifest["checksums"])
    assert manifest["summary"]["task"] == "text-classification"
    assert "for models that write" in manifest["summary"]["gguf"]["refused"]
    texts = ["kalo mi sané", "mi kalo", "sané sané sané kalo"]
    reference, tokenizer = AutoModelForSequenceClassification.from_pretrained(bundle), AutoTokenizer.from_pretrained(
        bundle)
    with torch.no_grad():
        expected = [reference(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    model = inference.load_scorer(bundle)
    assert model.labels == ("score",)
    assert np.allclose(model.score(texts), expected, atol=1e-4)
    front = yaml.safe_load((bundle / "README.md").read_text().split("---")[1])
    assert (front["pipeline_tag"], front["license"]) == ("text-classification", "mit")


def test_each_precision_has_its_cost(bundle):
    rows = {row["precision"]: row for row in files.read_json(bundle / "cost.json")}
    assert list(rows) == ["float32", "float16", "int8", "int8_dynamic", "int4"]
    assert rows["float32"]["score_change"] == 0 < rows["int8"]["score_change"] < rows["int4"]["score_change"]
    assert rows["float16"]["score_change"] < 0.01
    assert all(row["prefill_tokens_per_second"] > 0 for row in rows.values() if row["passed"])
    for name, row in rows.items():
        assert (bundle / row["file"]).exists() == row["passed"]
        if row["passed"]:
            scores = inference.load_scorer(bundle, precision=name).score(["kalo mi", "sané"])
            whole = inference.load_scorer(bundle).score(["kalo mi", "sané"])
            assert np.abs(scores - whole).max() <= max(1e-6, 4 * row["largest_change"])


def test_a_form_that_costs_too_much_is_broken(tmp_path):
    asked = ExportConfig(precisions=[{"kind": "int4", "max_score": 1e-6}])
    made = toy_scorer.bundle(tmp_path, asked=asked)
    row = files.read_json(made / "cost.json")[1]
    assert not row["passed"]
    assert row["sentence"].startswith("int4 is broken: scores move by ")
    assert not (made / "onnx" / "model_q4.onnx").exists()


def test_a_failed_proof_leaves_no_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "HIDDEN", 0.0)
    made, verdict = export(toy_scorer.checkpoint(tmp_path / "checkpoint"), ExportConfig(), tmp_path / "judge")
    assert not verdict["passed"]
    assert not made.exists()


def test_given_pairs_are_read_and_told(tmp_path):
    records = [{"prompt": "kalo ", "chosen": "mi sané", "rejected": "mi"}, {"chosen": "sané", "rejected": "kalo"},
               {"chosen": "kalo " * 200, "rejected": "mi"}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    made = toy_scorer.bundle(tmp_path, asked=ExportConfig(pairs=str(path)))
    told = files.read_json(made / "parity.json")
    model = inference.load_scorer(made)
    scores = model.score(["kalo mi sané", "sané", "kalo mi", "kalo"])[:, 0]
    assert told["pairs"] == {"pytorch": float((scores[:2] > scores[2:]).mean()), "text": "given", "pairs": 2,
                             "onnxruntime": float((scores[:2] > scores[2:]).mean()), "left_out": 1}
    assert told["decisions_equal"] == told["decisions"] == 2
    assert "of the 2 pairs that were given" in (made / "README.md").read_text()


def test_a_checkpoint_scores_before_it_is_exported(tmp_path):
    checkpoint = toy_scorer.checkpoint(tmp_path / "checkpoint")
    preview.speak(checkpoint, tmp_path / "speaks")
    proven, _ = export(checkpoint, ExportConfig(), tmp_path / "judge")
    texts = ["kalo mi", "sané"]
    assert np.array_equal(*(inference.load_scorer(folder).score(texts) for folder in (tmp_path / "speaks", proven)))


@pytest.mark.parametrize(("line", "told"), [
    ("{", "line 2 is no JSON"), ('{"chosen": "a"}', "line 2 has no rejected"), ("[]", "line 2 has no chosen"),
    ('{"chosen": "a", "rejected": ["b"]}', "line 2"), ('{"prompt": [], "chosen": "a", "rejected": "b"}', "line 2"),
    ('{"chosen": "", "rejected": "b"}', "line 2: the text is empty"),
    ('{"chosen": [{"role": "user", "content": "a"}], "rejected": []}', "line 2: this model has no chat template")])
def test_a_wrong_pair_is_named(tmp_path, line, told):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"chosen": "kalo", "rejected": "mi"}\n' + line + "\n")
    with pytest.raises(UserError, match=told):
        export(toy_scorer.checkpoint(tmp_path / "checkpoint"), ExportConfig(pairs=str(path)), tmp_path / "judge")


def test_conversations_go_through_the_chat_template(tmp_path):
    checkpoint = toy_scorer.checkpoint(tmp_path / "checkpoint")
    template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    messages = [{"role": "user", "content": "kalo"}, {"role": "assistant", "content": "mi"}]
    expected = AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(messages)["input_ids"]
    reader = Reader(checkpoint, toy_bundle.CONTEXT, toy_bundle.VOCABULARY)
    assert reader.ids(messages).tolist() == expected


def test_few_pairs_may_have_one_that_falls_otherwise():
    """A share of 0.97 of 16 is 15.52: one of 16 that falls otherwise is no proof of damage, two are."""
    pairs = Pairs([np.array([1])] * 16, [np.array([2])] * 16, "random")
    expected = np.concatenate([np.linspace(1, 2, 16), np.linspace(-2, -1, 16)])[:, None].astype(np.float32)
    for flipped, passes in ((1, True), (2, False)):
        given = expected.copy()
        given[:flipped] = -5
        row = score_cost._against(expected, given, pairs)
        row["score_change"] = 0.0
        from engine.export.precisions import Int8

        assert score_cost._judged(Int8(), row)["passed"] == passes


def test_batches_change_no_score(bundle):
    model = inference.load_scorer(bundle)
    texts = ["kalo " * (1 + n % 7) for n in range(40)]
    together = model.score(texts)
    assert np.allclose(together, np.concatenate([model.score([text]) for text in texts]), atol=1e-5)
    assert model.score([]).shape == (0, 1)
    ids = toy_models.tokens(2, 8).numpy()
    assert model.logits(ids, np.ones_like(ids)).shape == (2, 1)


def test_what_cannot_be_scored_is_said(bundle, tmp_path):
    model = inference.load_scorer(bundle)
    for text, told in (("", "the text is empty"), ("kalo " * 200, "tokens, but the model sees 96 at once"),
                       ([{"role": "user", "content": "kalo"}], "no chat template")):
        with pytest.raises(UserError, match=told):
            model.score([text])
    with pytest.raises(UserError, match="judge scores texts and writes none"):
        inference.load(bundle)
    with pytest.raises(UserError, match="toy writes texts and scores none"):
        inference.load_scorer(toy_bundle.bundle(tmp_path))
