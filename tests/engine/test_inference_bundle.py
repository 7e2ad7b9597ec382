"""Bundles that are damaged, incomplete or up to no good are refused in a sentence that names the file."""

from __future__ import annotations

import os
import shutil

import onnx
import pytest
import toy_bundle

from engine import files
from engine.config import UserError
from engine.export import graph
from engine.inference import load


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return toy_bundle.bundle(tmp_path_factory.mktemp("good"))


@pytest.fixture
def bundle(good, tmp_path):
    return shutil.copytree(good, tmp_path / "toy")


def declare(bundle):
    """Make the manifest agree with the files, as one who forges a bundle would."""
    manifest = files.read_json(bundle / files.MANIFEST)
    names = [str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file() and p.name != files.MANIFEST]
    manifest["files"] = {name: (bundle / name).stat().st_size for name in names}
    manifest["checksums"] = {name: files.fingerprint_file(bundle / name) for name in names}
    files.write_json(bundle / files.MANIFEST, manifest)


def test_a_good_one_opens(bundle):
    load(bundle).generate("kalo", 4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load(bundle)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
def test_a_cut_file_is_named(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-7])
    with pytest.raises(UserError, match=f"{name} has .* bytes, but its manifest says"):
        load(bundle)


def test_a_changed_byte_is_found(bundle):
    path = bundle / "onnx" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"onnx/model\.onnx was changed since it was exported"):
        load(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(bundle):
    (bundle / files.MANIFEST).unlink()
    with pytest.raises(UserError, match="no complete bundle"):
        load(bundle)


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": {}, "checksums": {}}'])
def test_a_broken_manifest_is_told(bundle, content):
    (bundle / files.MANIFEST).write_text(content)
    with pytest.raises(UserError, match="manifest"):
        load(bundle)


def test_a_file_is_no_bundle(bundle):
    for path in (bundle / "README.md", bundle / "nowhere"):
        with pytest.raises(UserError, match="is not a folder"):
            load(path)


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("onnx/model.onnx", b"not a graph", "could not be read by onnxruntime"),
    ("tokenizer.json", b'{"version": "1.0"}', "tokenizer.json is damaged"),
    ("config.json", b"[1]", "config.json holds no settings"),
    ("config.json", b'{"vocab_size": 5}', "does not say how long the model's context is"),
])
def test_files_that_the_manifest_vouches_for_are_still_not_trusted(bundle, name, content, sentence):
    (bundle / name).write_bytes(content)
    declare(bundle)
    with pytest.raises(UserError, match=sentence):
        load(bundle)


def test_a_graph_of_something_else_is_refused(bundle):
    other = graph.Graph("other")
    other.output(other.node("Neg", other.input("x", graph.FLOAT, (1,)), name="y"), graph.FLOAT, (1,))
    other.save(bundle / "onnx" / "model.onnx")
    declare(bundle)
    with pytest.raises(UserError, match="is no decoder with a cache"):
        load(bundle)


def test_a_tokenizer_of_another_model_is_told(tmp_path):
    out = toy_bundle.bundle(tmp_path, vocab_size=300)
    with pytest.raises(UserError, match=r"the model knows 300 tokens; tokenizer\.json is of another model"):
        load(out).generate("lozußa tékanevö saru vövö kaßa " * 2, 4)


def test_a_link_out_of_the_folder_is_not_followed(bundle, tmp_path):
    for name in ("tokenizer.json", "onnx/model.onnx"):
        outside = shutil.copy(bundle / name, tmp_path / "outside")
        (bundle / name).unlink()
        os.symlink(outside, bundle / name)
        with pytest.raises(UserError, match=f"{name} leads out of the bundle's folder"):
            load(bundle)
        (bundle / name).unlink()
        shutil.copy(outside, bundle / name)


@pytest.mark.parametrize("place", ["../../outside", "{outside}", "link"])
def test_weights_outside_the_folder_are_never_read(tmp_path, monkeypatch, place):
    """A graph names the file of its weights; onnxruntime must open none but in the graph's own folder."""
    monkeypatch.setattr(graph, "EMBED_BYTES", 1000)
    bundle = toy_bundle.bundle(tmp_path)
    outside = shutil.copy(bundle / "onnx" / "model.onnx_data", tmp_path / "outside")
    os.symlink(outside, bundle / "onnx" / "link")
    path = bundle / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
        if entry.key == "location":
            entry.value = place.format(outside=outside)
    path.write_bytes(model.SerializeToString())
    declare(bundle)
    with pytest.raises(UserError, match="could not be read by onnxruntime"):
        load(bundle)
