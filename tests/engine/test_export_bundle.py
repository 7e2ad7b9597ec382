"""Bundles: complete, proven and open to other programs, or absent."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
import toy_bundle
import toy_models
import toy_tokens
import yaml
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine import files
from engine.config import UserError
from engine.export import ExportConfig, parity
from engine.export import onnx as graphs
from engine.export.bundle import export
from engine.inference import load
from engine.progress import Stopped
from engine.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")


def front_matter(card):
    return yaml.safe_load(card.split("---")[1])


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def bundle(request, tmp_path_factory):
    return toy_bundle.bundle(tmp_path_factory.mktemp(request.param), request.param)


def test_the_folder_holds_all_that_clients_look_for(bundle):
    manifest = files.read_json(bundle / files.MANIFEST)
    assert {"README.md", "config.json", "generation_config.json", "genai_config.json", "model.safetensors",
            "onnx/model.onnx", "parity.json", "special_tokens_map.json", "tokenizer.json",
            "tokenizer_config.json"} == set(manifest["files"]) == set(manifest["checksums"])
    for name, size in manifest["files"].items():
        assert (bundle / name).stat().st_size == size
        assert files.fingerprint_file(bundle / name) == manifest["checksums"][name]
    assert files.read_json(bundle / "parity.json")["passed"]


def test_transformers_opens_it_and_writes_the_same_text(bundle):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(bundle), AutoTokenizer.from_pretrained(bundle)
    ids = tokenizer("kalo mi sané", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True)
    ours = load(bundle)
    ours.ends = frozenset()
    assert ours.generate("kalo mi sané", max_new_tokens=64, temperature=0) == expected


def test_genai_is_told_the_shapes_of_the_graph(bundle):
    model = files.read_json(bundle / "genai_config.json")["model"]
    path = bundle / model["decoder"]["filename"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {value.name: value.shape for value in session.get_inputs()}
    for layer in range(model["decoder"]["num_hidden_layers"]):
        shape = names[model["decoder"]["inputs"]["past_key_names"] % layer]
        assert shape[1::2] == [model["decoder"]["num_key_value_heads"], model["decoder"]["head_size"]]
    assert model["vocab_size"] == session.get_outputs()[0].shape[-1]
    assert model["context_length"] == toy_bundle.CONTEXT


def test_a_failed_proof_leaves_the_bundle_that_was_there(tmp_path, monkeypatch):
    out = toy_bundle.bundle(tmp_path)
    before = everything(out)
    monkeypatch.setattr(graphs, "HIDDEN", 0.0)
    made, verdict = export(tmp_path / "checkpoint", ExportConfig(), out)
    assert not verdict["passed"]
    assert made == out
    assert everything(out) == before
    _, verdict = export(tmp_path / "checkpoint", ExportConfig(), tmp_path / "new")
    assert not verdict["passed"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "tokenizer.json", "toy"]


def test_a_stop_leaves_nothing_behind(tmp_path):
    def stop(done, of, message=""):
        if "greedy" in message:
            raise Stopped

    with pytest.raises(Stopped):
        export(toy_bundle.checkpoint(tmp_path / "checkpoint"), ExportConfig(), tmp_path / "out" / "toy", stop)
    assert not list((tmp_path / "out").iterdir())


def test_a_new_bundle_replaces_the_old_one_whole(tmp_path):
    old = toy_bundle.bundle(tmp_path)
    (old / "stray").write_text("from the old one")
    before = load(old).generate("kalo", 10, temperature=0)
    new = toy_bundle.bundle(tmp_path, seed=5)
    assert new == old
    assert not (new / "stray").exists()
    assert load(new).generate("kalo", 10, temperature=0) != before


def test_the_card_tells_what_is_known_and_no_more(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint")
    recipe = {"seed": 11, "corpus": {"sources": [{"path": "/home/someone/private/sea|tales.txt"}], "steps": ["clean"]},
              "optim": {"kind": "adamw", "lr": 0.01},
              "train": {"max_steps": 7, "micro_batch_size": 2, "accumulation": 3}}
    facts = {"recipe": recipe, "lineage": {"run": "<script>alert(1)</script>"},
             "evaluation": {"val/perplexity": 12.345678, "tokens": 1234}}
    out, verdict = export(checkpoint, ExportConfig(licence="mit"), tmp_path / "toy", facts=facts)
    card = (out / "README.md").read_text()
    assert front_matter(card)["license"] == "mit"
    for told in (verdict["sentence"], "12.35", "1,234", "adamw (lr 0.01)", f"{7 * 2 * 3 * toy_bundle.CONTEXT:,}",
                 r"sea\|tales.txt", "&lt;script&gt;", "## Limits"):
        assert told.replace("_", r"\_") in card
    assert "<script>" not in card
    assert "/home/someone" not in card
    assert "None" not in card

    bare = (toy_bundle.bundle(tmp_path) / "README.md").read_text()
    assert "license" not in front_matter(bare)
    assert "None was given" in bare
    assert "## Training" not in bare
    assert "## Evaluation" not in bare


@pytest.mark.parametrize("licence", ["Ask me: [no] 'yes'\n---\nevil: 1", "CC BY-SA 4.0"])
def test_a_licence_in_words_stays_inside_its_field(tmp_path, licence):
    out, _ = export(toy_bundle.checkpoint(tmp_path / "checkpoint"), ExportConfig(licence=licence), tmp_path / "toy")
    lines = (out / "README.md").read_text().splitlines()
    head = yaml.safe_load("\n".join(lines[1:lines.index("---", 1)]))
    assert head["license"] == "other"
    assert head["license_name"] == " ".join(licence.split())
    assert "evil" not in head


def test_held_out_text_is_read_when_it_is_of_this_vocabulary(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(parity, "compare", lambda model, path, tolerance, text, progress: seen.append(text) or {
        "passed": False, "sentence": "", "max_difference": None})
    tokens = toy_tokens.tokens(Workspace(tmp_path / "workspace"), train=120, val=20)
    for name, vocabulary in (("fits", 400), ("small", 97)):
        folder = tmp_path / name
        folder.mkdir()
        export(toy_bundle.checkpoint(folder / "checkpoint", vocab_size=vocabulary),
               ExportConfig(held_out_tokens=6 * toy_bundle.CONTEXT), folder / "toy", held_out=tokens)
    export(tmp_path / "fits" / "checkpoint", ExportConfig(), tmp_path / "toy", held_out=tmp_path / "deleted")
    stream, starts = np.fromfile(tokens / "val-00000.bin", np.uint16), np.load(tokens / "val-documents.npy")
    end = files.read_json(tokens / "manifest.json")["summary"]["end_of_text"]
    assert 2 <= len(seen[0].rows) <= 6
    begins = set()
    for row in seen[0].rows:
        assert row[0] == end
        start = next(int(s) for s in starts if np.array_equal(stream[s:s + toy_bundle.CONTEXT - 1], row[1:]))
        assert all(abs(start - other) >= toy_bundle.CONTEXT - 1 for other in begins), "no text counts twice"
        begins.add(start)
    text = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    plain = "".join(text.decode(row[1:].tolist(), skip_special_tokens=True) for row in seen[0].rows)
    assert seen[0].num_bytes == pytest.approx(len(plain.encode()), rel=0.01)
    assert seen[1] is None
    assert seen[2] is None


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint")
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json is missing"):
        export(checkpoint, ExportConfig(), tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_cut_checkpoint_is_refused(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors is cut or damaged"):
        export(checkpoint, ExportConfig(), tmp_path / "toy")


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"has 0 MiB free, and about \d+ MiB are needed"):
        export(checkpoint, ExportConfig(), tmp_path / "toy")


def test_external_weights_are_announced_to_browsers(tmp_path, monkeypatch):
    from engine.export import graph

    monkeypatch.setattr(graph, "EMBED_BYTES", 1000)
    out = toy_bundle.bundle(tmp_path)
    assert json.loads((out / "config.json").read_text())["transformers.js_config"] == {
        "use_external_data_format": {"model.onnx": True}}
    assert "onnx/model.onnx_data" in files.read_json(out / files.MANIFEST)["checksums"]
    model = toy_models.decoder("llama", vocab_size=400, context_length=96)
    ids = np.array([[5, 6, 7]])
    with torch.no_grad():
        assert np.allclose(load(out).logits(ids), model(torch.tensor(ids)).numpy(), atol=1e-4)
